"""Which class a folder means: Biject's tables and transformers', and folders of any architecture."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from biject.fallback.tokenizer import load_fallback_tokenizer
from biject.families import text_families
from biject.tokenization import classes
from biject.tokenization.files import read_files
from biject.tokenization.load import _LEFT
from biject.tokenization.recipes import RECIPES

from .cases import CASES
from .test_ids import assert_equal, hf

OTHER = ("split granite", "split gpt_bigcode", "split gpt_neo", "bytes mixtral")


def registered() -> dict[str, str]:
    """transformers' class of every type; what needs mistral-common is TokenizersBackend without it."""
    from transformers.models.auto.tokenization_auto import TOKENIZER_MAPPING_NAMES

    return {
        kind: classes.GENERIC if name == "MistralCommonBackend" else name
        for kind, name in TOKENIZER_MAPPING_NAMES.items()
        if name
    }


def test_the_tables_are_those_of_transformers() -> None:
    from transformers.models.auto.tokenization_auto import MODELS_WITH_INCORRECT_HUB_TOKENIZER_CLASS

    theirs = registered()
    assert {kind for kind, name in theirs.items() if name == classes.GENERIC} == classes._AS_IT_IS
    assert classes._WRONGLY_NAMED == MODELS_WITH_INCORRECT_HUB_TOKENIZER_CLASS
    assert {kind: theirs[kind] for kind in classes._BY_MODEL_TYPE} == classes._BY_MODEL_TYPE
    assert classes._BY_MODEL_TYPE.keys() | classes._AS_IT_IS >= classes._WRONGLY_NAMED


@pytest.mark.parametrize("kind", text_families())
def test_every_family_has_its_class(kind: str) -> None:
    assert classes._class_of_type(kind) == registered().get(kind)


def test_a_name_of_a_model_is_looked_up_too(tmp_path: Path) -> None:
    """`camembertv2-base` is no type but a `model_name`, whose folder names a class that it does not have."""
    (tmp_path / "tokenizer_config.json").write_text(json.dumps({"tokenizer_class": "CamembertTokenizer"}))
    files = read_files(tmp_path)
    assert classes.class_of(files, {"model_type": "roberta"}) == "CamembertTokenizer"
    config = {"model_type": "roberta", "model_name": "camembertv2-base"}
    assert classes.class_of(files, config) == "RobertaTokenizer"
    assert classes.class_of(files, {"model_type": ["roberta"], "model_name": {}}) == "CamembertTokenizer"


@pytest.mark.parametrize("name", OTHER)
def test_any_architecture(name: str, tmp_path: Path) -> None:
    CASES[name](tmp_path)
    config = json.loads((tmp_path / "config.json").read_text())
    assert_equal(load_fallback_tokenizer(tmp_path, config), hf(tmp_path))


@pytest.mark.parametrize("name", [*RECIPES, *sorted(_LEFT)])
def test_sides_are_those_of_the_class(name: str) -> None:
    from transformers.models.auto.tokenization_auto import tokenizer_class_from_name

    theirs = tokenizer_class_from_name(name)
    assert theirs is not None
    ours = "left" if name in _LEFT else RECIPES[name].padding_side
    assert (ours, "right") == (theirs.padding_side, theirs.truncation_side)
