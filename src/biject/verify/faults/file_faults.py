"""The table of file faults: what is planted, and which levels have to catch it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from biject.verify.faults import folders, tensors
from biject.verify.faults.copy import Copy

OPENING = "opening"
"""Stands for a folder that cannot be opened any more: unusable input, reported in one message."""


@dataclass(frozen=True, kw_only=True)
class FileFault:
    """One kind of damage.

    Attributes:
        kind: Its name in reports.
        plant: Does it, and returns what was changed; raises `DoesNotApply` where it would change nothing.
        levels: Each of these has to catch it, compared with the source.
        alone: Each of these has to catch it without any source; `lint:CODE` names the linter's finding.
        light: Cheap enough for models of any size.
    """

    kind: str
    plant: Callable[[Copy], str]
    levels: tuple[str, ...] = ()
    alone: tuple[str, ...] = ()
    light: bool = False


_BOTH = ("bytes", "hf-forward")

FILE_FAULTS: tuple[FileFault, ...] = (
    FileFault(kind="q-k-swapped", plant=tensors.swap_query_and_key, levels=_BOTH),
    FileFault(kind="square-weight-transposed", plant=tensors.transpose, levels=_BOTH),
    FileFault(kind="bias-zeroed", plant=tensors.zero_bias, levels=_BOTH),
    FileFault(
        kind="bias-dropped",
        plant=tensors.drop_bias,
        levels=("names", "reload"),
        alone=("reload", "lint:missing-tensors"),
    ),
    FileFault(kind="bit-flipped", plant=tensors.flip_bit, levels=_BOTH, light=True),
    FileFault(kind="lowest-bit-flipped", plant=tensors.flip_lowest_bit, levels=("bytes",)),
    FileFault(kind="norm-scale-bias-swapped", plant=tensors.swap_norm, levels=_BOTH),
    FileFault(kind="layers-swapped", plant=tensors.swap_layers, levels=_BOTH),
    FileFault(kind="vocabulary-rolled", plant=tensors.roll_vocabulary, levels=_BOTH),
    FileFault(kind="positions-shifted", plant=tensors.roll_positions, levels=_BOTH),
    FileFault(
        kind="dtype-changed", plant=tensors.change_dtype, levels=("bytes",), alone=("lint:mixed-dtypes",)
    ),
    FileFault(
        kind="twin-differs",
        plant=tensors.write_twin,
        levels=("hf-forward",),
        alone=("lint:twins-differ",),
    ),
    FileFault(
        kind="unknown-tensor-added",
        plant=tensors.add_unknown,
        levels=("names",),
        alone=("lint:unknown-tensors",),
    ),
    FileFault(
        kind="head-dropped",
        plant=tensors.drop_head,
        levels=("names", "reload"),
        alone=("reload", "lint:missing-tensors"),
    ),
    FileFault(kind="head-new", plant=tensors.renew_head, levels=("bytes",), alone=("lint:fresh-head",)),
    FileFault(kind="nan", plant=tensors.put_nan, alone=("reload", "lint:not-finite")),
    FileFault(kind="infinity", plant=tensors.put_infinity, alone=("reload", "lint:not-finite")),
    FileFault(
        kind="names-wrapped", plant=tensors.wrap_names, levels=("names",), alone=("lint:wrapper-prefix",)
    ),
    FileFault(kind="eps-times-ten", plant=folders.eps_times_ten, levels=("bytes",), light=True),
    FileFault(kind="activation-changed", plant=folders.other_activation, levels=_BOTH, light=True),
    FileFault(kind="config-key-lost", plant=folders.lose_key, levels=("bytes",), light=True),
    FileFault(kind="label-map-lost", plant=folders.lose_labels, levels=("bytes",), light=True),
    FileFault(kind="label-map-permuted", plant=folders.permute_labels, levels=("bytes",), light=True),
    FileFault(
        kind="wrong-class", plant=folders.wrong_class, alone=("reload", "lint:missing-tensors"), light=True
    ),
    FileFault(
        kind="unknown-class",
        plant=folders.unknown_class,
        alone=("reload", "lint:unknown-architectures"),
        light=True,
    ),
    FileFault(kind="dtype-lie", plant=folders.lie_about_dtype, alone=("lint:dtype-differs",), light=True),
    FileFault(kind="config-cut", plant=folders.break_config, levels=(OPENING,), alone=(OPENING,), light=True),
    FileFault(
        kind="tokenizer-lost",
        plant=folders.lose_tokenizer,
        levels=("bytes",),
        alone=("lint:no-tokenizer",),
        light=True,
    ),
    FileFault(kind="tokenizer-changed", plant=folders.change_tokenizer, levels=("bytes",), light=True),
    FileFault(
        kind="tokenizer-too-large",
        plant=folders.enlarge_tokenizer,
        levels=("bytes",),
        alone=("lint:tokenizer-too-large",),
        light=True,
    ),
    FileFault(kind="shard-lost", plant=folders.lose_shard, alone=(OPENING, "lint:shard-missing")),
    FileFault(kind="ghost-index-entry", plant=folders.ghost_entry, alone=(OPENING, "lint:ghost-index-entry")),
    FileFault(kind="file-truncated", plant=folders.truncate, alone=(OPENING,), light=True),
    FileFault(kind="header-lies", plant=folders.lie_in_header, alone=(OPENING,), light=True),
)
