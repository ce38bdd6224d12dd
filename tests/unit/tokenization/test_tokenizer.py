"""Tokenizers: what callers may ask, and one clear error for what cannot be built or asked."""

from __future__ import annotations

import contextlib
import json
import struct
from pathlib import Path
from typing import Any

import pytest
import torch

from biject.errors import BijectError, BijectWarning, CheckpointError, ConfigError, InputError
from biject.tokenization.files import MissingTokenizerError
from biject.tokenization.fit import check_fits, oddities
from biject.tokenization.spm import read_model
from biject.tokenization.tokenizer import Tokenizer, load_tokenizer

WORDS = ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "the", "quick", "brown", "##er", "fox")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "config.json").write_text('{"model_type": "bert"}')
    (tmp_path / "vocab.txt").write_text("\n".join(WORDS) + "\n")
    return tmp_path


@pytest.fixture
def tokenizer(folder: Path) -> Tokenizer:
    return load_tokenizer(folder)


def settings(folder: Path, **values: Any) -> Path:
    (folder / "tokenizer_config.json").write_text(json.dumps(values))
    return folder


def test_rows_and_what_belongs_to_them(tokenizer: Tokenizer) -> None:
    one = tokenizer("the quicker fox", "the fox")
    assert len(one) == 1
    assert one.tokens == [["[CLS]", "the", "quick", "##er", "fox", "[SEP]", "the", "fox", "[SEP]"]]
    assert one.token_type_ids == [[0, 0, 0, 0, 0, 0, 1, 1, 1]]
    assert one.word_ids == [[None, 0, 1, 1, 2, None, 0, 1, None]]
    assert one.sequence_ids == [[None, 0, 0, 0, 0, None, 1, 1, None]]
    assert one.offsets[0][2:4] == [(4, 9), (9, 11)]
    assert one.special_tokens_mask == [[1, 0, 0, 0, 0, 1, 0, 0, 1]]
    batch = tokenizer(["the", "the quick brown fox"], padding=True).tensors()
    assert batch["input_ids"].shape == (2, 6)
    assert batch["attention_mask"].sum() == 9
    assert set(batch) == {"input_ids", "attention_mask", "token_type_ids"}
    assert batch["input_ids"].dtype == torch.long
    assert len(tokenizer([])) == 0


def test_cut_texts_give_further_rows(tokenizer: Tokenizer) -> None:
    cut = tokenizer(
        ["the quick brown fox", "fox"], truncation=True, max_length=4, stride=1, return_overflowing=True
    )
    assert cut.overflow_to_sample == [0, 0, 0, 1]
    assert [row[1:-1] for row in cut.tokens] == [
        ["the", "quick"],
        ["quick", "brown"],
        ["brown", "fox"],
        ["fox"],
    ]


def test_special_tokens_by_role(tokenizer: Tokenizer) -> None:
    assert (tokenizer.mask_token, tokenizer.mask_token_id) == ("[MASK]", 4)
    assert (tokenizer.bos_token, tokenizer.bos_token_id) == (None, None)
    assert tokenizer.special_tokens["cls_token"] == "[CLS]"
    assert tokenizer.convert_tokens_to_ids(["fox", "cat"]) == [9, 1]
    assert tokenizer.convert_ids_to_tokens([9, 1000]) == ["fox", None]
    assert len(tokenizer) == len(WORDS)
    assert tokenizer.kind == "WordPiece"


@pytest.mark.parametrize(
    "arguments",
    [
        {"truncation": "sometimes"},
        {"padding": "left"},
        {"pairs": ["one"]},
        {"truncation": "only_second", "max_length": 3},
        {"truncation": True, "max_length": -1},
    ],
)
def test_arguments_that_do_not_fit(tokenizer: Tokenizer, arguments: dict[str, Any]) -> None:
    with pytest.raises(InputError):
        tokenizer(["the quick fox", "fox"], **arguments)


@pytest.mark.parametrize("texts", [[1], [None], ["\ud800"]])
def test_texts_that_are_none(tokenizer: Tokenizer, texts: list[Any]) -> None:
    with pytest.raises(InputError, match="cannot be tokenized"):
        tokenizer(texts)


def test_rows_of_several_lengths_are_no_tensor(tokenizer: Tokenizer) -> None:
    with pytest.raises(InputError, match="padding=True"):
        tokenizer(["the", "the fox"]).tensors()


def test_padding_needs_a_token(folder: Path) -> None:
    with pytest.raises(InputError, match="pad_token"):
        load_tokenizer(settings(folder, pad_token=None))(["the"], padding=True)


def test_a_copied_file_that_is_a_link_out_of_the_folder_is_told(folder: Path, tmp_path: Path) -> None:
    """Nobody has looked into it: the vocabulary is another file."""
    inner = tmp_path / "inner"
    inner.mkdir()
    for path in (folder / "config.json", folder / "vocab.txt"):
        path.rename(inner / path.name)
    (tmp_path / "secret").write_text("secret")
    (inner / "merges.txt").symlink_to(tmp_path / "secret")
    with pytest.warns(BijectWarning, match=r"'merges.txt' in .* is a link to .*secret', outside"):
        load_tokenizer(inner).save(tmp_path / "saved")


def test_no_role_of_that_name(tokenizer: Tokenizer) -> None:
    with pytest.raises(InputError, match="no role colour_token"):
        tokenizer.add_special_tokens({"colour_token": "red"})


def test_what_is_expected_is_named(folder: Path) -> None:
    (folder / "vocab.txt").unlink()
    with pytest.raises(MissingTokenizerError, match=r"tokenizer\.json or vocab\.txt.*no vocabulary at all"):
        load_tokenizer(folder)
    with pytest.raises(CheckpointError, match="is no folder"):
        load_tokenizer(folder / "elsewhere")


@pytest.mark.parametrize(
    "values",
    [
        {"tokenizer_class": 3},
        {"model_max_length": "many"},
        {"padding_side": "up"},
        {"do_lower_case": "perhaps"},
        {"added_tokens_decoder": {"-1": {"content": "x"}}},
        {"added_tokens_decoder": {"1": {"text": "x"}}},
        {"added_tokens_decoder": []},
        {"extra_special_tokens": "one"},
        {"mask_token": 5},
        {"chat_template": 5},
        {"unk_token": "[NONE]", "tokenizer_class": "LlamaTokenizer"},
        {"tokenizer_class": "NobodysTokenizer"},
    ],
)
def test_settings_that_cannot_be(folder: Path, values: dict[str, Any]) -> None:
    with pytest.raises(BijectError):
        load_tokenizer(settings(folder, **values))


@pytest.mark.parametrize(
    "text", ["{}", "[]", '{"model": {"vocab": 3}}', '{"model": {"type": "BPE", "vocab": {}}}', "{"]
)
@pytest.mark.parametrize("tokenizer_class", ["BertTokenizer", "AlbertTokenizer", "PreTrainedTokenizerFast"])
def test_serialized_files_that_are_none(folder: Path, text: str, tokenizer_class: str) -> None:
    (folder / "tokenizer.json").write_text(text)
    with pytest.raises(CheckpointError):
        load_tokenizer(settings(folder, tokenizer_class=tokenizer_class))


def test_a_tokenizer_and_its_model(tokenizer: Tokenizer) -> None:
    check_fits(tokenizer, {"vocab_size": 16})
    with pytest.raises(
        ConfigError, match=r"10 tokens, the model embeddings for 8: 2 tokens, from '##er' \(id 8\)"
    ):
        check_fits(tokenizer, {"vocab_size": 8})
    with pytest.raises(ConfigError, match="must be a number"):
        check_fits(tokenizer, {})
    assert oddities(tokenizer, {"vocab_size": 16, "pad_token_id": 0}) == []
    (found,) = oddities(tokenizer, {"vocab_size": 16, "pad_token_id": 1})
    assert "`pad_token_id` is 1" in found
    assert "most are never used" in oddities(tokenizer, {"vocab_size": 100})[0]


TEMPLATE = (
    "{% for m in messages %}{{ m.role }}: {{ m.content }}\n{% endfor %}"
    "{% if add_generation_prompt %}fox{% endif %}"
)


def test_chat_templates(folder: Path) -> None:
    tokenizer = load_tokenizer(settings(folder, chat_template=TEMPLATE))
    chat = [{"role": "the", "content": "quick", "tool_calls": None}]
    assert tokenizer.apply_chat_template(chat, tokenize=False) == "the: quick\n"
    ids = tokenizer.apply_chat_template(chat, add_generation_prompt=True, return_dict=False)
    assert tokenizer.convert_ids_to_tokens(ids) == ["the", "[UNK]", "quick", "fox"]
    with pytest.raises(InputError, match="at least one message"):
        tokenizer.apply_chat_template([])
    for refused in ("return_assistant_tokens_mask", "tokenizer_kwargs"):
        with pytest.raises(InputError, match=f"has no {refused}"):
            tokenizer.apply_chat_template(chat, **{refused: True})
        tokenizer.apply_chat_template(chat, **{refused: None})
    with pytest.raises(InputError, match="no chat template"):
        load_tokenizer(settings(folder)).apply_chat_template(chat)


@pytest.mark.parametrize(
    "template",
    [
        "{{ messages.__class__.__mro__ }}{{ ''.__class__.__base__.__subclasses__() }}",
        "{% set ns = namespace(__class__=1) %}{{ ns }}",
        "{{ messages.append(1) }}",
        "{{ raise_exception('no') }}",
        "{% for %}",
    ],
)
def test_templates_see_nothing_but_the_conversation(folder: Path, template: str) -> None:
    tokenizer = load_tokenizer(settings(folder, chat_template=template))
    with pytest.raises(InputError, match="cannot be filled"):
        tokenizer.apply_chat_template([{"role": "user", "content": "x"}], tokenize=False)


def field(number: int, data: bytes) -> bytes:
    return bytes([number << 3 | 2, len(data)]) + data


def piece(text: str, score: float, kind: int | None = None) -> bytes:
    body = field(1, text.encode()) + bytes([2 << 3 | 5]) + struct.pack("<f", score)
    return field(1, body + (bytes([3 << 3, kind]) if kind else b""))


def test_sentencepiece_fields(tmp_path: Path) -> None:
    minus_one = b"\xff" * 9 + b"\x01"
    trainer = (
        bytes([3 << 3, 2, 35 << 3 & 0x7F | 0x80, 35 >> 4, 1, 41 << 3 & 0x7F | 0x80, 41 >> 4]) + minus_one
    )
    data = (
        piece("<unk>", 0.0, 2)
        + piece("▁a", -1.5)
        + field(2, trainer)
        + field(3, field(2, b"map"))
        + field(9, b"?")
    )
    (tmp_path / "m.model").write_bytes(data)
    model = read_model(tmp_path / "m.model")
    assert model.vocab == [("<unk>", 0.0), ("▁a", -1.5)]
    assert (model.model_type, model.byte_fallback, model.bos_id, model.eos_id) == (2, True, -1, 2)
    assert model.charsmap == b"map"
    assert model.special == {"eos_token": "</s>", "unk_token": "<unk>"}
    for size in range(len(data)):  # cut anywhere: fewer fields, or one clear error
        (tmp_path / "cut.model").write_bytes(data[:size])
        with contextlib.suppress(CheckpointError):
            read_model(tmp_path / "cut.model")


@pytest.mark.parametrize(
    "data", [b"", b"\xff" * 20, b"not a model", field(2, bytes([3 << 3, 4])) + piece("a", 0.0)]
)
def test_sentencepiece_files_that_are_none(tmp_path: Path, data: bytes) -> None:
    (tmp_path / "m.model").write_bytes(data)
    with pytest.raises(CheckpointError, match="must be a SentencePiece model"):
        read_model(tmp_path / "m.model")


def test_habits_of_transformers(folder: Path, tmp_path: Path) -> None:
    import transformers

    tokenizer = load_tokenizer(settings(folder, tokenizer_class="BertTokenizer"))
    theirs = transformers.AutoTokenizer.from_pretrained(folder)
    texts = ["the fox", "a"]
    tensors = tokenizer(texts, padding=True, return_tensors="pt")
    expected = theirs(texts, padding=True, return_tensors="pt")
    assert set(tensors) == set(expected)
    for name, value in expected.items():
        assert torch.equal(tensors[name], value)
        assert torch.equal(getattr(tensors.to("cpu"), name), value)
    lists = theirs(texts)
    assert {**tokenizer(texts)} == {**lists}
    assert tokenizer(texts)["input_ids"] == lists["input_ids"]
    assert tokenizer.encode("the fox") == theirs.encode("the fox")
    one, pair = theirs("the fox"), theirs("the fox", "a")  # of one text: its row, not a list of one row
    assert {**tokenizer("the fox")} == {**one}
    assert {**tokenizer("the fox", "a")} == {**pair}
    assert {**tokenizer(["the", "fox"], is_split_into_words=True)} == {
        **theirs(["the", "fox"], is_split_into_words=True)
    }
    assert tokenizer("the fox").input_ids == [one["input_ids"]]
    assert tokenizer.decode(tokenizer("the fox")["input_ids"]) == theirs.decode(one["input_ids"])
    assert tokenizer("the fox", return_tensors="pt").input_ids.shape == (1, len(one["input_ids"]))
    assert tokenizer.tokenize("the quicker fox") == theirs.tokenize("the quicker fox")
    assert tokenizer.vocab_size == theirs.vocab_size
    assert tokenizer.get_vocab() == theirs.get_vocab()
    rows = lists["input_ids"]
    assert tokenizer.batch_decode(rows, skip_special_tokens=True) == theirs.batch_decode(
        rows, skip_special_tokens=True
    )
    tokenizer.save_pretrained(tmp_path / "saved")
    assert load_tokenizer(tmp_path / "saved").encode("the fox") == theirs.encode("the fox")
    with pytest.raises(InputError, match="'pt' or None"):
        tokenizer(texts, return_tensors="np")  # type: ignore[call-overload]
    with pytest.raises(KeyError, match="there are input_ids"):
        tokenizer(texts)["offsets"]
    with pytest.raises(AttributeError, match="nonsense"):
        _ = tensors.nonsense


def test_templates_see_values_of_the_call_as_plain_data(folder: Path, tmp_path: Path) -> None:
    """A template is a stranger's: an array's `tofile` is not among what it can call."""
    import numpy as np

    written = tmp_path / "written"
    for name in ("documents", "mood"):
        place = "documents[0].vec" if name == "documents" else "mood"
        template = "{{ " + place + f".tofile('{written}')" + " }}"
        tokenizer = load_tokenizer(settings(folder, chat_template=template))
        value = [{"vec": np.ones(2)}] if name == "documents" else np.ones(2)
        with pytest.raises(InputError, match="cannot be filled"):
            tokenizer.apply_chat_template([{"role": "user", "content": "x"}], tokenize=False, **{name: value})
    assert not written.exists()
    tokenizer = load_tokenizer(settings(folder, chat_template="{{ mood | tojson }} {{ documents is none }}"))
    chat = [{"role": "user", "content": "x"}]
    assert tokenizer.apply_chat_template(chat, tokenize=False, mood=np.ones(2)) == "[1.0, 1.0] True"
