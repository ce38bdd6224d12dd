"""More tokens: the same rows as HF's from the same seed, a folder that HF loads with nothing missing."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from biject.checkpoint.source import open_source
from biject.errors import ConfigError, InputError
from biject.families import family, text_families
from biject.pretrained import load
from biject.tokenization.fit import check_fits
from biject.tokenization.tokenizer import load_tokenizer
from biject.verify.hf import load_hf
from parity.harness import language_head

MLM = sorted(text_families())


def hf(folder: Path) -> Any:
    """HF's model, and nothing that it missed or did not know."""
    config = json.loads((folder / "config.json").read_text())
    attention = family(config["model_type"]).attention
    loaded = load_hf(
        open_source(folder), class_name=config["architectures"][0], attention=attention, dtype=torch.float32
    )
    assert (loaded.missing, loaded.unexpected, loaded.mismatched) == ((), (), ())
    return loaded.model


@pytest.mark.parametrize("mean_resizing", [True, False])
@pytest.mark.parametrize("model_type", MLM)
def test_rows_are_those_of_hf(
    model_type: str, mean_resizing: bool, reference: Callable[..., Path], tmp_path: Path
) -> None:
    folder = reference(model_type, language_head(model_type))
    ours, theirs = load(folder), hf(folder)
    old = ours.embed.tokens.num_embeddings
    torch.manual_seed(3)
    ours.resize_token_embeddings(old + 5, mean_resizing=mean_resizing)
    torch.manual_seed(3)
    theirs.resize_token_embeddings(old + 5, mean_resizing=mean_resizing)
    assert torch.equal(ours.embed.tokens.weight, theirs.get_input_embeddings().weight)
    ids = torch.tensor([[old + 4, 3, old, 5]])
    mine = ours(input_ids=ids).logits
    assert mine.shape == (1, 4, old + 5)
    assert torch.equal(mine, theirs(input_ids=ids).logits)

    ours.save_pretrained(tmp_path / "out")
    again = hf(tmp_path / "out")
    assert again.config.vocab_size == old + 5
    assert torch.equal(again(input_ids=ids).logits, mine)
    assert torch.equal(load(tmp_path / "out")(input_ids=ids).logits, mine)


@pytest.mark.parametrize("head", ["base", "seqcls"])
def test_without_an_output_matrix(head: str, reference: Callable[..., Path], tmp_path: Path) -> None:
    model = load(reference("bert", head))
    model.resize_token_embeddings(100, pad_to_multiple_of=64)
    model.save_pretrained(tmp_path / "out")
    assert hf(tmp_path / "out").get_input_embeddings().weight.shape[0] == 128
    changed = json.loads((tmp_path / "out" / "config.json").read_text())
    original = dict(model.source.config)
    assert changed == original | {"vocab_size": 128}


def test_fewer_tokens(reference: Callable[..., Path], tmp_path: Path) -> None:
    model = load(reference("albert", "mlm"))
    before = model.embed.tokens.weight.clone()
    model.resize_token_embeddings(50)
    assert torch.equal(model.embed.tokens.weight, before[:50])
    model.save_pretrained(tmp_path / "out")
    assert hf(tmp_path / "out").get_output_embeddings().weight.shape[0] == 50
    with pytest.raises(InputError, match="at least"):
        model.resize_token_embeddings(0)


def test_untied_output(reference: Callable[..., Path], tmp_path: Path) -> None:
    folder = reference("bert", "mlm", overrides={"tie_word_embeddings": False})
    model, theirs = load(folder), hf(folder)
    assert model.head.decoder.weight is not None
    for each in (model, theirs):
        torch.manual_seed(5)
        each.resize_token_embeddings(120)
    ids = torch.tensor([[119, 100, 3]])
    mine = model(input_ids=ids).logits
    assert torch.equal(mine, theirs(input_ids=ids).logits)
    model.save_pretrained(tmp_path / "out")
    assert torch.equal(hf(tmp_path / "out")(input_ids=ids).logits, mine)


def test_what_is_carried_follows(reference: Callable[..., Path], tmp_path: Path) -> None:
    """A classifier that carries an MLM head: the head still loads, its output still the token table."""
    folder = reference("bert", "mlm")
    config = json.loads((folder / "config.json").read_text())
    tensors = load_file(folder / "model.safetensors")
    tensors["cls.predictions.decoder.weight"] = tensors["bert.embeddings.word_embeddings.weight"].clone()
    tensors |= {"classifier.weight": torch.randn(2, config["hidden_size"]), "classifier.bias": torch.randn(2)}
    tensors |= {"bert.pooler.dense.weight": torch.eye(config["hidden_size"])}
    tensors |= {"bert.pooler.dense.bias": torch.zeros(config["hidden_size"])}
    save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})
    config["architectures"] = ["BertForSequenceClassification"]
    (folder / "config.json").write_text(json.dumps(config))
    model = load(folder)
    assert "cls.predictions.bias" in model.provenance.plan.passthrough
    model.resize_token_embeddings(120)
    model.save_pretrained(tmp_path / "out")
    again = load(tmp_path / "out", head="mlm")
    assert again.provenance.plan.tied_output
    assert again(input_ids=torch.tensor([[119]])).logits.shape == (1, 1, 120)


def test_with_a_tokenizer(reference: Callable[..., Path], tmp_path: Path) -> None:
    from transformers import AutoTokenizer

    folder = reference("bert", "mlm")
    tokenizer, model = load_tokenizer(folder), load(folder)
    size = model.embed.tokens.num_embeddings
    model.resize_token_embeddings(tokenizer)
    assert model.embed.tokens.num_embeddings == size  # there is room
    new = [f"<new {index}>" for index in range(size + 3 - len(tokenizer))]
    tokenizer.add_tokens(new)
    with pytest.raises(ConfigError, match="have none"):
        check_fits(tokenizer, model.hf_config)
    model.resize_token_embeddings(tokenizer)
    assert model.embed.tokens.num_embeddings == size + 3
    check_fits(tokenizer, model.hf_config)
    model.save_pretrained(tmp_path / "out")
    hf(tmp_path / "out")
    text = "the quick <new 1> fox<new 2> jumps"
    theirs = AutoTokenizer.from_pretrained(tmp_path / "out")
    ids = tokenizer([text]).input_ids
    assert tokenizer.convert_tokens_to_ids("<new 2>") in ids[0]
    assert theirs([text])["input_ids"] == ids == load_tokenizer(tmp_path / "out")([text]).input_ids
    logits = model(**tokenizer([text]).tensors()).logits
    again = load(tmp_path / "out")
    assert torch.equal(again(**tokenizer([text]).tensors()).logits, logits)


def test_nothing_changed_is_saved_as_it_came(reference: Callable[..., Path], tmp_path: Path) -> None:
    folder = reference("bert", "mlm")
    model, tokenizer = load(folder), load_tokenizer(folder)
    model.resize_token_embeddings(model.embed.tokens.num_embeddings)
    model.save_pretrained(tmp_path / "out", tokenizer=tokenizer)
    for path in folder.iterdir():
        assert (tmp_path / "out" / path.name).read_bytes() == path.read_bytes()
