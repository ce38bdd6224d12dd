"""Run `transformers`: load a folder with a pinned backend, see what HF itself missed, stay quiet."""

from __future__ import annotations

import contextlib
import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from biject.checkpoint.source import Source
from biject.errors import ConfigError, MissingExtraError, shown
from biject.nn.addresses import align
from biject.verify.staged import staged

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
    reordered: tuple[str, ...] = ()
    """Parameters that a `.bin` stores transposed and that were laid out as safetensors stores them."""


def load_hf(
    source: Source,
    *,
    class_name: str,
    dtype: torch.dtype,
    attention: str,
    overrides: dict[str, Any] | None = None,
    as_stored: bool = False,
) -> HFModel:
    """Load a folder's config and weights with the named HF class, in eval mode.

    Nothing else of the folder is within reach of transformers (`staged`), and none of its code is run.

    Args:
        source: A checkpoint folder.
        class_name: E.g. `BertForMaskedLM`; the config's `architectures` names it.
        dtype: Given to HF explicitly, so that its own `auto` rules stay out of the comparison.
        attention: The backend, pinned: the family's own, or `eager` where attention maps are needed.
        overrides: Config keys for HF's constructor, e.g. `legacy` as the file's tensors decided it.
        as_stored: Keep the memory order in which a `.bin` holds matrices; some hold them transposed, and
            HF's kernels then give other bits. Safetensors knows one order only.

    Raises:
        ConfigError: It is no model class of transformers for this family.
    """
    with quiet(), staged(source) as folder:
        model, info = _model_class(class_name, source).from_pretrained(
            folder,
            trust_remote_code=False,
            dtype=dtype,
            attn_implementation=attention,
            local_files_only=True,
            output_loading_info=True,
            ignore_mismatched_sizes=True,  # named in `mismatched`, and a failure there
            **(overrides or {}),
        )
    model.eval()
    _as_configured(model)
    reordered = [] if as_stored else _lay_out(model)
    align(model)
    return HFModel(
        model=model,
        reordered=tuple(reordered),
        class_name=class_name,
        attention=attention,
        missing=_names(info.get("missing_keys", ())),
        unexpected=_names(info.get("unexpected_keys", ())),
        mismatched=_names(info.get("mismatched_keys", ())),
        errors=_names(info.get("error_msgs", ())),
    )


def _lay_out(model: nn.Module) -> list[str]:
    """Have every parameter lie row by row; those that did not."""
    found = [name for name, parameter in model.named_parameters() if not parameter.is_contiguous()]
    for name in found:
        parameter = model.get_parameter(name)
        parameter.data = parameter.data.contiguous()
    return found


def _model_class(name: str, source: Source) -> Any:
    """A class of the family's own module in transformers; `AutoModel…` and everything else is refused."""
    import transformers

    found = getattr(transformers, name, None)
    config_class = getattr(found, "config_class", None)
    own = isinstance(found, type) and issubclass(found, transformers.PreTrainedModel)
    model_type = source.config.get("model_type")
    if not own or (model_type is not None and getattr(config_class, "model_type", None) != model_type):
        raise ConfigError(
            f"{source.folder}: config.json names the class {shown(name)}, which is not loaded: it is no "
            f"model class of transformers {transformers.__version__} for {shown(model_type)}."
        )
    return found


def backend_of(class_name: str) -> str:
    """HF's attention of a class: `eager` where it has no other, else `sdpa` (of an unknown class, too)."""
    with quiet():
        import transformers

        found = getattr(transformers, class_name, None)
    has = getattr(found, "_supports_sdpa", found is None)
    return "sdpa" if has else "eager"


@contextlib.contextmanager
def eager(loaded: HFModel) -> Iterator[None]:
    """Let a loaded model compute its attention written out for a while, which shows the maps."""
    change: Any = loaded.model
    change.set_attn_implementation("eager")
    try:
        yield
    finally:
        change.set_attn_implementation(loaded.attention)


def _as_configured(model: nn.Module) -> None:
    """Have bitsandbytes' linears compute in the configured dtype in eval mode as well, also on CPUs with
    AVX512-BF16, and be frozen whole as `replace_with_bnb_linear` leaves them: loading undoes that for biases.
    """
    module: Any
    for module in model.modules():
        if type(module).__module__.startswith("bitsandbytes."):
            module.requires_grad_(False)
            if hasattr(module, "support_avx512bf16_for_cpu"):
                module.support_avx512bf16_for_cpu = False


def _names(keys: Any) -> tuple[str, ...]:
    return tuple(sorted(key if isinstance(key, str) else str(key[0]) for key in keys))
