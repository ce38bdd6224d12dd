"""Tiny checkpoints of architectures that Biject has no family of, made on the spot by transformers."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import torch
import transformers
from PIL import Image
from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors

from biject.verify.reference_tokenizer import TEXT

SPECIAL = ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]")
VOCABULARY = {token: i for i, token in enumerate(dict.fromkeys((*SPECIAL, *TEXT.split())))}
SMALL: dict[str, Any] = {
    "vocab_size": 80, "hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2,
    "intermediate_size": 37, "max_position_embeddings": 48, "pad_token_id": 0, "eos_token_id": 3,
    "bos_token_id": 2,
}  # fmt: skip
CONFIGS: dict[str, dict[str, Any]] = {
    "mpnet": SMALL | {"pad_token_id": 1},
    "roformer": SMALL | {"embedding_size": 32, "rotary_value": True},
    "t5": {
        "vocab_size": 80, "d_model": 32, "d_kv": 16, "d_ff": 37, "num_layers": 2, "num_heads": 2,
        "pad_token_id": 0, "eos_token_id": 3, "decoder_start_token_id": 0,
    },
    "gpt_neox": SMALL | {"rotary_pct": 0.5},
    "swin": {
        "image_size": 32, "patch_size": 4, "embed_dim": 16, "depths": [1, 1], "num_heads": [2, 2],
        "window_size": 4,
    },
    "resnet": {"embedding_size": 8, "hidden_sizes": [8, 16], "depths": [1, 1]},
    "canine": {
        "hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 37,
        "max_position_embeddings": 64, "type_vocab_size": 2, "num_hash_buckets": 80, "num_hash_functions": 2,
    },
}  # fmt: skip


def tokenizer(folder: Path, config: dict[str, Any], *, two: bool = False) -> None:
    """A tokenizer.json of whole words, read as it is by both sides; with `two` separators in pairs."""
    vocabulary = dict(VOCABULARY)
    if config.get("pad_token_id") == 1:
        vocabulary["[PAD]"], vocabulary["[UNK]"] = 1, 0
    made = Tokenizer(models.WordLevel(vocabulary, unk_token="[UNK]"))
    made.normalizer = normalizers.BertNormalizer(lowercase=True)
    made.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    made.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]",
        pair=f"[CLS] $A [SEP] {'[SEP] ' if two else ''}$B:1 [SEP]:1",
        special_tokens=[(name, vocabulary[name]) for name in ("[CLS]", "[SEP]")],
    )
    made.add_special_tokens(list(SPECIAL))
    made.save(str(folder / "tokenizer.json"))
    roles = {"pad": "[PAD]", "unk": "[UNK]", "cls": "[CLS]", "sep": "[SEP]", "mask": "[MASK]", "eos": "[SEP]"}
    settings = {f"{role}_token": token for role, token in roles.items()}
    settings |= {"tokenizer_class": "PreTrainedTokenizerFast", "model_max_length": 40}
    (folder / "tokenizer_config.json").write_text(json.dumps(settings, indent=2))


def make(folder: Path, model_type: str, class_name: str, **changes: Any) -> Path:
    """A checkpoint with every weight random, none at 0 or 1."""
    values = {**CONFIGS.get(model_type, {}), **changes}
    config = transformers.AutoConfig.for_model(model_type, **values)
    torch.manual_seed(0)
    model = getattr(transformers, class_name)(config)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.02 * torch.randn(parameter.shape))
    model.save_pretrained(folder)
    if "vocab_size" in values or model_type == "canine":
        tokenizer(folder, values, two=model_type == "longformer")
    else:
        processor(folder)
    return folder


def processor(folder: Path) -> None:
    """preprocessor_config.json for pictures of 32 by 32."""
    values = {
        "image_processor_type": "ViTImageProcessor", "size": {"height": 32, "width": 32}, "do_resize": True,
        "do_rescale": True, "rescale_factor": 1 / 255, "do_normalize": True, "image_mean": [0.5] * 3,
        "image_std": [0.5] * 3, "resample": 2,
    }  # fmt: skip
    (folder / "preprocessor_config.json").write_text(json.dumps(values))


def pictures(folder: Path, count: int = 8) -> Path:
    """A folder of dark pictures and one of light ones."""
    draw = np.random.default_rng(0)
    for label, base in (("dark", 40), ("light", 200)):
        (folder / label).mkdir(parents=True)
        for index in range(count):
            pixels = (draw.integers(0, 50, (32, 32, 3)) + base).astype(np.uint8)
            Image.fromarray(pixels).save(folder / label / f"{index}.png")
    return folder
