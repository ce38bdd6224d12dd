"""A data set whose labels have the ids of another one or of a model: by name, never by order."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

from biject.data.dataset import IGNORED, Dataset, Ids
from biject.data.several import Several
from biject.errors import InputError, shown
from biject.events import notice

_GENERIC = re.compile(r"LABEL_\d+")


def with_labels_of(dataset: Any, names: Sequence[str], *, whose: str) -> Any:
    """The data set with the ids that `names` give its labels; what has no named labels stays as it is.

    Args:
        dataset: Samples; only a `Dataset` of classes knows its labels.
        names: Labels by id.
        whose: They are, for messages: `the training data's`.

    Raises:
        InputError: It has labels that `names` does not have.
    """
    own = dataset.labels if isinstance(dataset, Dataset) else ()
    if not own or own == tuple(names) or dataset.problem_type == "regression" or _generic(own):
        return dataset
    strange = [name for name in own if _id_of(name, names) is None]
    if strange:
        raise InputError(
            f"The data set has the labels {_some(own)}, and {_some(strange)} is none of {whose}: "
            f"{_some(names)}. Build it with labels={list(names)[:3]}…, or mend its labels."
        )
    if [_id_of(name, names) for name in own] == list(range(len(own))):
        return dataset
    notice(
        "labels-by-name",
        f"The labels of a data set were numbered otherwise ({_some(own)}) than {whose} ({_some(names)}): "
        "they are matched by name.",
    )
    return renumbered(dataset, names)


def renumbered(dataset: Dataset, names: Sequence[str]) -> Dataset:
    """A copy whose labels have the ids of `names`, among which are all of its own."""
    new_ids = [index for name in dataset.labels if (index := _id_of(name, names)) is not None]
    assert len(new_ids) == len(dataset.labels)
    values = dataset.column("labels")
    labels: Ids | Several | list[int]
    if isinstance(values, Ids):
        labels = Ids([[i if i == IGNORED else new_ids[i] for i in row] for row in values.rows])
    elif isinstance(values, Several):
        labels = values.renumbered(new_ids, size=len(names))
    else:
        labels = [new_ids[value] for value in values]
    return dataset.with_column("labels", labels, labels=names)


def _id_of(name: str, names: Sequence[str]) -> int | None:
    """Of a label by its name, or of one that is an id itself; None where it is neither."""
    if name in names:
        return list(names).index(name)
    return int(name) if name.isdecimal() and int(name) < len(names) else None


def named_labels(model: object) -> tuple[str, ...]:
    """A model's labels by id; none where they have no names of their own."""
    config = getattr(model, "config", None)  # transformers' models keep them there
    found = getattr(model, "id2label", None) or getattr(config, "id2label", None)
    if not isinstance(found, dict) or not all(isinstance(index, int) for index in found):
        return ()
    names = tuple(str(found[index]) for index in sorted(found))
    return () if _generic(names) else names


def _generic(names: Sequence[str]) -> bool:
    return all(_GENERIC.fullmatch(name) for name in names)


def _some(names: Sequence[str]) -> str:
    more = f" and {len(names) - 5} more" if len(names) > 5 else ""
    return ", ".join(shown(name) for name in names[:5]) + more
