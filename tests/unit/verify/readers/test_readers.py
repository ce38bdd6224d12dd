"""Each reader agrees with Biject, and reports what is planted: a changed tensor, value, name, token, key."""

from __future__ import annotations

import json
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from biject.cli.main import main
from biject.errors import InputError
from biject.model import Model
from biject.pretrained import load
from biject.verify.readers import llama_cpp, servers
from biject.verify.readers.job import Job
from biject.verify.readers.result import Missing, Unreadable, close, same_tensors
from biject.verify.readers.run import READERS, verify_readers
from biject.verify.readers.weights import safetensors
from biject.verify.reference import make_reference


@pytest.fixture(scope="module")
def bert(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_reference("bert", "seqcls", tmp_path_factory.mktemp("bert") / "m")


@pytest.fixture(scope="module")
def llama(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_reference("llama", "causal", tmp_path_factory.mktemp("llama") / "m")


def job(folder: Path, work: Path, **more: Any) -> Job:
    return Job(folder=folder, model=load(folder, dtype=torch.float32), work=work, **more)


@contextmanager
def one_value_more(model: Model) -> Iterator[None]:
    """The fault: one value of one tensor is the next number."""
    parameter = next(model.parameters())
    before = parameter.detach().clone()
    with torch.no_grad():
        parameter.view(-1)[7] = parameter.view(-1)[7].nextafter(torch.tensor(1e9))
    yield
    with torch.no_grad():
        parameter.copy_(before)


def test_safetensors(bert: Path, tmp_path: Path) -> None:
    given = job(bert, tmp_path)
    found = safetensors(given)
    assert (found.status, found.max_abs_diff) == ("pass", 0.0)
    with one_value_more(given.model):
        found = safetensors(given)
    assert (found.status, found.detail) == ("fail", "bert.embeddings.word_embeddings.weight differs")


@pytest.mark.slow
@pytest.mark.parametrize("name", ["onnxruntime", "onnxruntime-hf"])
def test_onnxruntime(name: str, bert: Path, tmp_path: Path) -> None:
    given = job(bert, tmp_path)
    assert READERS[name](given).status == "pass"
    if name == "onnxruntime-hf":  # the other one exports the model that it compares with
        with torch.no_grad():
            next(given.model.parameters()).mul_(1.01)
        found = READERS[name](given)
        assert (found.status, (found.max_abs_diff or 0) > 1e-4) == ("fail", True)


@pytest.mark.slow
def test_sentence_transformers(tmp_path: Path) -> None:
    folder = make_reference("bert", "base", tmp_path / "m")
    types = ("Transformer", "Pooling")
    modules = [
        {
            "idx": i,
            "name": str(i),
            "path": ("", "1_Pooling")[i],
            "type": f"sentence_transformers.models.{name}",
        }
        for i, name in enumerate(types)
    ]
    (folder / "modules.json").write_text(json.dumps(modules))
    (folder / "1_Pooling").mkdir()
    pooling = {
        "word_embedding_dimension": 32,
        "pooling_mode_mean_tokens": True,
        "pooling_mode_cls_token": False,
    }
    (folder / "1_Pooling" / "config.json").write_text(json.dumps(pooling))
    (folder / "sentence_bert_config.json").write_text(
        json.dumps({"max_seq_length": 32, "do_lower_case": False})
    )
    given = job(folder, tmp_path)
    assert READERS["sentence-transformers"](given).status == "pass"
    with torch.no_grad():
        next(given.model.parameters()).mul_(1.01)
    assert READERS["sentence-transformers"](given).status == "fail"


def write_gguf(model: Model, path: Path, *, fault: bool = False) -> None:
    """A file as the converter writes it: q and k with rotary pairs interleaved, names of its own."""
    from gguf import GGUFWriter

    path.parent.mkdir(exist_ok=True)
    writer = GGUFWriter(path, "llama")
    for number, (name, parameter) in enumerate(model.named_parameters()):
        array = parameter.detach().numpy()
        if name.endswith(("q_proj.weight", "k_proj.weight")):
            heads = model.config.layers[0].attention.spec.num_heads
            heads = (
                heads
                if name.endswith("q_proj.weight")
                else array.shape[0] // (model.config.hidden_size // heads)
            )
            array = array.reshape(heads, 2, -1, array.shape[1]).swapaxes(1, 2).reshape(array.shape)
        array = np.ascontiguousarray(array).copy()
        array.reshape(-1)[3] += 0.5 if fault and name.endswith("layers.0.attn.k_proj.weight") else 0.0
        writer.add_tensor(f"t{number}.weight", array)
    for write in (writer.write_header_to_file, writer.write_kv_data_to_file, writer.write_tensors_to_file):
        write()
    writer.close()


@pytest.mark.parametrize("fault", [False, True])
def test_gguf(fault: bool, llama: Path, tmp_path: Path) -> None:
    given = job(llama, tmp_path)
    write_gguf(given.model, tmp_path / "gguf" / "model.gguf", fault=fault)
    found = READERS["gguf"](given)
    assert found.status == ("fail" if fault else "pass"), found
    if fault:
        assert found.detail.startswith("1 are none of ours: t")


def answers(model: Model, prompts: list[list[int]], *, fault: str) -> list[dict[str, float]]:
    """What an engine would say that computes as we do, but for a fault."""
    rows = []
    for ids in prompts:
        with torch.no_grad():
            scores = model(input_ids=torch.tensor([ids])).logits[0, -1].log_softmax(-1)
        values, tokens = scores.topk(5)
        order = [1, 0, 2, 3, 4] if fault == "token" else range(5)
        more = 0.3 if fault == "value" else 0.0
        rows.append({str(int(tokens[i])): float(values[i]) + more for i in order})
    return rows


@pytest.mark.parametrize(
    "fault, words", [("", ""), ("value", "max abs diff 0.3"), ("token", "likeliest token is")]
)
def test_llama_cpp(
    fault: str, words: str, llama: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    given = job(llama, tmp_path)
    monkeypatch.setattr(llama_cpp, "_converted", lambda _: tmp_path)
    monkeypatch.setattr(
        llama_cpp, "_ask", lambda job, asked: answers(job.model, asked["prompts"], fault=fault)
    )
    found = llama_cpp.engine(given)
    assert found.status == ("fail" if fault else "pass"), found
    assert words in found.detail


REGISTRY = """
_TEXT_GENERATION_MODELS = {"LlamaForCausalLM": ("llama", "LlamaForCausalLM")}
_EMBEDDING_MODELS = {"BertModel": ("bert", "B"), **{k: v for k, v in _TEXT_GENERATION_MODELS.items()}}
_PREVIOUSLY_SUPPORTED_MODELS = {"BertForSequenceClassification": "0.1"}
"""


def write_wheel(folder: Path) -> Path:
    path = folder / "vllm-9.9-py3-none-any.whl"
    with zipfile.ZipFile(path, "w") as wheel:
        wheel.writestr(
            "vllm/model_executor/models/registry.py", REGISTRY + "raise SystemExit('it was run')\n"
        )
    return path


def test_vllm_reads_its_list_and_runs_nothing(bert: Path, llama: Path, tmp_path: Path) -> None:
    wheel = write_wheel(tmp_path)
    assert servers.architectures(REGISTRY) == {"LlamaForCausalLM", "BertModel"}
    assert servers.vllm(job(llama, tmp_path, vllm=wheel)).status == "pass"
    with pytest.raises(Unreadable, match="has no BertForSequenceClassification"):
        servers.vllm(job(bert, tmp_path, vllm=wheel))
    with pytest.raises(Missing, match="--vllm WHEEL"):
        servers.vllm(job(llama, tmp_path))


def test_text_embeddings_inference(bert: Path, llama: Path, tmp_path: Path) -> None:
    assert servers.text_embeddings_inference(job(bert, tmp_path)).status == "pass"
    with pytest.raises(Unreadable):
        servers.text_embeddings_inference(job(llama, tmp_path))
    export = tmp_path / "export"
    load(bert).save_pretrained(export)
    (export / "tokenizer.json").unlink()
    config = json.loads((export / "config.json").read_text())
    del config["layer_norm_eps"]
    (export / "config.json").write_text(json.dumps(config))
    found = servers.text_embeddings_inference(job(export, tmp_path))
    assert found.status == "fail"
    assert found.detail == "config.json has no layer_norm_eps; there is no tokenizer.json"


def test_names_and_bytes() -> None:
    one = {"a": torch.ones(2), "b": torch.zeros(1)}
    assert same_tensors("r", one, dict(one), "w").status == "pass"
    for other, words in (
        ({"a": torch.ones(2)}, "b is missing"),
        ({**one, "c": torch.ones(1)}, "c is new"),
        ({**one, "a": torch.ones(2, dtype=torch.float64)}, "a differs"),
        ({**one, "b": torch.tensor([-0.0])}, "b differs"),
    ):
        found = same_tensors("r", one, other, "w")
        assert (found.status, found.detail) == ("fail", words)
    assert same_tensors("r", {}, {}, "w").status == "fail"


def test_numbers() -> None:
    one = {"x": torch.tensor([1.0, 100.0])}
    assert close("r", one, {"x": torch.tensor([1.0005, 100.0])}, bound=1e-5, what="w").status == "pass"
    for other in (
        {"x": torch.tensor([1.01, 100.0])},
        {"x": torch.tensor([float("nan"), 100.0])},
        {},
        {"x": torch.ones(1)},
    ):
        assert close("r", one, other, bound=1e-5, what="w").status == "fail"
    assert close("r", {}, {}, bound=1e-5, what="w").status == "fail"


def test_a_reader_that_breaks_differs_and_the_next_one_runs(
    bert: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setitem(READERS, "gguf", lambda _: 1 / 0)
    assert (
        main(["verify-readers", str(bert), "--readers", "gguf,safetensors,llama.cpp,sentence-transformers"])
        == 1
    )
    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[0] for line in lines] == ["FAIL", "PASS", "SKIP", "N/A", "VERDICT"]
    assert "ZeroDivisionError" in lines[0]
    assert lines[-1].startswith("VERDICT FAIL")


def test_the_command(bert: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["verify-readers", str(bert), "--readers", "safetensors", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert (found["passed"], found["readings"][0]["status"]) == (True, "pass")
    assert main(["verify-readers", str(bert), "--readers", "word"]) == 2
    assert "no reader word" in capsys.readouterr().err
    assert main(["verify-readers", str(bert), "--vllm", "gone.whl"]) == 2
    assert "no file gone.whl" in capsys.readouterr().err


def test_nobody_who_read_it_is_not_passed(bert: Path) -> None:
    assert not verify_readers(bert, readers=["llama.cpp"]).passed
    with pytest.raises(InputError):
        verify_readers(bert, readers=["safetensor"])
