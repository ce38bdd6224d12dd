"""Run `transformers`: load a folder with a pinned backend, see what HF itself missed, stay quiet."""

from __future__ import annotations

import contextlib
import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from biject.errors import MissingExtraError

if TYPE_CHECKING:
    import torch
    from torch import nn


_CRITICAL = 50  # logging.CRITICAL


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """Silence HF's log lines, progress bars and warnings: the report has them in its own words."""
    try:
        from transformers.utils import logging
    except ImportError as error:
        raise MissingExtraError(
            "verify compares with transformers, which is not installed: pip install 'biject[verify]'"
        ) from error
    level, bars = logging.get_verbosity(), logging.is_progress_bar_enabled()
    logging.set_verbosity(_CRITICAL)
    logging.disable_progress_bar()  # type: ignore[no-untyped-call]
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.set_verbosity(level)
        if bars:
            logging.enable_progress_bar()  # type: ignore[no-untyped-call]


@dataclass(frozen=True, kw_only=True)
class HFModel:
    """A loaded HF model and the names that HF could not match; all sets are sorted tuples."""

    model: nn.Module
    class_name: str
    attention: str
    missing: tuple[str, ...]
    unexpected: tuple[str, ...]
    mismatched: tuple[str, ...]
    errors: tuple[str, ...]


def load_hf(
    folder: Path,
    *,
    class_name: str,
    dtype: torch.dtype,
    attention: str,
    overrides: dict[str, Any] | None = None,
) -> HFModel:
    """Load `folder` with the named HF class, local files only, in eval mode.

    Args:
        folder: A checkpoint folder.
        class_name: E.g. `BertForMaskedLM`; the config's `architectures` names it.
        dtype: Given to HF explicitly, so that its own `auto` rules stay out of the comparison.
        attention: The backend, pinned: the family's own, or `eager` where attention maps are needed.
        overrides: Config keys for HF's constructor, e.g. `legacy` as the file's tensors decided it.

    Raises:
        ValueError: transformers has no such class.
    """
    with quiet():
        import transformers

        cls = getattr(transformers, class_name, None)
        if cls is None:
            raise ValueError(f"transformers {transformers.__version__} has no class {class_name!r}")
        model, info = cls.from_pretrained(
            folder,
            dtype=dtype,
            attn_implementation=attention,
            local_files_only=True,
            output_loading_info=True,
            ignore_mismatched_sizes=True,  # named in `mismatched`, and a failure there
            **(overrides or {}),
        )
    model.eval()
    return HFModel(
        model=model,
        class_name=class_name,
        attention=attention,
        missing=_names(info.get("missing_keys", ())),
        unexpected=_names(info.get("unexpected_keys", ())),
        mismatched=_names(info.get("mismatched_keys", ())),
        errors=_names(info.get("error_msgs", ())),
    )


@contextlib.contextmanager
def eager(loaded: HFModel) -> Iterator[None]:
    """Let a loaded model compute its attention written out for a while, which shows the maps."""
    change: Any = loaded.model
    change.set_attn_implementation("eager")
    try:
        yield
    finally:
        change.set_attn_implementation(loaded.attention)


def _names(keys: Any) -> tuple[str, ...]:
    return tuple(sorted(key if isinstance(key, str) else str(key[0]) for key in keys))
