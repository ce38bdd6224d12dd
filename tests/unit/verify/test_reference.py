from __future__ import annotations

import hashlib
import json
from pathlib import Path

import pytest
import torch

from biject.checkpoint.reader import Reader
from biject.checkpoint.source import open_source
from biject.families import text_families
from biject.verify.hf import quiet
from biject.verify.reference import make_reference, reference_config


@pytest.mark.parametrize("model_type", text_families())
def test_no_parameter_is_left_as_it_was_initialised(model_type: str, tmp_path: Path) -> None:
    head = "mlm" if "mlm" in text_families()[model_type].heads else "causal"
    source = open_source(make_reference(model_type, head, tmp_path / "m"))
    reader = Reader(source)
    for name in source.tensors:
        values = reader.tensor(name)
        assert not bool(((values == 0) | (values == 1)).any()), name
        assert float(values.std()) > 0.01, name


def test_the_same_bytes_every_time_and_others_with_another_seed(tmp_path: Path) -> None:
    folders = [
        make_reference("albert", "qa", tmp_path / str(i), seed=seed) for i, seed in enumerate((0, 0, 1))
    ]
    sums = [hashlib.sha256((folder / "model.safetensors").read_bytes()).hexdigest() for folder in folders]
    assert sums[0] == sums[1] != sums[2]


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float64])
def test_dtype(dtype: torch.dtype, tmp_path: Path) -> None:
    folder = make_reference("bert", "base", tmp_path / "m", dtype=dtype)
    assert json.loads((folder / "config.json").read_text())["dtype"] == str(dtype).removeprefix("torch.")
    code = {torch.bfloat16: "BF16", torch.float16: "F16", torch.float64: "F64"}[dtype]
    assert {info.dtype for info in open_source(folder).tensors.values()} == {code}


@pytest.mark.parametrize("model_type", text_families())
def test_the_tokenizer_is_real(model_type: str, tmp_path: Path) -> None:
    from transformers import AutoTokenizer

    folder = make_reference(model_type, "base", tmp_path / "m")
    config = json.loads((folder / "config.json").read_text())
    with quiet():
        tokenizer = AutoTokenizer.from_pretrained(folder)
        ids = tokenizer("the quick brown fox , paris")["input_ids"]
    assert tokenizer.pad_token_id == config["pad_token_id"]
    assert tokenizer.unk_token_id not in ids
    assert len(tokenizer) <= config["vocab_size"]
    if "causal" in text_families()[model_type].heads:
        with quiet():
            assert tokenizer.decode(ids) == "the quick brown fox , paris"
        assert config["bos_token_id"] == tokenizer.bos_token_id
        assert config["eos_token_id"] == tokenizer.eos_token_id
        return
    assert ids[0] == tokenizer.cls_token_id
    assert ids[-1] == tokenizer.sep_token_id
    for key, token in (("bos_token_id", "cls_token_id"), ("eos_token_id", "sep_token_id")):
        assert config.get(key) in (None, getattr(tokenizer, token))


def test_sizes() -> None:
    assert reference_config("bert", size="base")["hidden_size"] == 768
    assert reference_config("bert", overrides={"hidden_size": 48})["hidden_size"] == 48
    with pytest.raises(ValueError, match="tiny"):
        reference_config("bert", size="huge")
