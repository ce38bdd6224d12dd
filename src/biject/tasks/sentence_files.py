"""An embedder's and a reranker's files beside a model, as all releases of sentence-transformers read them."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from biject.checkpoint.embedder import MODULES
from biject.checkpoint.strict_json import parse_object
from biject.model import Model
from biject.tasks.dense import dense_files, dense_of
from biject.tasks.sentence import MODE_KEYS, MODEL, TRANSFORMER_FILES, Sentence, read_sentence
from biject.tokenization.tokenizer import Tokenizer

_TYPES = "sentence_transformers.models."


def sentence_files(model: Model, tokenizer: Tokenizer, sentence: Sentence) -> dict[str, bytes]:
    """modules.json and what it names; the transformer is the folder itself.

    Where a folder says these settings already, its files stay as they are, but for the linears' weights.

    Args:
        model: Has the linears behind pooling.
        tokenizer: Its `model_max_length` is the limit where the settings have none.
        sentence: How vectors are made.
    """
    if keeps_files(model, sentence):
        return {
            f"{stage.folder.relative_to(model.source.folder).as_posix()}/{name}": content
            for made, stage in zip(dense_of(model) or (), sentence.dense, strict=True)
            for name, content in dense_files(made, stage).items()
        }
    modules = [("", "Transformer"), ("1_Pooling", "Pooling")]
    pooling: dict[str, Any] = {"word_embedding_dimension": model.config.hidden_size}
    pooling |= {key: mode in sentence.modes for key, mode in MODE_KEYS.items()}
    ordered = tuple(mode for mode in MODE_KEYS.values() if mode in sentence.modes)
    if ordered != sentence.modes:  # another order than the keys stand for: releases from 5.2 on read it
        pooling = {"word_embedding_dimension": model.config.hidden_size, "pooling_mode": list(sentence.modes)}
    pooling["include_prompt"] = sentence.include_prompt
    files = {"1_Pooling/config.json": _json(pooling)}
    linears = iter(dense_of(model) or ())
    for place, stage in enumerate(sentence.stages, 2):
        kind = "Normalize" if stage == "normalize" else "Dense"
        modules.append((f"{place}_{kind}", kind))
        if stage == "normalize":
            files[f"{place}_{kind}/config.json"] = _json({})
        else:
            made = dense_files(next(linears), stage)
            files |= {f"{place}_{kind}/{name}": content for name, content in made.items()}
    files[TRANSFORMER_FILES[0]] = _json(
        {
            "max_seq_length": sentence.max_tokens or tokenizer.model_max_length,
            "do_lower_case": sentence.lower_case,
        }
    )
    files[MODEL] = _model_file(model, {
        "model_type": "SentenceTransformer",
        "prompts": dict(sentence.prompts),
        "default_prompt_name": sentence.default_prompt,
        "similarity_fn_name": sentence.similarity,
        **({"truncate_dim": sentence.truncate_dim} if sentence.truncate_dim else {}),
    })  # fmt: skip
    files[MODULES] = _json(
        [
            {"idx": i, "name": str(i), "path": path, "type": _TYPES + kind}
            for i, (path, kind) in enumerate(modules)
        ]
    )
    return files


def keeps_files(model: Model, sentence: Sentence) -> bool:
    """Whether a model's folder says these settings already."""
    return read_sentence(model.source.folder) == sentence


def reranker_files(model: Model, *, tokenizer: Tokenizer, activation: str) -> dict[str, bytes]:
    """What makes a CrossEncoder of a sequence classifier.

    Args:
        model: The classifier.
        tokenizer: Its `model_max_length` is the limit.
        activation: The class's name in torch.nn of what is put on its outputs.
    """
    kind = f"torch.nn.modules.{'linear' if activation == 'Identity' else 'activation'}.{activation}"
    values: dict[str, Any] = {"model_type": "CrossEncoder", "prompts": {}, "activation_fn": kind}
    inner = {
        "transformer_task": "sequence-classification",
        "modality_config": {"text": {"method": "forward", "method_output_name": "logits"}},
        "module_output_name": "scores",
        "max_seq_length": tokenizer.model_max_length,
    }
    return {
        MODEL: _model_file(model, values),
        TRANSFORMER_FILES[0]: _json(inner),
        MODULES: _json([{"idx": 0, "name": "0", "path": "", "type": f"{_TYPES}Transformer"}]),
    }


def _model_file(model: Model, values: Mapping[str, Any]) -> bytes:
    """The settings of the whole, over those of the source that are not known here."""
    path = model.source.folder / MODEL
    before = parse_object(path.read_bytes(), where=str(path)) if path.is_file() else {}
    return _json({**before, **values})


def _json(value: Any) -> bytes:
    return (json.dumps(value, indent=2, ensure_ascii=False) + "\n").encode()
