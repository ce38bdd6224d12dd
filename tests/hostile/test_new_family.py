"""`biject new-family` writes a file from a folder and runs it: nothing of the folder runs."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from biject.cli.main import main
from biject.errors import ConfigError
from biject.newfamily.gates import load_family
from hostile.strangers import exit_codes, shapes, stranger

pytestmark = pytest.mark.attack("code in a checked folder")


def test_no_code_runs(tmp_path: Path) -> None:
    canary = tmp_path / "canary"
    plain = f"__import__('pathlib').Path({str(canary)!r}).touch()"
    double = f'"+str({plain})+"'
    rope = {"full_attention": {"rope_theta": f"str({plain})"}}
    ways: list[tuple[Mapping[str, Any], Mapping[str, tuple[int, ...]]]] = [
        ({"architectures": [f"A{double}ForCausalLM"]}, shapes()),
        ({"rope_parameters": rope, "layer_types": ["full_attention"] * 2}, shapes()),
        ({}, {name.replace("blocks", f"blocks{{{plain}}}"): shape for name, shape in shapes().items()}),
        ({}, {name.replace("1.attn.wq", f"1.attn.wq{{{plain}}}"): s for name, s in shapes().items()}),
        ({}, shapes(**{f"net.odd{double}": (3,)})),
        ({f'"""\n{plain}\n"""': 1}, shapes()),
        ({}, shapes(**{f'net.odd"""\n{plain}\n"""': (3,)})),
    ]
    given = []
    for number, (config, tensors) in enumerate(ways):
        stranger(tmp_path / str(number), config, tensors)
        file = tmp_path / f"draft{number}.py"
        given.append(["new-family", str(tmp_path / str(number)), "--file", str(file)])
    codes = exit_codes(given, cwd=tmp_path)
    assert not canary.exists()
    assert set(codes) <= {1, 2}


@pytest.mark.parametrize("inside", ["", "deeper"])
def test_a_file_beside_the_weights_is_not_run(
    inside: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """The file by default is `MODEL_TYPE.py` where one stands; that may be in the checkpoint's folder."""
    folder, canary = tmp_path / "folder", tmp_path / "canary"
    stranger(folder)
    here = folder / inside
    here.mkdir(exist_ok=True)
    (here / "stranger.py").write_text(f"FAMILY = open({str(canary)!r}, 'w')\n")
    monkeypatch.chdir(here)
    assert main(["new-family", os.path.relpath(folder, here)]) == 2
    assert not canary.exists()
    assert "--file" in capsys.readouterr().err


def test_a_script_that_is_no_family_is_not_run(tmp_path: Path) -> None:
    """`model_type` is the folder's word: it must not choose which of a user's scripts is run."""
    canary, script = tmp_path / "canary", tmp_path / "deploy.py"
    script.write_text(f"'FAMILY'\nopen({str(canary)!r}, 'w')\n")
    with pytest.raises(ConfigError, match="should define FAMILY"):
        load_family(script)
    assert not canary.exists()
