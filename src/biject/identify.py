"""What a checkpoint is: its family, its head, and the plan that binds its tensors; from config and
names, no torch.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from biject.config.common import check_problem
from biject.config.limits import check_sizes
from biject.config.model import ModelConfig
from biject.config.stored_codes import StoredCodes, stored_codes
from biject.errors import ConfigError, shown
from biject.events import notice
from biject.families import ALL_HEADS, Family, family
from biject.weights.plan import Plan, Same, find_spelling, make_plan

NewHead = Mapping[str, Any]
"""`labels`: names of the new head's outputs; `problem_type`: as in config.json."""


@dataclass(frozen=True, kw_only=True)
class Identity:
    """One file read with one head."""

    family: Family
    values: Mapping[str, Any]
    """The config by our field names, resolved."""
    config: ModelConfig
    """What the modules are built from."""
    hf_config: Mapping[str, Any]
    """config.json, with a new head's labels where one was requested."""
    head: str
    file_head: str
    """The head that the file itself has."""
    architecture: str | None
    """The class that config.json names first."""
    plan: Plan
    codes: StoredCodes | None = None
    """What the file holds in few bits, if anything."""


def identify(
    config: Mapping[str, Any],
    names: Collection[str],
    *,
    same: Same,
    head: str = "auto",
    legacy: bool | None = None,
    new_head: NewHead | None = None,
    num_elements: int | None = None,
    where: str = "the checkpoint",
) -> Identity:
    """Read a config and the names of the tensors beside it.

    Args:
        config: config.json.
        names: tensors of the file, in file order.
        same: whether two tensors of the file hold the same values (asked about stored twins only).
        head: one of `ALL_HEADS`, or `auto` for the file's own.
        legacy: which of DeBERTa's masked-LM heads, where file and config disagree.
        new_head: make the head new instead of reading it.
        num_elements: of all tensors of the file; without it, sizes are not held against the file.
        where: folder, for messages.

    Raises:
        ConfigError, WeightsError: the config or the tensors cannot be used; the message says why.
    """
    known = family(config.get("model_type"))
    codes = stored_codes(config, names, where)
    if codes is not None:
        others = codes.others()
        names = [name for name in names if name not in others]
        num_elements = None if num_elements is None else 2 * num_elements  # two in a byte
    hf_config = _with_labels(config, new_head, head)
    read = known.config.read(hf_config)
    check_problem(read)
    layers, steps = known.depth(read)
    check_sizes(read, layers=layers, steps=steps, num_tensors=len(names), num_elements=num_elements)
    architecture = architecture_of(config)
    file_head = _file_head(known, known.resolved(read, names), architecture, names)
    chosen = file_head if head == "auto" else head
    hf_head = known.require_head(chosen)
    values = known.resolved(read, names, chosen, legacy)
    built = known.build(values, chosen)
    plan = make_plan(
        hf_head.specs(values),
        names,
        prefix=known.prefix_of(chosen),
        tied=built.tied_output,
        same=same,
        known=lambda: known.all_specs(values),
        buffers=known.all_passthrough(values),
        new_head=new_head is not None and chosen != "base",
        others=known.prefixes,
        own_head=chosen == file_head and new_head is None,
        where=where,
    )
    return Identity(
        family=known,
        values=values,
        config=built,
        hf_config=hf_config,
        head=chosen,
        file_head=file_head,
        architecture=architecture,
        plan=plan,
        codes=codes,
    )


def with_family(config: Mapping[str, Any], family: str | None, *, where: str) -> Mapping[str, Any]:
    """config.json with the family that the caller names, where it names none.

    Args:
        config: config.json.
        family: a `model_type`, or None.
        where: folder, for messages.

    Raises:
        ConfigError: config.json names another one.
    """
    own = config.get("model_type")
    if family is None or own == family:
        return config
    if own is not None:
        raise ConfigError(
            f"{where}: config.json: `model_type` is {shown(own)}, but family={family!r} was given, which is "
            "for folders without one. Leave it out, or correct the file."
        )
    return {**config, "model_type": family}


def architecture_of(config: Mapping[str, Any]) -> str | None:
    """The class that `architectures` names first, or None."""
    named = config.get("architectures")
    return named[0] if isinstance(named, list) and named and isinstance(named[0], str) else None


def _file_head(
    known: Family, values: Mapping[str, Any], architecture: str | None, names: Collection[str]
) -> str:
    """The file's own head: by class, else by its tensors."""
    if architecture is not None:
        head = known.head_of(architecture)
        if head is not None:
            return head
        notice(
            "unsupported-class",
            f"config.json: `architectures` names {architecture[:100]}, a head that Biject does not compute "
            f"for `{known.model_type}`: its base model is used, the head's tensors are passed through.",
        )
        return "base"
    has = set(names)
    for name in (*(h for h in ALL_HEADS if h not in ("base", "tokcls")), "tokcls"):
        specs = known.heads[name].specs(values) if name in known.heads else ()
        spelling = find_spelling(specs, has, known.prefix_of(name), *known.prefixes)
        own = [
            spec
            for spec in specs
            if not spec.tied_to and (not spec.base or spec.memory.startswith("head.pooler."))
        ]
        if own and all(spelling.name(spec) in has or spec.alias in has for spec in own):
            return name
    return "base"


def with_labels(config: Mapping[str, Any], labels: Sequence[str]) -> dict[str, Any]:
    """The config with these names of the outputs."""
    out = {key: value for key, value in config.items() if key != "num_labels"}
    out["id2label"] = {str(i): label for i, label in enumerate(labels)}
    out["label2id"] = {label: i for i, label in enumerate(labels)}
    return out


def _with_labels(config: Mapping[str, Any], new_head: NewHead | None, head: str) -> Mapping[str, Any]:
    """The config with a new head's labels; a new question answerer has the two that it needs."""
    if new_head is None:
        return config
    strange = set(new_head) - {"labels", "problem_type"}
    if strange:
        raise ConfigError(f"new_head takes `labels` and `problem_type`; found {', '.join(sorted(strange))}.")
    out = dict(config)
    labels = new_head.get("labels")
    if head == "qa" and labels is None:
        for key in ("id2label", "label2id", "num_labels"):
            out.pop(key, None)
    if labels is not None:
        labels = [labels] if isinstance(labels, str) else labels
        listed = isinstance(labels, list | tuple) and all(isinstance(label, str) for label in labels)
        if not listed or not labels or len(set(labels)) < len(labels):
            raise ConfigError(f"new_head: `labels` must be different names, at least one; found {labels!r}.")
        out = with_labels(out, labels)
    if "problem_type" in new_head:
        out["problem_type"] = new_head["problem_type"]
    return out
