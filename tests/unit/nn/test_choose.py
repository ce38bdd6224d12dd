"""When padding is left out, when all of HF's rows are computed, and what is said about it."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from biject.nn.choose import Choice

from biject.model import Model
from biject.nn import exact
from biject.nn.kernels import grouped, keys_to_16
from biject.nn.layout import Packed, Padded
from biject.pretrained import load
from biject.verify.reference import make_reference

WIDE = {"hidden_size": 64, "intermediate_size": 128, "num_attention_heads": 4, "max_position_embeddings": 64}


@pytest.fixture
def model(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Model]:
    """A model on a machine whose kernels keep a row's bits among 16 and more."""
    monkeypatch.setattr(exact, "same_bits_from", lambda i, o, total, *_: 16 if total > 16 else None)
    monkeypatch.setattr(exact, "rowwise_holds", lambda *_: True)
    monkeypatch.setattr(exact, "attention_holds", lambda *_: True)

    def make(head: str = "base", **options: Any) -> Model:
        return load(make_reference("bert", head, tmp_path / head, overrides=WIDE), **options)

    return make


def choose(model: Model, counts: list[int] | None, *, training: bool = False, **options: bool) -> Choice:
    mask = None if counts is None else torch.arange(40) < torch.tensor(counts)[:, None]
    grid = Padded(batch=8 if counts is None else len(counts), length=40, mask_BL=mask)
    return model.chooser.choose(grid, weight=model.embed.tokens.weight, training=training, **options)


def test_padding_is_left_out(model: Callable[..., Model]) -> None:
    choice = choose(model(), [40, 3, 17, 9])
    assert isinstance(choice.layout, Packed)
    assert choice.layout.num_rows == 69
    assert choice.total == 160


@pytest.mark.parametrize("counts", [None, [40, 40, 40, 39], [40] * 4])
def test_equal_and_nearly_full_batches_are_computed_as_they_are(
    counts: list[int] | None, model: Callable[..., Model]
) -> None:
    assert isinstance(choose(model(), counts).layout, Padded)


def test_padded_when_asked(model: Callable[..., Model]) -> None:
    assert isinstance(choose(model(layout="padded"), [40, 3, 17, 9]).layout, Padded)
    assert isinstance(choose(model("tokcls"), [40, 3, 17, 9], whole=True).layout, Padded)


def test_few_tokens_are_filled_up(model: Callable[..., Model]) -> None:
    layout = choose(model(), [4, 1, 2]).layout
    assert isinstance(layout, Packed)
    assert (layout.num_tokens, layout.num_rows) == (7, 16)


def test_withdrawn_is_said_once(model: Callable[..., Model], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(exact, "same_bits_from", lambda *_: None)
    one = model()
    with pytest.warns(UserWarning, match="69 of 160 rows hold tokens.*numerics='fast'"):
        assert isinstance(choose(one, [40, 3, 17, 9]).layout, Padded)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert isinstance(choose(one, [40, 3, 17, 9]).layout, Padded)


def test_fast_asks_nothing(model: Callable[..., Model], monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("same_bits_from", "rowwise_holds", "attention_holds"):
        monkeypatch.setattr(exact, name, None)
    choice = choose(model(numerics="fast"), [40, 3, 17, 9])
    assert isinstance(choice.layout, Packed)
    assert choice.attend is grouped
    assert choice.trunk is None
    assert [group.keys for group in choice.layout.groups] == [keys_to_16(n, 40) for n in (3, 17, 40)]


def test_dropout_has_no_bits_to_keep(model: Callable[..., Model], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(exact, "same_bits_from", lambda *_: None)
    assert isinstance(choose(model(), [40, 3, 17, 9], training=True).layout, Packed)


def test_attention_that_does_not_hold_sees_the_whole_grid(
    model: Callable[..., Model], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(exact, "attention_holds", lambda *_: False)
    choice = choose(model("seqcls"), [40, 3, 17, 9])
    assert isinstance(choice.layout, Packed)
    assert [(group.queries, group.keys) for group in choice.layout.groups] == [(40, 40)]
    assert choice.first_rows() is choice.layout


def test_only_pooled_rows_in_the_last_layer(model: Callable[..., Model]) -> None:
    last = choose(model("seqcls"), [40, 3, 17, 9]).first_rows()
    assert isinstance(last, Packed)
    assert (last.num_tokens, last.num_rows) == (4, 16)


def test_a_head_that_minds_its_neighbours_gets_the_whole_grid(
    model: Callable[..., Model], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Chosen rows in another place would have other bits, however many there are."""
    one = model("mlm")
    choice = choose(one, [40, 3, 17, 9], head_rows=False)
    assert choice.least(3) == 16
    widths = {one.config.vocab_size}
    monkeypatch.setattr(exact, "same_bits_from", lambda i, o, *_: None if o in widths else 16)
    assert choice.least(3) is None
    assert choice.rows_at(torch.tensor([1, 2, 3])) is choice.layout


def test_autocast_asks_for_what_is_computed_in(model: Callable[..., Model]) -> None:
    one = model()
    with torch.autocast("cpu", torch.bfloat16):
        assert choose(one, [40, 3, 17, 9]).dtype == torch.bfloat16
    assert choose(one, [40, 3, 17, 9]).dtype == torch.float32
