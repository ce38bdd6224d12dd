"""A part of the rows for validation: the same for the same seed, each label in proportion where it can be."""

from __future__ import annotations

import math
import random
from collections.abc import Hashable, Sequence
from typing import NamedTuple

from biject.data.table import Rows
from biject.errors import InputError


class Split(NamedTuple):
    """Two parts of a table; both keep the table's order."""

    train: Rows
    validation: Rows


def split_rows(
    rows: Rows,
    share: float = 0.1,
    *,
    seed: int = 0,
    label_column: str | None = None,
    group_column: str | None = None,
) -> Split:
    """Split off some rows for validation.

    Args:
        rows: The table.
        share: Of all rows, rounded; at least one row on either side.
        seed: Of the choice.
        label_column: Each of its values is split in proportion, where a value occurs in more than one
            row; numbers with fractions and lists are not labels that this can be done for.
        group_column: Rows with the same value stay together: the questions about one context. Stands before
            `label_column`.

    Raises:
        InputError: There are not two rows, or `share` is not between 0 and 1.
    """
    if not 0 < share < 1:
        raise InputError(f"The validation share should be between 0 and 1, found {share}.")
    if len(rows) < 2:
        raise InputError(f"{rows.source} has {len(rows)} rows: too few to split any off for validation.")
    count = min(max(1, math.floor(share * len(rows) + 0.5)), len(rows) - 1)
    rng = random.Random(f"biject split {seed}")
    if group_column is not None:
        chosen = _groups(rows.values(group_column), count, rng)
        if not 0 < len(chosen) < len(rows):
            raise InputError(
                f"{rows.source}: column `{group_column}` has one value for too many rows to "
                f"split off {share:.0%}."
            )
    else:
        chosen = _stratified(_strata(rows, label_column), count, rng)
    return Split(
        train=rows.take(i for i in range(len(rows)) if i not in chosen),
        validation=rows.take(sorted(chosen)),
    )


def _strata(rows: Rows, column: str | None) -> list[list[int]]:
    """Rows by label, labels in a fixed order; a single stratum where labels do not allow it."""
    everything = [list(range(len(rows)))]
    if column is None:
        return everything
    found: dict[str, list[int]] = {}
    for index, value in enumerate(rows.values(column)):
        fraction = isinstance(value, float) and not value.is_integer()
        if not isinstance(value, Hashable) or fraction:
            return everything
        found.setdefault(str(value), []).append(index)
    if len(found) > len(rows) / 2:
        return everything
    return [found[label] for label in sorted(found)]


def _stratified(strata: Sequence[Sequence[int]], num_rows: int, rng: random.Random) -> set[int]:
    """`num_rows` rows, from each stratum its share: the whole part, then the largest remainders."""
    total = sum(map(len, strata))
    shares = [num_rows * len(stratum) / total for stratum in strata]
    counts = [int(share) for share in shares]
    order = sorted(
        range(len(strata)), key=lambda i: (counts[i] + 1 >= len(strata[i]), counts[i] - shares[i])
    )  # a label that would vanish from training comes last
    for i in order[: num_rows - sum(counts)]:
        counts[i] += 1
    return {
        row for stratum, count in zip(strata, counts, strict=True) for row in rng.sample(list(stratum), count)
    }


def _groups(values: Sequence[object], count: int, rng: random.Random) -> set[int]:
    """Whole groups, in random order, until `count` rows are reached; one that overshoots by half is left.

    Rows without a value are in no group.
    """
    found: dict[str, list[int]] = {}
    for index, value in enumerate(values):
        if value is not None:
            found.setdefault(str(value), []).append(index)
    names = list(found)
    rng.shuffle(names)
    chosen: set[int] = set()
    for name in names:
        if len(chosen) < count and len(chosen) + len(found[name]) <= max(count * 1.5, 1):
            chosen.update(found[name])
    if chosen or not found:
        return chosen
    return set(found[min(names, key=lambda name: len(found[name]))])
