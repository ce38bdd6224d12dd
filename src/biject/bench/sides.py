"""Both models of a shape, with the same random weights. `transformers` is the peer: nothing else needs it."""

from __future__ import annotations

import gc
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch

from biject.errors import MissingExtraError
from biject.nn.kernels import Numerics
from biject.pretrained import PretrainedModel, load
from biject.verify.hf import quiet

SHAPES: dict[str, tuple[str, dict[str, Any]]] = {
    "minilm": ("Bert", {"hidden_size": 384, "num_hidden_layers": 6, "intermediate_size": 1536}),
    "bert-base": ("Bert", {}),
    "deberta-v3-base": (
        "DebertaV2",
        {
            "hidden_size": 768, "num_hidden_layers": 12, "num_attention_heads": 12, "intermediate_size": 3072,
            "relative_attention": True, "position_buckets": 256, "norm_rel_ebd": "layer_norm",
            "share_att_key": True, "pos_att_type": ["p2c", "c2p"], "position_biased_input": False,
            "vocab_size": 128100, "type_vocab_size": 0, "max_relative_positions": -1,
        },
    ),
    "modernbert-base": ("ModernBert", {}),
    "gpt2": ("GPT2", {}),
    "qwen2-0.5b": (
        "Qwen2",
        {
            "hidden_size": 896, "intermediate_size": 4864, "num_hidden_layers": 24, "num_attention_heads": 14,
            "num_key_value_heads": 2, "vocab_size": 151936, "tie_word_embeddings": True,
        },
    ),
}  # fmt: skip
"""Hugging Face's config class and what its defaults do not say."""
_HEADS = {"GPT2": "LMHeadModel", "Qwen2": "ForCausalLM"}
"""Of decoders; of all others sequence classification."""


@contextmanager
def models(
    shape: str, dtype: torch.dtype, *, forms: Sequence[Numerics] = ("exact",), device: str = "cpu"
) -> Iterator[tuple[list[PretrainedModel], Any]]:
    """(ours in every form, theirs), each in memory of its own.

    Raises:
        MissingExtraError: transformers is not installed.
    """
    try:
        import transformers
    except ImportError as error:
        raise MissingExtraError(
            "bench compares with transformers, which is not installed: pip install 'biject[verify]'"
        ) from error
    kind, values = SHAPES[shape]
    with quiet(), tempfile.TemporaryDirectory() as folder:
        torch.manual_seed(0)
        peer = getattr(transformers, kind + _HEADS.get(kind, "ForSequenceClassification"))
        peer(getattr(transformers, f"{kind}Config")(**values)).to(dtype).save_pretrained(folder)
        theirs = peer.from_pretrained(folder, dtype=dtype, attn_implementation=_attention(kind)).to(device)
        ours = [load(folder, dtype=dtype, device=device, numerics=form).eval() for form in forms]
        yield ours, theirs.eval()
        del ours, theirs
    gc.collect()


def _attention(kind: str) -> str:
    return "eager" if kind == "DebertaV2" else "sdpa"
