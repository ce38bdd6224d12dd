"""The first version of a family file: the nearest relative with another name, and what is left to decide."""

from __future__ import annotations

import textwrap
from collections.abc import Iterable

from biject.checkpoint.source import Source
from biject.events import notice
from biject.newfamily.facts import DraftError, class_name, module_name
from biject.newfamily.from_tensors import draft_from_tensors
from biject.newfamily.relatives import Relative, nearest_relative
from biject.newfamily.source_text import docstring, quoted

_TEMPLATE = '''\
"""{title}, drafted by `biject new-family` from {relative} ({share:.0%} of the tensors' names).

Source: transformers, models/{folder}/modeling_{folder}.py; its forward methods are the specification.
{todo}"""

from __future__ import annotations

from dataclasses import replace

from biject.families.{module} import FAMILY as RELATIVE

FAMILY = replace(
    RELATIVE,
    model_type={model_type},
    prefix={prefix},
    heads={{
        name: replace(head, hf_class=head.hf_class.replace({old_stem}, {new_stem}), also=())
        for name, head in RELATIVE.heads.items()
    }},
)
'''

ENOUGH = 0.95
"""A relative that names a smaller share of the tensors helps less than the names and shapes themselves; so
does one whose layers have more than the file's."""


def first_draft(source: Source) -> tuple[str, str]:
    """The text of a family file, and what it was drafted from: the nearest relative, or the tensors alone."""
    relative = nearest_relative(source)
    near = f"{relative.family.model_type} ({relative.share:.0%} of the tensors' names)"
    if relative.share < ENOUGH or relative.lacking:
        try:
            return draft_from_tensors(source), f"the tensors' names and shapes (nearest relative: {near})"
        except DraftError as error:
            notice("draft-from-relative", f"{error} The draft follows the nearest relative.")
    return draft(source, relative), near


def draft(source: Source, relative: Relative) -> str:
    """The text of a family file for the checkpoint: the relative under another name."""
    module = module_name(source.config)
    old_stem = relative.family.heads["base"].hf_class.removesuffix("Model")
    return _TEMPLATE.format(
        title=docstring(source.config["model_type"]),
        relative=relative.family.model_type,
        share=relative.share,
        folder=docstring(module),
        todo=docstring(_todo(relative)),
        module=relative.family.model_type.replace("-", "_"),
        model_type=quoted(source.config["model_type"]),
        prefix=quoted(relative.prefix),
        old_stem=quoted(old_stem),
        new_stem=quoted(_stem(source, module)),
    )


def _stem(source: Source, module: str) -> str:
    """The first part of HF's class names: of the class that config.json names, else of `model_type`."""
    architecture = class_name(source.config)
    if architecture is None:
        return "".join(part.capitalize() for part in module.split("_"))
    return architecture.split("For")[0].removesuffix("Model")


def _todo(relative: Relative) -> str:
    lines = [
        *_listed("config keys that no row knows", relative.unknown_keys),
        *_listed("tensors that no rule names", relative.unnamed),
    ]
    return "\n".join(["", "To do:", *lines, ""]) if lines else ""


def _listed(title: str, names: Iterable[str], limit: int = 12) -> list[str]:
    names = list(names)
    if not names:
        return []
    shown = ", ".join(names[:limit]) + (f" and {len(names) - limit} more" if len(names) > limit else "")
    return textwrap.wrap(
        f"* {title}: {shown}",
        width=108,
        subsequent_indent="  ",
        break_long_words=False,
        break_on_hyphens=False,
    )
