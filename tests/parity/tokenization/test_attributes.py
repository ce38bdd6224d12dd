"""Attributes that users of transformers set: the same effect, also on the files and what HF reads of them."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from biject import AutoModel
from biject.errors import InputError
from biject.tokenization.settings import ROLES
from biject.tokenization.tokenizer import Tokenizer, load_tokenizer

from .cases import CASES
from .make import TEMPLATE
from .test_ids import assert_equal, hf

NAMES = ("wordpiece settings", "wordpiece special map", "byte-bpe gpt2", "sentencepiece llama",
         "sentencepiece generic bytes", "split smollm3", "bytes gemma2")  # fmt: skip


def both(name: str, folder: Path) -> tuple[Tokenizer, Any]:
    CASES[name](folder)
    return load_tokenizer(folder), hf(folder)


def saved(ours: Tokenizer, theirs: Any, came: Path) -> tuple[Tokenizer, Any]:
    """What each side reads of what Biject writes; HF of HF's files has the same roles, limit and template."""
    for side, tokenizer in (("ours", ours), ("theirs", theirs)):
        folder = came.parent / side
        tokenizer.save_pretrained(folder)
        shutil.copy(came / "config.json", folder)
    again, read, own = (
        load_tokenizer(came.parent / "ours"),
        hf(came.parent / "ours"),
        hf(came.parent / "theirs"),
    )
    assert_equal(again, read)
    for attribute in (*ROLES, "model_max_length", "padding_side", "truncation_side", "chat_template"):
        assert getattr(read, attribute) == getattr(own, attribute), attribute
    return again, read


def test_a_token_is_given_a_role(tmp_path: Path) -> None:
    for index, name in enumerate(NAMES):
        ours, theirs = both(name, tmp_path / str(index) / "came")
        token = theirs.convert_ids_to_tokens(7)
        for tokenizer in (ours, theirs):
            tokenizer.pad_token = tokenizer.eos_token or tokenizer.sep_token
            tokenizer.mask_token = token
            tokenizer.bos_token_id = 8
            tokenizer.cls_token_id = 9
        for role in ROLES:
            assert getattr(ours, role) == getattr(theirs, role)
            assert getattr(ours, f"{role}_id") == getattr(theirs, f"{role}_id")
        texts = ["the quick fox", "a"]
        assert {**ours(texts, padding=True)} == {**theirs(texts, padding=True)}
        again, _ = saved(ours, theirs, tmp_path / str(index) / "came")
        assert again.special_tokens == ours.special_tokens


def test_a_role_is_taken_away(tmp_path: Path) -> None:
    for index, name in enumerate(NAMES):
        ours, theirs = both(name, tmp_path / str(index) / "came")
        for tokenizer in (ours, theirs):
            tokenizer.pad_token = tokenizer.mask_token = tokenizer.bos_token = None
        again, _ = saved(ours, theirs, tmp_path / str(index) / "came")
        assert (again.pad_token, again.mask_token_id, again.bos_token) == (None, None, None)


def test_the_same_again_changes_nothing(tmp_path: Path) -> None:
    ours, _ = both("wordpiece named tokens", tmp_path)
    ours.pad_token, ours.pad_token_id, ours.bos_token = ours.pad_token, ours.pad_token_id, ours.bos_token
    ours.chat_template, ours.padding_side = ours.chat_template, "right"
    assert not ours.changed
    assert ours.changed_files() == {}


def test_limit_and_sides(tmp_path: Path) -> None:
    for index, name in enumerate(("wordpiece left sides", "wordpiece settings", "byte-bpe gpt2")):
        ours, theirs = both(name, tmp_path / str(index) / "came")
        for tokenizer in (ours, theirs):
            tokenizer.model_max_length = 5
            tokenizer.truncation_side, tokenizer.padding_side = "right", "left"
        text = "the quick brown fox jumps over the lazy dog"
        assert ours(text, truncation=True)["input_ids"] == theirs(text, truncation=True)["input_ids"]
        saved(ours, theirs, tmp_path / str(index) / "came")


@pytest.mark.parametrize(
    "template", [f"-{TEMPLATE}", {"default": f"-{TEMPLATE}", "rag": "{{ documents }}"}, {"rag": "x"}, None]
)
@pytest.mark.parametrize("name", ["wordpiece bare", "wordpiece named tokens", "templates in files"])
def test_a_chat_template(name: str, template: Any, tmp_path: Path) -> None:
    ours, theirs = both(name, tmp_path / "came")
    ours.chat_template = theirs.chat_template = template
    again, read = saved(ours, theirs, tmp_path / "came")
    assert again.chat_template == read.chat_template == template
    found, expected = (
        {path.relative_to(folder): path.read_text() for path in folder.rglob("*.jinja")}
        for folder in (tmp_path / "ours", tmp_path / "theirs")
    )
    assert found == expected
    settings = tmp_path / "ours" / "tokenizer_config.json"
    assert not settings.exists() or "chat_template" not in json.loads(settings.read_text())


def test_a_model_is_written_with_what_was_set(reference: Callable[..., Path], tmp_path: Path) -> None:
    folder = Path(shutil.copytree(reference("bert", "mlm"), tmp_path / "came"))
    (folder / "chat_template.jinja").write_text("{{ 1 }}")
    (folder / "additional_chat_templates").mkdir()
    (folder / "additional_chat_templates" / "rag.jinja").write_text("{{ 2 }}")
    tokenizer = load_tokenizer(folder)
    tokenizer.chat_template = TEMPLATE
    tokenizer.bos_token = tokenizer.cls_token
    AutoModel.from_pretrained(folder).save_pretrained(tmp_path / "out", tokenizer=tokenizer)
    read = hf(tmp_path / "out")
    assert (read.chat_template, read.bos_token) == (TEMPLATE, read.cls_token)


@pytest.mark.parametrize(
    "name, value, says",
    [
        ("pad_token", "never seen", r"add_special_tokens\(\{'pad_token': …\}\)"),
        ("pad_token", 3, "a token's text or None, found 3"),
        ("pad_token_id", 10**9, "`pad_token_id` must be the id of a token, found 1000000000"),
        ("pad_token_id", -1, "must be the id of a token"),
        ("pad_token_id", "3", "must be the id of a token"),
        ("padding_side", "up", "must be left or right, found 'up'"),
        ("chat_template", 5, "must be a template's text, several by name, or None; found 5"),
        ("chat_template", {"../x": "y"}, "must be one for a file, found '../x'"),
        ("add_eos_token", True, "`add_eos_token` of a tokenizer has no effect here.*post-processor"),
        ("extra_special_tokens", ["a"], "`extra_special_tokens` of a tokenizer has no effect here"),
        ("pad_tokn", "a", "`pad_tokn` of a tokenizer has no effect here, and is not set. Set pad_token"),
    ],
)
def test_what_cannot_be_set(name: str, value: Any, says: str, tmp_path: Path) -> None:
    CASES["wordpiece bare"](tmp_path)
    ours = load_tokenizer(tmp_path)
    with pytest.raises(InputError, match=says):
        setattr(ours, name, value)
    assert not ours.changed
