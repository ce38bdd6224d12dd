"""What an adapter's file says before its parameters are made: sizes, classes, whether the head is its own."""

from __future__ import annotations

from collections.abc import Collection, Mapping

from biject.adapters.targets import part_of_any
from biject.checkpoint.adapter import Stored
from biject.errors import WeightsError, shown
from biject.model import Model
from biject.nn.lora import sizes

_ROOM = 16
"""How much larger parameters may be than the file's largest: those of a somewhat wider base are made, so that
each tensor that does not fit is named."""


def refuse_ranks(model: Model, ranks: Mapping[str, int], stored: Stored) -> None:
    """Refuse ranks that the file is too small for.

    Args:
        model: The base.
        ranks: By the module's name in memory.
        stored: The adapter.

    Raises:
        WeightsError: The settings and the tensors are not of one adapter.
    """
    largest = max((info.numel for name, info in stored.infos().items() if ".lora_" in name), default=0)
    for name, rank in ranks.items():
        numbers = rank * max(sizes(model.get_submodule(name)))
        if numbers > _ROOM * largest:
            raise WeightsError(
                f"{stored.folder}: the adapter does not fit: its rank is {shown(rank)} for `{name}`, "
                f"a matrix of {numbers} numbers, and no tensor of its file has more than {largest}."
            )


def num_outputs(stored: Stored, *, width: int) -> int:
    """Rows of the last matrix of the head that the adapter holds; 0 where it holds none.

    Args:
        stored: The adapter.
        width: Columns that it has at least: those of the base's rows.

    Raises:
        WeightsError: It is no matrix of as many columns.
    """
    heads = {
        name: info.shape
        for name, info in stored.infos().items()
        if name.endswith(("classifier.weight", "score.weight", "classifier.out_proj.weight"))
        and not name.endswith("pre_classifier.weight")
    }
    if not heads:
        return 0
    name, shape = list(heads.items())[-1]
    if len(shape) != 2 or shape[1] < width:
        raise WeightsError(
            f"{stored.folder}: the adapter does not fit this model: `{name}` should be a matrix of a row a "
            f"class with {width} columns or more, found {shape}."
        )
    return shape[0]


def trains_head(stored: Stored, task: str | None, ends: Collection[str]) -> bool:
    """Whether an adapter has the whole head of its own, as PEFT's have by their task; without one, a head is
    frozen with the base.

    Args:
        stored: The adapter.
        task: PEFT's word for the head.
        ends: Of the names of the head's modules.
    """
    if task is not None and stored.values.get("task_type") == task:
        return True
    named = [name for name in stored.config.modules_to_save if part_of_any(name, ends)]
    if named:
        return any(name in ends for name in named)
    modules = (name.removesuffix(".weight") for name in stored.infos() if name.endswith(".weight"))
    return any(".lora_" not in name and part_of_any(name, ends) for name in modules)
