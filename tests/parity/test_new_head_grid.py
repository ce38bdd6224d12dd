"""From every head to every other: what is new, what is reused and how it is drawn is as in HF."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from biject.families import text_families
from biject.model import Model
from biject.pretrained import load
from biject.verify.hf import quiet

Make = Callable[..., Path]
LABELS = 300
"""So many that the spread of a matrix drawn for a width of 32 is known to a few percent."""
GRID = [
    (name, source, head)
    for name, family in text_families().items()
    for source in family.heads
    for head in family.heads
    if head not in (source, "base", "rtd")
]


def theirs(folder: Path, model_type: str, head: str) -> tuple[Any, set[str]]:
    """HF's model for the head, and what it draws new."""
    import transformers

    known = text_families()[model_type]
    own = {"num_labels": LABELS} if head in ("seqcls", "tokcls") else {}
    cls = getattr(transformers, known.heads[head].hf_class)
    torch.manual_seed(3)
    with quiet():
        model, info = cls.from_pretrained(
            folder, output_loading_info=True, ignore_mismatched_sizes=True, **own
        )
    new = set(info["missing_keys"]) | {key[0] for key in info["mismatched_keys"]}
    return model, {name for name in new if not _tied_twin(name, model)}


def _tied_twin(name: str, model: Any) -> bool:
    """BERT-likes name the vocabulary's bias twice; it is one parameter, and the file has one of the names."""
    return name.endswith("decoder.bias") and any(
        other != name and model.get_parameter(name) is parameter
        for other, parameter in model.named_parameters(remove_duplicate=False)
    )


def ours(folder: Path, head: str) -> tuple[Model, set[str]]:
    labels = {"labels": [f"label {i}" for i in range(LABELS)]} if head in ("seqcls", "tokcls") else {}
    torch.manual_seed(4)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        model = load(folder, head=head, new_head=labels)
    return model, {name for one in model.provenance.plan.initialized for name in one.disk}


def is_other_prefix(model_type: str, source: str, head: str) -> bool:
    """HF's QA class of LLaMA-likes calls the trunk `transformer`, and draws all of it new: a flaw of HF's."""
    known = text_families()[model_type]
    return known.prefix_of(source) != known.prefix_of(head) and "qa" in (source, head) and source != "base"


@pytest.mark.parametrize(
    ("model_type", "source", "head"), [pytest.param(*one, id="-".join(one)) for one in GRID]
)
def test_new_and_reused_as_in_hf(model_type: str, source: str, head: str, reference: Make) -> None:
    untied = {"tie_word_embeddings": False} if "causal" in text_families()[model_type].heads else {}
    folder = reference(model_type, source, overrides=untied)
    hf, expected = theirs(folder, model_type, head)
    model, made = ours(folder, head)
    if is_other_prefix(model_type, source, head):
        assert any(".layers.0." in name for name in expected)
        assert not any(".layers.0." in name for name in made)
        return
    if (
        made > expected
    ):  # the file's output has the name and shape of this head's: `new_head` asks for a new one
        assert {name.rpartition(".")[0] for name in made - expected} == {"classifier"}
        assert head == "qa"
        return
    assert made == expected
    assert list(_drawn_otherwise(model, hf, source=folder)) == []


def _drawn_otherwise(model: Model, hf: Any, *, source: Path) -> Iterator[str]:
    """New parameters whose mean, spread or cut is not that of HF's, reused ones with other bits."""
    parameters = dict(hf.named_parameters(remove_duplicate=False))
    for one in model.provenance.plan.initialized:
        mine, other = model.get_parameter(one.memory).detach(), parameters[one.disk[0]].detach()
        if mine.shape != other.shape:
            yield f"{one.memory}: {tuple(mine.shape)}, HF's {tuple(other.shape)}"
        elif mine.dim() == 1:
            if not torch.equal(mine, other):
                yield f"{one.memory}: {mine[:3]}, HF's {other[:3]}"
        elif not _alike(mine, other):
            yield f"{one.memory}: spread {float(mine.std()):.4g}, HF's {float(other.std()):.4g}"
    new = {one.memory for one in model.provenance.plan.initialized}
    for binding in model.provenance.plan.bindings:
        found = next((parameters[name] for name in binding.disk if name in parameters), None)
        if binding.memory not in new and found is not None:
            same = torch.equal(model.get_parameter(binding.memory).detach(), found.detach())
            if not same:
                yield f"{binding.memory}: other bits than HF's"


def _alike(mine: Tensor, other: Tensor) -> bool:
    """Two draws of one distribution: the spread within five standard errors, and both cut or neither."""
    spread, expected = float(mine.std()), float(other.std())
    error = 5 / mine.numel() ** 0.5  # of a difference of two spreads, each known to 1 / √(2 n)
    if abs(spread - expected) > error * expected:
        return False
    many = mine.numel() >= 2000  # of so many at least one lies beyond three standard deviations
    return not many or (float(mine.abs().max()) > 3 * spread) == (float(other.abs().max()) > 3 * expected)


@pytest.mark.parametrize("head", ["seqcls", "tokcls"])
def test_drawing_what_the_file_has_is_seen(
    head: str, reference: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The rule of earlier versions: all of a new head is drawn, though HF finds ModernBERT's dense layer."""
    monkeypatch.setattr("biject.weights.plan._is_new", lambda spec, names, spelling: not spec.base)
    with pytest.raises(AssertionError, match=r"head\.dense"):
        test_new_and_reused_as_in_hf("modernbert", "mlm", head, reference)


def test_another_spread_or_cut_is_seen() -> None:
    torch.manual_seed(5)
    normal, cut = torch.empty(64, 64).normal_(std=0.02), torch.empty(64, 64)
    torch.nn.init.trunc_normal_(cut, std=0.02, a=-0.04, b=0.04)
    assert _alike(normal, torch.empty(64, 64).normal_(std=0.02))
    assert not _alike(normal, torch.empty(64, 64).normal_(std=0.03))
    assert not _alike(normal, cut)
