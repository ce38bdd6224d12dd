"""Reference checkpoints made on the spot by `transformers`: the oracle needs no network and no stored file.

Every parameter is random, scales and biases included: one that a loader dropped, swapped or left at its initial value
then shows in the outputs.
"""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import TYPE_CHECKING, Any

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
}

_COMMON = {"vocab_size": 97, "num_hidden_layers": 2, "num_attention_heads": 4, "intermediate_size": 64}
_TINY: dict[str, dict[str, Any]] = {
    "bert": _COMMON | {"hidden_size": 32, "max_position_embeddings": 64},
    "roberta": _COMMON | {"hidden_size": 32, "max_position_embeddings": 66, "type_vocab_size": 1},
    "xlm-roberta": _COMMON | {"hidden_size": 32, "max_position_embeddings": 66, "type_vocab_size": 1},
    "distilbert": {
        "vocab_size": 97,
        "dim": 32,
        "n_layers": 2,
        "n_heads": 4,
        "hidden_dim": 64,
        "max_position_embeddings": 64,
    },
    "albert": _COMMON
    | {
        "hidden_size": 32,
        "embedding_size": 16,
        "num_hidden_layers": 3,
        "max_position_embeddings": 64,
        "hidden_dropout_prob": 0.1,
        "attention_probs_dropout_prob": 0.1,
    },
    "deberta-v2": _COMMON
    | {
        "hidden_size": 32,
        "max_position_embeddings": 64,
        "relative_attention": True,
        "pos_att_type": ["p2c", "c2p"],
        "position_buckets": 8,
        "share_att_key": True,
        "norm_rel_ebd": "layer_norm",
        "position_biased_input": False,
        "max_relative_positions": -1,
    },
}


def reference_config(model_type: str, *, size: str = "tiny", overrides: dict[str, Any] | None = None) -> dict[str, Any]:
    """The keys handed to HF's config class: the family's `tiny` or published `base` sizes, then `overrides`."""
    if size not in ("tiny", "base"):
        raise ValueError(f"size is 'tiny' or 'base', not {size!r}")
    sizes = _family_sizes(model_type, size)
    return {key: value for key, value in (sizes | (overrides or {})).items() if key != "model_type"}


def _family_sizes(model_type: str, size: str) -> dict[str, Any]:
    return dict(_TINY[model_type]) if size == "tiny" else {}


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
        head: One of `base`, `seqcls`, `tokcls`, `qa`, `mlm`.
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
        model = getattr(transformers, AUTO_CLASSES[head]).from_config(config)
        randomise(model, seed=seed)
        model.eval()
        (model if dtype is None else model.to(dtype)).save_pretrained(folder)
    write_tokenizer(folder, json.loads((folder / "config.json").read_text(encoding="utf-8")))
    return folder


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
                if isinstance(module, nn.LayerNorm) and name == "weight":
                    parameter.copy_(1 + 0.1 * noise)
                elif isinstance(module, nn.Embedding):
                    parameter.copy_(0.5 * noise)
                elif parameter.dim() == 1:
                    parameter.copy_(0.1 * noise)
                else:  # keeps a row's variance: 0.05 at a fan-in of 256
                    parameter.copy_(0.8 / math.sqrt(parameter[0].numel()) * noise)
