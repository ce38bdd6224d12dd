"""Every mutant is caught in every model that has a place for it; where it has none is known and listed."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from biject.families import ALL_HEADS, families
from biject.verify.reference import make_reference
from biject.verify.run import run_level
from biject.verify.subject import Subject
from mutants import adapter
from mutants.adapter import COLUMNS
from mutants.attention import ATTENTION
from mutants.axes import Axes, axes
from mutants.configs import CONFIGS
from mutants.modules import MODULES
from mutants.mutant import CASES, in_place, judge

MUTANTS = (*CONFIGS, *MODULES, *ATTENTION)
ALL_CELLS = [(name, head) for name in families() for head in families()[name].heads if head != "rtd"]
# By default each family with one head, every head with some family; `make test-slow` runs them all.
_FIVE = {name: [head for head in family.heads if head != "rtd"] for name, family in families().items()}
DEFAULT = {(name, heads[(3 * i + 1) % len(heads)]) for i, (name, heads) in enumerate(_FIVE.items())}
CELLS = [
    pytest.param(*cell, marks=() if cell in DEFAULT else pytest.mark.slow, id="-".join(cell))
    for cell in ALL_CELLS
]
ALL_PARTS = {"conv_kernel_size": 3, "share_att_key": False, "norm_rel_ebd": "layer_norm"}


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Path]:
    root, made = tmp_path_factory.mktemp("mutants"), {}

    def folder(model_type: str, head: str, **overrides: Any) -> Path:
        key = f"{model_type}-{head}-{'-'.join(overrides)}"
        if key not in made:
            made[key] = make_reference(model_type, head, root / key, overrides=overrides)
        return made[key]

    return folder


def inapplicable(at: Axes) -> set[str]:
    """The kinds for which a model has no place, from its config alone."""
    places = {
        "positions-over-padding": at.positions_after_pad,
        "embedding-norm-left-out": at.embedding_norm,
        "padding-not-zeroed": at.embedding_zeroed,
        "other-gelu": "gelu" in at.activation,
        "layers-reversed": at.layer_order != at.layer_order[::-1],
        "head-activation-left-out": at.head_activation,
        "table-norm-left-out": at.relative_norm,
        "convolution-left-out": at.convolution,
        "rope-base-changed": at.rope_base,
        "window-one-too-wide": any(window < COLUMNS for window in at.windows),
        "position-plus-one": "positions" in at.tables or at.relative,
        "segments-left-out": "segments" in at.tables,
        "norm-plus-one": at.rms,
        "final-norm-left-out": at.pre_norm,
        "gate-up-swapped": at.gated,
        "in-out-transposed": at.stored_in_out,
        "pools-last-column": at.pooler or at.head_kind == "pooled",
        "last-column-classified": at.head_kind == "last",
        "decoder-bias-left-out": at.head_kind == "vocab",
        "ignored-labels-counted": at.head_kind in ("tokens", "vocab", "causal"),
        "labels-not-shifted": at.head_kind == "causal",
        "causal-mask-dropped": at.causal,
        "key-heads-in-turn": 1 < at.num_key_heads < at.num_heads,
        "rope-pairs-interleaved": at.rope_base,
        "key-norm-left-out": at.qk_norm,
        "output-norms-left-out": at.output_norm,
        "embedding-not-scaled": at.embedding_scale is not None,
        "scores-not-capped": at.score_cap is not None,
        "logits-not-capped": at.logit_cap is not None,
        "c2p-p2c-swapped": at.relative,
        "distance-sign-flipped": at.relative,
        "buckets-left-out": at.relative,
    }
    return {kind for kind, place in places.items() if not place}


def check(folder: Path) -> None:
    subject = Subject(folder)
    outcomes = [judge(mutant, subject) for mutant in MUTANTS]
    left = {outcome.kind: outcome.detail for outcome in outcomes if outcome.status == "inapplicable"}
    print(f"no place in {folder.name}:", *(f"{kind} ({reason})" for kind, reason in left.items()), sep="\n  ")
    assert [outcome for outcome in outcomes if outcome.status == "missed"] == []
    assert set(left) == inapplicable(axes(subject.ours))
    assert sum(outcome.status == "caught" for outcome in outcomes) >= 8


@pytest.mark.parametrize(("model_type", "head"), CELLS)
def test_every_mutant_that_has_a_place_is_caught(folders, model_type: str, head: str) -> None:
    check(folders(model_type, head))


def test_mutants_of_deberta_with_all_its_parts(folders) -> None:
    """The convolution, the norm over the table, keys of their own."""
    check(folders("deberta-v2", "mlm", **ALL_PARTS))


def test_each_kind_has_a_place_somewhere(folders) -> None:
    kinds = [mutant.kind for mutant in MUTANTS]
    assert len(set(kinds)) == len(kinds) >= 42
    cells = [folders("bert", "seqcls"), folders("roberta", "mlm"), folders("gpt2", "causal")]
    cells += [folders("mistral", "seqcls"), folders("qwen3", "qa"), folders("llama", "tokcls")]
    cells += [folders("deberta-v2", "mlm", **ALL_PARTS), folders("gemma2", "causal")]
    assert set.intersection(*(inapplicable(axes(Subject(cell).ours)) for cell in cells)) == set()


@pytest.mark.parametrize(
    ("model_type", "head"), [("deberta-v2", "tokcls"), ("albert", "mlm"), ("gpt2", "causal"), ("llama", "qa")]
)
def test_a_model_built_anew_without_a_mistake_passes(folders, model_type: str, head: str) -> None:
    """The control: mutants are caught for their mistake, not for how they are made."""
    subject = Subject(folders(model_type, head))
    subject.cases = [case for case in subject.cases if case.name in CASES]
    for ours in (subject.ours, adapter.rebuilt(subject.ours, subject.ours.config)):
        subject.ours = ours
        for level in ("forward", "gradients"):
            assert run_level(level, subject).status == "pass"


def test_a_mistake_that_changes_nothing_and_a_crash_are_missed(folders) -> None:
    def crash(*_: object) -> None:
        raise RuntimeError("a crash is no number")

    subject = Subject(folders("bert", "seqcls"))
    idle = in_place("idle", lambda model, at: None)
    assert judge(idle, subject).detail == "nothing differs"
    crashing = in_place("crash", lambda model, at: model.embed.register_forward_pre_hook(crash) and None)
    assert judge(crashing, subject).detail == "RuntimeError: a crash is no number"
    assert {judge(mutant, subject).status for mutant in (idle, crashing)} == {"missed"}


def test_every_head_is_among_the_default_cells() -> None:
    assert {head for _, head in DEFAULT} == set(ALL_HEADS) - {"rtd", "distilled"}  # two that few use
