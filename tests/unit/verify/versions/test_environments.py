"""Environments of releases: made off-line from a wheel, kept, made anew when broken; errors."""

from __future__ import annotations

import subprocess
import zipfile
from pathlib import Path

import pytest

from biject.cli.main import main
from biject.errors import InputError
from biject.verify.versions import environments
from biject.verify.versions.environments import check_release, environment
from biject.verify.versions.exchange import ask
from biject.verify.versions.pip_errors import explained

NOT_FOUND = "ERROR: Could not find a version that satisfies the requirement transformers==9.9"


def write_wheel(folder: Path, code: str, *, version: str = "77.0") -> Path:
    """A wheel of a package called transformers that holds only `code`."""
    path = folder / f"transformers-{version}-py3-none-any.whl"
    about = f"transformers-{version}.dist-info"
    with zipfile.ZipFile(path, "w") as wheel:
        wheel.writestr("transformers/__init__.py", code)
        wheel.writestr(
            f"{about}/METADATA", f"Metadata-Version: 2.1\nName: transformers\nVersion: {version}\n"
        )
        wheel.writestr(f"{about}/WHEEL", "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n")
        wheel.writestr(f"{about}/RECORD", "")
    return path


@pytest.fixture
def offline(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PIP_NO_INDEX", "1")


@pytest.mark.usefixtures("offline")
def test_an_environment_is_made_kept_and_made_anew(tmp_path: Path) -> None:
    wheel = write_wheel(tmp_path, "raise SystemExit('planted: this release does not start')")
    made = environment(str(wheel), folder=tmp_path / "envs")
    assert (made.version, made.made) == ("77.0", True)
    assert not environment(str(wheel), folder=tmp_path / "envs").made
    code = "import torch, sys; print(torch.__version__, 'biject' in sys.modules)"
    done = subprocess.run([made.python, "-I", "-c", code], capture_output=True, text=True, check=True)
    import torch

    assert done.stdout.split() == [str(torch.__version__), "False"]
    for name in ("biject", "peft", "cyclopts"):  # what is ours is not lent
        found = subprocess.run([made.python, "-I", "-c", f"import {name}"], capture_output=True, check=False)
        assert found.returncode == 1, name
    with pytest.raises(InputError, match=r"77\.0 does not start with torch .*planted: this release"):
        ask(made, [], tmp_path / "files", on_done=lambda _: None)
    made.python.unlink()
    assert environment(str(wheel), folder=tmp_path / "envs").made
    assert [path.name for path in (tmp_path / "envs").iterdir()] == [made.python.parents[1].name]


@pytest.mark.usefixtures("offline")
def test_a_torch_of_its_own_is_never_installed(tmp_path: Path) -> None:
    wheel = write_wheel(tmp_path, "")
    with zipfile.ZipFile(wheel, "a") as more:
        more.writestr("torch/__init__.py", "")
    with pytest.raises(InputError, match="a torch beside transformers"):
        environment(str(wheel), folder=tmp_path / "envs")
    assert list((tmp_path / "envs").iterdir()) == []


@pytest.mark.parametrize(
    "text", ["", "newest", "--index-url=x", "git+https://x", "5", "5.0;x", "../5.0", "gone.whl"]
)
def test_what_is_no_release_is_refused_before_anything_runs(
    text: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(environments, "_pip", lambda *_: pytest.fail("pip was run"))
    with pytest.raises(InputError, match="none of them"):
        environment(text)


@pytest.mark.parametrize("text", ["4.57.6", "5.0", "5.24.0rc1", "installed"])
def test_releases(text: str) -> None:
    check_release(text)


@pytest.mark.parametrize(
    "output, words",
    [
        (f"{NOT_FOUND} (from versions: 5.22.0, 5.23.0)", "newest that pip finds are 5.22.0, 5.23.0"),
        (f"{NOT_FOUND} (from versions: none)", "reached no package index"),
        ("WARNING: Retrying after connection broken by 'NewConnectionError'", "reached no package index"),
        ("/usr/bin/python: No module named pip", "ensurepip"),
        ("transformers 4.57.6 depends on x<1\nERROR: ResolutionImpossible: conflict", "depends on x<1"),
        ("OSError: [Errno 28] No space left on device", "No space left"),
    ],
)  # fmt: skip
def test_what_pip_says_in_words_that_help(output: str, words: str) -> None:
    assert words in explained(output, "9.9")


def test_the_command_says_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    done = subprocess.CompletedProcess([], 1, "", "(from versions: 5.22.0, 5.23.0)")
    monkeypatch.setattr(environments, "_pip", lambda *_: done)
    command = ["verify-matrix", "--transformers", "9.9.9", "--families", "bert", "--env-dir", str(tmp_path)]
    assert main(command) == 2
    assert "there is no such release; the newest that pip finds are 5.22.0, 5.23.0" in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    "flags, words",
    [
        (["--transformers", "5.0", "--weights", "base"], "`tiny` weights"),
        (["--env-dir", "x"], "need --transformers"),
        (["--transformers", "5.0,5.0"], "twice"),
        (["--transformers", "newest"], "none of them"),
        (["--transformers", "5.0", "--constraints", "gone.txt"], "no file gone.txt"),
    ],
)
def test_wrong_usage(flags: list[str], words: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["verify-matrix", *flags]) == 2
    assert words in capsys.readouterr().err
