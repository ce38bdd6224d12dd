"""Reference checkpoints made on the spot by `transformers`: the oracle needs no network and no stored file.

Every parameter is random, scales and biases included: one that a loader dropped, swapped or left at its
initial value then shows in the outputs.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from biject.families import Family, family
from biject.verify.reference_tokenizer import write_tokenizer

if TYPE_CHECKING:
    import torch
    from torch import nn

AUTO_CLASSES = {
    "base": "AutoModel",
    "seqcls": "AutoModelForSequenceClassification",
    "tokcls": "AutoModelForTokenClassification",
    "qa": "AutoModelForQuestionAnswering",
    "mlm": "AutoModelForMaskedLM",
    "causal": "AutoModelForCausalLM",
    "rtd": "AutoModelForPreTraining",
    "imgcls": "AutoModelForImageClassification",
}


# ALBERT's default is none at all, which would leave its dropout unseen.
_DROPOUT = {"albert": {"hidden_dropout_prob": 0.1, "attention_probs_dropout_prob": 0.1}}


def reference_config(
    model_type: str, *, size: str = "tiny", overrides: dict[str, Any] | None = None
) -> dict[str, Any]:
    """The keys for HF's config class: the family's `tiny` or published `base` sizes, then `overrides`."""
    if size not in ("tiny", "base"):
        raise ValueError(f"size is 'tiny' or 'base', not {size!r}")
    own = family(model_type)
    sizes = {
        **(own.tiny if size == "tiny" else own.base),
        **_DROPOUT.get(model_type, {}),
        **(overrides or {}),
    }
    return {key: value for key, value in sizes.items() if key != "model_type"}


def make_reference(
    model_type: str,
    head: str,
    folder: Path,
    *,
    size: str = "tiny",
    overrides: dict[str, Any] | None = None,
    dtype: torch.dtype | None = None,
    seed: int = 0,
) -> Path:
    """Make one HF checkpoint folder (weights, config, tokenizer) with a fixed seed and return its path.

    Args:
        model_type: HF's `model_type`, e.g. `deberta-v2`.
        head: One of `biject.families.ALL_HEADS`.
        folder: Where it is written.
        size: `tiny`, or `base` for the published base size.
        overrides: Config keys that differ from the family's own.
        dtype: What the tensors are stored as; float32 if None.
        seed: Seed of the random weights.
    """
    import transformers

    from biject.verify.hf import quiet

    values = reference_config(model_type, size=size, overrides=overrides)
    with quiet():
        config = transformers.AutoConfig.for_model(model_type, **values)
        model = _made(config, family(model_type), head)
        randomise(model, seed=seed)
        model.eval()
        (model if dtype is None else model.to(dtype)).save_pretrained(folder)
    written = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    if family(model_type).reads_pictures:
        write_preprocessor(folder, written)
    else:
        write_tokenizer(folder, written)
    return folder


def _made(config: Any, known: Family, head: str) -> Any:
    """HF's model with random values; of classes that no `Auto…` makes, by the class itself."""
    import transformers

    if known.reads_pictures:  # DeiT has two classes that classify, and AutoModel… asks config.json which
        return getattr(transformers, known.heads[head].hf_class)(config)
    return getattr(transformers, AUTO_CLASSES[head]).from_config(config)


def write_preprocessor(folder: Path, config: Mapping[str, Any]) -> None:
    """preprocessor_config.json: pictures of the model's size, by bilinear resizing, around 0."""
    size = config["image_size"]
    height, width = (size, size) if isinstance(size, int) else size
    values = {
        "do_normalize": True,
        "do_rescale": True,
        "do_resize": True,
        "image_mean": [0.5] * config["num_channels"],
        "image_processor_type": "ViTImageProcessor",
        "image_std": [0.5] * config["num_channels"],
        "resample": 2,
        "rescale_factor": 1 / 255,
        "size": {"height": height, "width": width},
    }
    text = json.dumps(values, indent=2) + "\n"
    (folder / "preprocessor_config.json").write_text(text, encoding="utf-8")


def randomise(model: nn.Module, *, seed: int) -> None:
    """Give every parameter random values of a sensible scale; tied parameters stay tied."""
    import torch
    from torch import nn

    generator = torch.Generator().manual_seed(seed)
    seen: set[int] = set()
    with torch.no_grad():
        for module in model.modules():
            for name, parameter in module.named_parameters(recurse=False):
                if id(parameter) in seen:
                    continue
                seen.add(id(parameter))
                noise = torch.randn(parameter.shape, generator=generator)
                kind = type(module).__name__
                if kind.endswith(("LayerNorm", "RMSNorm")) and name == "weight":
                    parameter.copy_(1 + 0.1 * noise)
                elif isinstance(module, nn.Embedding):
                    parameter.copy_(0.5 * noise)
                elif parameter.dim() == 1:
                    parameter.copy_(0.1 * noise)
                else:  # keeps a row's variance: 0.05 at a fan-in of 256
                    fan_in = len(parameter) if kind == "Conv1D" else parameter[0].numel()
                    parameter.copy_(0.8 / math.sqrt(fan_in) * noise)
