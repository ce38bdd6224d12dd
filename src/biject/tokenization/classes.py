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
    "gemma2": "GemmaTokenizer",
    "gemma3": "GemmaTokenizer",
    "gemma3_text": "GemmaTokenizer",
    "gpt2": "GPT2Tokenizer",
    "hyperclovax_vision_v2": "GPT2Tokenizer",
    "qwen2": "Qwen2Tokenizer",
    "qwen3": "Qwen2Tokenizer",
    "qwen3_5": "Qwen3_5Tokenizer",
    "qwen3_5_moe": "Qwen3_5Tokenizer",
    "qwen3_5_moe_text": "Qwen3_5Tokenizer",
    "qwen4_exp": "Qwen3_5Tokenizer",
    "roberta": "RobertaTokenizer",
    "siglip2": "Siglip2Tokenizer",
    "xlm-roberta": "XLMRobertaTokenizer",
}
"""The class of a type that has one: of every family here, and of every type in `_WRONGLY_NAMED`."""

_AS_IT_IS = frozenset(
    """
    EvollaModel arctic aria beam bigbird_pegasus camembertv2-base canary chatlm cohere_asr ernie4_5
    ernie4_5_moe flex_olmo fuyu glm glm4 glm4_moe glm4_moe_lite glm4v glm4v_moe glm_image glmasr got_ocr2
    gpt_bigcode gradium_phonon_tts granite granitemoe granitemoehybrid granitemoeshared h2ovl_chat hyperclovax
    hyperclovax_vlm internlm2 internlm3 iquestcoder jamba kimi_k25 kimi_linear kosmos-2 llava llava_next
    mimo_v2_flash minicpm3 minicpm_ocr minicpmv minicpmv4_6 minicpmv4_7 minimax_m2 ministral ministral3
    mistral mistral3 mistral_large4 mixtral modernbert modernbert-decoder molmo molmo2 nemo_speechlm nemotron
    nvfp4 nystromformer olmo2 olmo3 olmo_hybrid opencua openvla paddleocr_vl pegasus_x persimmon phi3 phi3_v
    phimoe pix2struct pixtral pocket_tts smolvlm stablelm step3_vl umt5 vipllava voxtral voxtral_realtime
    xlm-roberta-xl
    """.split()  # noqa: SIM905
)
"""Types whose tokenizer.json is taken as it is, whatever class is named: TOKENIZER_MAPPING_NAMES has
TokenizersBackend, or MistralCommonBackend, which needs mistral-common and its tekken.json.
"""

_WRONGLY_NAMED = frozenset(
    """
    arctic camembertv2-base chatlm cohere_asr ernie4_5 ernie4_5_moe fuyu h2ovl_chat hyperclovax
    hyperclovax_vision_v2 hyperclovax_vlm internlm2 internlm3 iquestcoder jamba llava llava_next minicpm3
    minicpmv minimax_m2 modernbert modernbert-decoder molmo molmo2 nemotron nvfp4 opencua openvla paddleocr_vl
    phi3 phi3_v phimoe qwen2 qwen3_5 qwen3_5_moe qwen3_5_moe_text qwen4_exp siglip2 smolvlm step3_vl vipllava
    """.split()  # noqa: SIM905
)
"""Types, or names of models, whose folders name a wrong class: the type's own is meant
(MODELS_WITH_INCORRECT_HUB_TOKENIZER_CLASS)."""

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
    settings = files.settings or {}
    own = _class_of_type(config.get("model_type"))
    named = settings.get("tokenizer_class") or config.get("tokenizer_class")
    if named is None:
        return own
    if not isinstance(named, str):
        raise CheckpointError(f"{SETTINGS}: `tokenizer_class` must be a class's name, found {shown(named)}.")
    name = named.removesuffix("Fast")
    if not _is_remote(settings):
        wrong = bool(_WRONGLY_NAMED.intersection(_texts(config, "model_type", "model_name")))
        if name == "LlamaTokenizer" and not wrong and _is_byte_level(files.serialized):
            return GENERIC
        if own == GENERIC or (own is not None and wrong):
            return own
    return _ALIASES.get(name, name)


def _class_of_type(model_type: object) -> str | None:
    """The class that HF has for a type of model, if it is known here."""
    if not isinstance(model_type, str):
        return None
    return GENERIC if model_type in _AS_IT_IS else _BY_MODEL_TYPE.get(model_type)


def _texts(config: Mapping[str, Any], *keys: str) -> list[str]:
    return [value for key in keys if isinstance(value := config.get(key), str)]


def _is_remote(settings: Mapping[str, Any]) -> bool:
    """Whether the folder names code of its own for its tokenizer: HF, which does not run it unasked, then
    takes the class that is named, whatever the model's type is.
    """
    code = settings.get("auto_map")
    return bool(code.get("AutoTokenizer") if isinstance(code, Mapping) else code)


def _is_byte_level(serialized: Mapping[str, Any] | None) -> bool:
    """Whether tokenizer.json cuts bytes: LLaMA 3's does, though it names LLaMA 2's class."""
    return "'ByteLevel'" in repr(
        [(serialized or {}).get(key) for key in ("pre_tokenizer", "decoder", "normalizer", "post_processor")]
    )
