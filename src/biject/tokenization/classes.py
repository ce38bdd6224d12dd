"""Which of HF's tokenizer classes a folder means.

Source: `AutoTokenizer.from_pretrained`, transformers 5.23, models/auto/tokenization_auto.py.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from biject.checkpoint.strict_json import shown
from biject.errors import CheckpointError
from biject.tokenization.files import SETTINGS, TokenizerFiles

GENERIC = "TokenizersBackend"
"""The class that takes tokenizer.json as it is."""

_BY_MODEL_TYPE = {
    "albert": "AlbertTokenizer",
    "bert": "BertTokenizer",
    "camembert": "CamembertTokenizer",
    "deberta": "DebertaTokenizer",
    "deberta-v2": "DebertaV2Tokenizer",
    "distilbert": "BertTokenizer",
    "electra": "BertTokenizer",
    "gpt2": "GPT2Tokenizer",
    "modernbert": GENERIC,
    "qwen2": "Qwen2Tokenizer",
    "qwen3": "Qwen2Tokenizer",
    "roberta": "RobertaTokenizer",
    "xlm-roberta": "XLMRobertaTokenizer",
    "xlm-roberta-xl": GENERIC,
}
_OWN_CLASS_ALWAYS = frozenset({"modernbert", "qwen2", "xlm-roberta-xl"})
"""Where another class than the model type's own is named, its own is meant."""

_ALIASES = {
    "ElectraTokenizer": "BertTokenizer",
    "MobileBertTokenizer": "BertTokenizer",
    "ConvBertTokenizer": "BertTokenizer",
    "SqueezeBertTokenizer": "BertTokenizer",
    "LongformerTokenizer": "RobertaTokenizer",
    "PreTrainedTokenizer": GENERIC,
    "PythonBackend": GENERIC,
    "BloomTokenizer": GENERIC,
}


def class_of(files: TokenizerFiles, config: Mapping[str, Any]) -> str | None:
    """HF's class for a folder, without `Fast`; None where neither settings nor config name one.

    Raises:
        CheckpointError: `tokenizer_class` is no text.
    """
    model_type = config.get("model_type")
    own = _BY_MODEL_TYPE.get(model_type) if isinstance(model_type, str) else None
    named = (files.settings or {}).get("tokenizer_class") or config.get("tokenizer_class")
    if named is None:
        return own
    if not isinstance(named, str):
        raise CheckpointError(f"{SETTINGS}: `tokenizer_class` must be a class's name, found {shown(named)}.")
    name = named.removesuffix("Fast")
    if own is not None and model_type in _OWN_CLASS_ALWAYS:
        return own
    if name == "LlamaTokenizer" and _is_byte_level(files.serialized):
        return GENERIC
    return _ALIASES.get(name, name)


def _is_byte_level(serialized: Mapping[str, Any] | None) -> bool:
    """Whether tokenizer.json cuts bytes: LLaMA 3's does, though it names LLaMA 2's class."""
    return "'ByteLevel'" in repr(
        [(serialized or {}).get(key) for key in ("pre_tokenizer", "decoder", "normalizer", "post_processor")]
    )
