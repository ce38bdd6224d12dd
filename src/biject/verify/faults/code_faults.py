"""The table of code faults: what is injected, and which level has to catch it."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from contextlib import AbstractContextManager
from dataclasses import dataclass

from biject.model import Model
from biject.verify.faults import code, code_attention, code_causal
from biject.verify.faults.outcome import DoesNotApply, Outcome
from biject.verify.run import run_level
from biject.verify.subject import Subject


@dataclass(frozen=True, kw_only=True)
class CodeFault:
    """One kind of wrong implementation.

    Attributes:
        kind: Its name in reports.
        inject: A block in which our model computes it; raises `DoesNotApply` where nothing would change.
        level: The level that has to catch it.
    """

    kind: str
    inject: Callable[[Model], AbstractContextManager[str]]
    level: str = "forward"


CODE_FAULTS: tuple[CodeFault, ...] = (
    CodeFault(kind="position-plus-one", inject=code.position_plus_one),
    CodeFault(kind="positions-over-padding", inject=code.positions_over_padding),
    CodeFault(kind="segments-left-out", inject=code.segments_left_out),
    CodeFault(kind="embedding-norm-left-out", inject=code.embedding_norm_left_out),
    CodeFault(kind="other-gelu", inject=code.other_gelu),
    CodeFault(kind="eps-default", inject=code.eps_default),
    CodeFault(kind="residual-left-out", inject=code.residual_left_out),
    CodeFault(kind="layers-reversed", inject=code.layers_reversed),
    CodeFault(kind="residual-twice", inject=code.residual_twice),
    CodeFault(kind="pools-last-column", inject=code.pools_last_column),
    CodeFault(kind="decoder-bias-left-out", inject=code.decoder_bias_left_out),
    CodeFault(kind="head-activation-left-out", inject=code.head_activation_left_out),
    CodeFault(kind="ignored-labels-counted", inject=code.ignored_labels_counted),
    CodeFault(kind="scale-left-out", inject=code_attention.scale_left_out),
    CodeFault(kind="mask-ignored", inject=code_attention.mask_ignored),
    CodeFault(kind="heads-mixed", inject=code_attention.heads_mixed),
    CodeFault(kind="c2p-p2c-swapped", inject=code_attention.c2p_p2c_swapped),
    CodeFault(kind="distance-sign-flipped", inject=code_attention.distance_sign_flipped),
    CodeFault(kind="buckets-left-out", inject=code_attention.buckets_left_out),
    CodeFault(kind="table-norm-left-out", inject=code_attention.table_norm_left_out),
    CodeFault(kind="padding-not-zeroed", inject=code_attention.padding_not_zeroed),
    CodeFault(kind="convolution-left-out", inject=code_attention.convolution_left_out),
    CodeFault(kind="rope-base-changed", inject=code_causal.rope_base_changed),
    CodeFault(kind="rope-pairs-interleaved", inject=code_causal.rope_pairs_interleaved),
    CodeFault(kind="causal-mask-dropped", inject=code_causal.causal_mask_dropped),
    CodeFault(kind="window-one-too-wide", inject=code_causal.window_one_too_wide),
    CodeFault(kind="key-heads-in-turn", inject=code_causal.groups_in_turn),
    CodeFault(kind="norm-plus-one", inject=code_causal.norm_plus_one),
    CodeFault(kind="key-norm-left-out", inject=code_causal.head_norm_left_out),
    CodeFault(kind="final-norm-left-out", inject=code_causal.final_norm_left_out),
    CodeFault(kind="gate-up-swapped", inject=code_causal.gate_and_up_swapped),
    CodeFault(kind="in-out-transposed", inject=code_causal.transposed_in_out),
    CodeFault(kind="labels-not-shifted", inject=code_causal.labels_not_shifted),
    CodeFault(kind="last-column-classified", inject=code_causal.last_column_classified),
    CodeFault(kind="other-dropout", inject=code.other_dropout, level="gradients"),
    CodeFault(kind="attention-dropout-left-out", inject=code.attention_dropout_left_out, level="gradients"),
    CodeFault(kind="gradient-lost", inject=code.gradient_lost, level="gradients"),
)


def inject_code(faults: Iterable[CodeFault], subject: Subject) -> Iterator[Outcome]:
    """One outcome a fault; the model is as before afterwards."""
    for fault in faults:
        try:
            with fault.inject(subject.ours) as planted:
                result = run_level(fault.level, subject)
        except DoesNotApply as reason:
            yield Outcome(kind=fault.kind, place="code", status="does not apply", detail=str(reason))
            continue
        caught = bool(result.failures)  # numbers that differ: a crash would not show what the gate can see
        detail = "nothing differs" if result.status == "pass" else result.reason or "crashed"
        if caught:
            check = result.failures[0]
            detail = f"{check.name} {check.detail}"
            detail += f"; first difference: {check.where}" if check.where else ""
        yield Outcome(
            kind=fault.kind,
            place="code",
            status="caught" if caught else "missed",
            planted=planted,
            levels=(fault.level,),
            detail=detail,
        )
