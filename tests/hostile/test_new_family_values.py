"""`biject new-family` on values of a wrong kind: a draft, or one error."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from biject.cli.main import main
from biject.errors import ConfigError
from biject.newfamily.draft import first_draft
from hostile.strangers import CONFIG, stranger

KINDS = {
    "full_attention": {"rope_theta": 3.0},
    "sliding_attention": {"rope_theta": 2},
    "rope_type": "default",
}


def test_rotary_positions_by_kind_beside_a_type(tmp_path: Path) -> None:
    config = {"rope_parameters": KINDS, "layer_types": ["full_attention", "sliding_attention"]}
    text = first_draft(stranger(tmp_path, config))[0]
    assert "layer_type_rows(global_base=3.0, local_base=2, every=1)" in text


def full(settings: Any) -> dict[str, Any]:
    """A config whose attention over all tokens has these settings."""
    return {"rope_parameters": {**KINDS, "full_attention": settings}, "layer_types": []}


@pytest.mark.parametrize(
    ("config", "says"),
    [
        (full(5), "`full_attention` should be"),
        (full({"rope_theta": "7"}), "rope_theta"),
        (full({"rope_theta": None}), "rope_theta"),
        ({"layer_types": 5, "sliding_window": 4}, "`layer_types` should be a list"),
        ({"layer_types": "sliding_attention", "sliding_window": 4}, "`layer_types` should be a list"),
        ({"model_type": 3}, "`model_type` should be a name"),
        ({"model_type": "a/../b"}, "`model_type` should be a name"),
        ({"architectures": ["a b"]}, "`architectures` should name a class"),
    ],
)
def test_values_of_a_wrong_kind(
    config: Mapping[str, Any],
    says: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    stranger(tmp_path / "folder", config)
    monkeypatch.chdir(tmp_path)
    assert main(["new-family", "folder"]) == 2
    errors = capsys.readouterr().err
    assert says in errors
    assert errors.count("biject: error:") == 1
    assert [path.name for path in tmp_path.iterdir()] == ["folder"]


VALUES = (None, True, False, 0, -1, 2**63, 10**400, 0.5, "", "x", [], {}, [[]], {"a": 1}, [0, "x"])
KEYS = (
    *CONFIG,
    *("", "layer_types", "sliding_window", "rope_parameters", "rope_scaling", "head_dim", "pad_token_id"),
    *("attention_bias", "mlp_bias", "rms_norm_eps", "attention_dropout", "final_logit_softcapping"),
)


@pytest.mark.parametrize("key", KEYS)
def test_any_value_of_any_key_gives_a_draft_or_an_error(key: str, tmp_path: Path) -> None:
    for number, value in enumerate(VALUES):
        source = stranger(tmp_path / str(number), {"layer_types": ["sliding_attention"] * 2, key: value})
        try:
            compile(first_draft(source)[0], "draft", "exec")
        except ConfigError:
            continue
