"""Servers that need a GPU or a build of their own: what their sources tell.

vLLM lists the classes that it knows in one file of its wheel, which is read as data. No package installs
text-embeddings-inference, a Rust program, so what its config needs is written down here.
"""

from __future__ import annotations

import ast
import re
import zipfile
from importlib.metadata import PackageNotFoundError, distribution
from pathlib import Path

from biject.verify.readers.job import Job
from biject.verify.readers.result import Missing, Reading, Unreadable

_REGISTRY = "vllm/model_executor/models/registry.py"
_TABLES = re.compile(r"^_[A-Z_]+_MODELS$")
_NOT_NOW = ("_PREVIOUSLY_SUPPORTED_MODELS", "_OOT_SUPPORTED_MODELS")
_TEI_TYPES = ("bert", "xlm-roberta", "camembert", "roberta")
"""Source: text-embeddings-inference, backends/candle/src/lib.rs, enum Config (commit a28ad28f): families
of ours that read BertConfig and run on a CPU. It knows more families; these were read."""
_TEI_KEYS = (
    "vocab_size", "hidden_size", "num_hidden_layers", "num_attention_heads", "intermediate_size",
    "hidden_act", "hidden_dropout_prob", "max_position_embeddings", "type_vocab_size", "initializer_range",
    "layer_norm_eps", "pad_token_id",
)  # fmt: skip
"""Source: backends/candle/src/models/bert.rs, struct BertConfig (4d944459): those without a default."""


def vllm(job: Job) -> Reading:
    """Whether vLLM has a model for the class that config.json names; nothing of it is imported or run."""
    text, version = _registry(job.vllm)
    known = architectures(text)
    named = [str(name) for name in job.config.get("architectures") or ()]
    if not named or named[0] not in known:
        raise Unreadable(f"vLLM {version} has no {', '.join(named) or 'class that config.json names'}")
    detail = f"{named[0]} is in its registry (read as data, not run: a GPU is needed)"
    return Reading(reader=f"vLLM {version}", status="pass", compared="architecture", detail=detail)


def architectures(source: str) -> set[str]:
    """Names of the classes in vLLM's tables, from the text of its registry.py."""
    found: set[str] = set()
    for node in ast.parse(source).body:
        if not (isinstance(node, ast.Assign) and isinstance(node.value, ast.Dict)):
            continue
        name = getattr(node.targets[0], "id", "")
        if _TABLES.match(name) and name not in _NOT_NOW:
            found |= {str(k.value) for k in node.value.keys if isinstance(k, ast.Constant)}
    return found


def _registry(wheel: Path | None) -> tuple[str, str]:
    """The text of registry.py and the version, of a wheel or of what is installed."""
    if wheel is not None:
        with zipfile.ZipFile(wheel) as packed:
            return packed.read(_REGISTRY).decode(), wheel.name.split("-")[1]
    try:
        installed = distribution("vllm")
    except PackageNotFoundError as error:
        raise Missing("vLLM is not installed; --vllm WHEEL reads its list from a wheel") from error
    return Path(str(installed.locate_file(_REGISTRY))).read_text(encoding="utf-8"), installed.version


def text_embeddings_inference(job: Job) -> Reading:
    """The files and keys that it parses before anything runs."""
    model_type = job.config.get("model_type")
    if model_type not in _TEI_TYPES:
        raise Unreadable(f"its sources were not read for {model_type}")
    wrong = [f"config.json has no {key}" for key in _TEI_KEYS if job.config.get(key) is None]
    wrong += [] if (job.folder / "tokenizer.json").is_file() else ["there is no tokenizer.json"]
    single = (job.folder / "model.safetensors").is_file()
    wrong += (
        [] if single or (job.folder / "model.safetensors.index.json").is_file() else ["no model.safetensors"]
    )
    detail = (
        "; ".join(wrong)
        or f"{len(_TEI_KEYS)} keys, tokenizer.json and weights are there (not run: a Rust program)"
    )
    return Reading(
        reader="text-embeddings-inference",
        status="fail" if wrong else "pass",
        compared="files and keys",
        detail=detail,
    )
