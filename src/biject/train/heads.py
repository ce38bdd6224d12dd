"""`head_of`: which head a model has, whether it is one of ours or transformers' own."""

from __future__ import annotations

from typing import Any

from torch import nn

_BY_CLASS = {
    "ForCausalLM": "causal",
    "LMHeadModel": "causal",
    "ForMaskedLM": "mlm",
    "ForTokenClassification": "tokcls",
    "ForSequenceClassification": "seqcls",
    "ForImageClassification": "imgcls",
}
"""What names of transformers' classes end with. A causal model's loss is that of the next tokens there, too,
and only the name tells it (transformers 5.23, trainer.py: `compute_loss` goes by names as well).
"""


def head_of(model: nn.Module) -> str | None:
    """The head by our names, `seq2seq` of an encoder-decoder, or None where neither model nor class says it.

    Args:
        model: Ours, transformers', or one of them inside of PEFT's.
    """
    own = getattr(model, "head_name", None)
    if own is not None:
        return str(own)
    unwrap: Any = getattr(model, "get_base_model", None)  # PEFT's
    inner = model if unwrap is None else unwrap()
    name = type(inner).__name__
    if name.endswith("ForConditionalGeneration"):  # those that only decode are of many kinds
        both = getattr(getattr(inner, "config", None), "is_encoder_decoder", False)
        return "seq2seq" if both else None
    return head_by_class(name)


def head_by_class(name: str) -> str | None:
    """The head of a class of transformers by its name."""
    return next((head for end, head in _BY_CLASS.items() if name.endswith(end)), None)
