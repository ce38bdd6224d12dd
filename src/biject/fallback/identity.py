"""What a checkpoint is to transformers: its class, its head, its sizes; no weight is read."""

from __future__ import annotations

import inspect
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from biject.checkpoint.source import Source
from biject.errors import ConfigError, shown
from biject.fallback.classes import base_classes, head_of, heads_of, hf_config, model_class
from biject.fallback.shapes import check_size, first_position, outline
from biject.fallback.view import FallbackConfig
from biject.identify import NewHead, architecture_of, with_labels


@dataclass(frozen=True, kw_only=True)
class FallbackIdentity:
    """One checkpoint read with one head, by transformers' classes.

    Attributes:
        kind: The class.
        hf: Its config.
        config: Of it what our code asks for.
        hf_config: config.json, with a new head's labels.
        head: `base`, `seqcls`, `tokcls`, `qa`, `mlm`, `causal` or `imgcls`.
        file_head: The head that the file itself has.
        architecture: The class that config.json names first.
        head_tensors: Names of those that the base model does not have.
        shapes: Of all parameters, by transformers' names.
    """

    kind: Any
    hf: Any
    config: FallbackConfig
    hf_config: Mapping[str, Any]
    head: str
    file_head: str
    architecture: str | None
    head_tensors: frozenset[str]
    shapes: Mapping[str, tuple[int, ...]]


def identify_fallback(
    source: Source,
    *,
    head: str = "auto",
    new_head: NewHead | None = None,
    problem_type: str | None = None,
) -> FallbackIdentity:
    """Read a config and what transformers makes of it.

    Args:
        source: The checkpoint.
        head: One of ours, or `auto` for the file's own.
        new_head: `labels` and `problem_type` of a head that starts new.
        problem_type: Of a sequence classifier, as in config.json, which gets it.

    Raises:
        ConfigError: transformers has no such model or head, or cannot use the config.
        MissingExtraError: transformers is not installed.
    """
    where = str(source.folder)
    values = _values(source.config, new_head, problem_type)
    hf = hf_config(values, num_tensors=len(source.tensors), where=where)
    file_head = head_of(values)
    if head == "auto" and file_head is None:
        named = architecture_of(values)
        has = ", ".join(heads_of(str(values.get("model_type"))))
        raise ConfigError(
            f"{where}: config.json names {shown(named) if named else 'no class'} in `architectures`, of "
            f"which no head is known: name one of {has} (finetune: --task)."
        )
    chosen = file_head if head == "auto" and file_head is not None else head
    kind = model_class(values, chosen)
    bases = base_classes(str(values.get("model_type")))
    made = outline(kind, bases, hf, num_tensors=len(source.tensors), where=where)
    elements = sum(info.numel for info in source.tensors.values())
    check_size(made.model, num_elements=elements, where=where)
    return FallbackIdentity(
        kind=kind,
        hf=hf,
        config=FallbackConfig.of(
            hf,
            values=values,
            first_position=first_position(made.model),
            takes=accepted(kind),
        ),
        hf_config=values,
        head=chosen,
        file_head=file_head or "",
        architecture=architecture_of(source.config),
        head_tensors=made.head,
        shapes={name: tuple(tensor.shape) for name, tensor in made.model.state_dict().items()},
    )


def accepted(kind: Any) -> tuple[str, ...]:
    """Names of a class's arguments."""
    return tuple(name for name in inspect.signature(kind.forward).parameters if name != "self")


def _values(config: Mapping[str, Any], new: NewHead | None, problem_type: str | None) -> Mapping[str, Any]:
    """config.json with what a new head changes."""
    out = dict(config)
    if new is not None:
        strange = set(new) - {"labels", "problem_type"}
        if strange:
            raise ConfigError(
                f"new_head takes `labels` and `problem_type`; found {', '.join(sorted(strange))}."
            )
        labels = new.get("labels")
        if labels is not None:
            out = with_labels(out, _checked(labels))
        if "problem_type" in new:
            out["problem_type"] = new["problem_type"]
    if problem_type is not None:
        out["problem_type"] = problem_type
    return out


def _checked(labels: Any) -> Sequence[str]:
    labels = [labels] if isinstance(labels, str) else labels
    listed = isinstance(labels, list | tuple) and all(isinstance(label, str) for label in labels)
    if not listed or not labels or len(set(labels)) < len(labels):
        raise ConfigError(f"new_head: `labels` must be different names, at least one; found {labels!r}.")
    found: Sequence[str] = labels
    return found
