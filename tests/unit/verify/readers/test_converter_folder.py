"""llama.cpp's converter sees weights, vocabularies and settings, and nothing that it could run."""

from __future__ import annotations

import json
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest

from biject.pretrained import load
from biject.verify.readers import llama_cpp
from biject.verify.readers.converter_folder import without_code
from biject.verify.readers.job import Job
from biject.verify.readers.result import Unreadable
from biject.verify.reference import make_reference

pytestmark = pytest.mark.attack("code in a checked folder")
MAP = {"AutoTokenizer": ["evil.Evil", None], "AutoConfig": "somebody/evil--evil.Evil"}


@pytest.fixture
def good(tmp_path: Path) -> Path:
    return make_reference("bert", "base", tmp_path / "good")


@pytest.fixture
def hostile(good: Path, tmp_path: Path) -> Path:
    folder = shutil.copytree(good, tmp_path / "hostile")
    for name in ("config.json", "tokenizer_config.json"):
        value = json.loads((folder / name).read_text())
        more = {"auto_map": MAP, "architectures": ["HunYuanMoEV1ForCausalLM"], "deeper": [{"auto_map": MAP}]}
        (folder / name).write_text(json.dumps({**value, **more}).replace("auto_map", "auto\\u005fmap", 1))
    (folder / "evil.py").write_text("raise SystemExit(3)\n")
    (folder / "1_Pooling").mkdir()
    (folder / "1_Pooling" / "config.json").write_text('{"pooling_mode_mean_tokens": true, "auto_map": {}}')
    (folder / "1_Pooling" / "evil.py").write_text("raise SystemExit(3)\n")
    (folder / "modules.json").write_text('[{"path": "1_Pooling", "auto_map": {}}]')
    (folder / "adapter.json").write_text('{"auto_map": ')
    return folder


def test_what_the_converter_is_shown(
    good: Path, hostile: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: dict[str, bytes] = {}

    def convert(command: list[str], **_: Any) -> subprocess.CompletedProcess[str]:
        shown = Path(command[-1])
        seen.update({str(p.relative_to(shown)): p.read_bytes() for p in shown.rglob("*") if p.is_file()})
        return subprocess.CompletedProcess(command, 1, "", "it does not take it")

    monkeypatch.setattr(llama_cpp, "llama_python", lambda _: tmp_path / "bin" / "python")
    monkeypatch.setattr(llama_cpp.subprocess, "run", convert)
    (tmp_path / "work").mkdir()
    job = Job(folder=hostile, model=load(good), work=tmp_path / "work", llama_cpp=True)
    for _ in range(2):  # each reader of the file asks for it
        with pytest.raises(Unreadable, match="does not take it"):
            llama_cpp._converted(job)
    assert [name for name in seen if name.endswith(".py")] == []
    assert "adapter.json" not in seen
    parsed = {name: json.loads(data) for name, data in seen.items() if name.endswith(".json")}
    assert all(without_code(value) == value for value in parsed.values())
    assert parsed["config.json"]["architectures"] == ["BertModel"]
    assert parsed["config.json"]["hidden_size"] == job.config["hidden_size"]
    assert parsed["modules.json"] == [{"path": "1_Pooling"}]
    assert parsed["1_Pooling/config.json"] == {"pooling_mode_mean_tokens": True}
    for name in ("model.safetensors", "tokenizer.json"):
        assert seen[name] == (hostile / name).read_bytes()
    assert list((tmp_path / "work").glob("converted-*")) == []
