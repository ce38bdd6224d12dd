"""Biject: Hugging Face checkpoints, both ways, with proof.

Names are imported when they are first used (PEP 562), so that `import biject` costs milliseconds and loads
no torch.
"""

from __future__ import annotations

from biject._version import __version__

TYPE_CHECKING = (
    False  # type checkers know the name; importing `typing` for it would double the time of the import
)
if TYPE_CHECKING:
    from biject.auto import (
        AutoImageProcessor,
        AutoModel,
        AutoModelForCausalLM,
        AutoModelForImageClassification,
        AutoModelForMaskedLM,
        AutoModelForQuestionAnswering,
        AutoModelForSequenceClassification,
        AutoModelForTokenClassification,
        AutoTokenizer,
    )
    from biject.config.adapter import LoraConfig
    from biject.config.model import ModelConfig
    from biject.config.recipe import FinetuneRecipe, TrainConfig
    from biject.data.collate import Collator
    from biject.data.features import build_dataset
    from biject.errors import (
        BijectError,
        BijectWarning,
        CheckpointError,
        ConfigError,
        InputError,
        WeightsError,
    )
    from biject.export import export_checkpoint
    from biject.fallback.model import FallbackModel
    from biject.generate.cache import Cache
    from biject.nn.output import ModelOutput
    from biject.nn.traces import Traces
    from biject.pretrained import PretrainedModel, load
    from biject.runs.finetune import finetune
    from biject.tasks.encoder import EmbeddingModel
    from biject.tasks.metrics import metrics_for
    from biject.tasks.pipeline import pipeline
    from biject.tasks.precision import quantize_embeddings
    from biject.tasks.reranker import Reranker
    from biject.tasks.similarity import semantic_search
    from biject.tokenization.tokenizer import Tokenizer
    from biject.train.callbacks import Callback
    from biject.train.trainer import Trainer
    from biject.verify import verify_export, verify_trained

__all__ = [
    "AutoImageProcessor",
    "AutoModel",
    "AutoModelForCausalLM",
    "AutoModelForImageClassification",
    "AutoModelForMaskedLM",
    "AutoModelForQuestionAnswering",
    "AutoModelForSequenceClassification",
    "AutoModelForTokenClassification",
    "AutoTokenizer",
    "BijectError",
    "BijectWarning",
    "Cache",
    "Callback",
    "CheckpointError",
    "Collator",
    "ConfigError",
    "EmbeddingModel",
    "FallbackModel",
    "FinetuneRecipe",
    "InputError",
    "LoraConfig",
    "ModelConfig",
    "ModelOutput",
    "PretrainedModel",
    "Reranker",
    "Tokenizer",
    "Traces",
    "TrainConfig",
    "Trainer",
    "WeightsError",
    "__version__",
    "build_dataset",
    "export_checkpoint",
    "finetune",
    "load",
    "metrics_for",
    "pipeline",
    "quantize_embeddings",
    "semantic_search",
    "verify_export",
    "verify_trained",
]

_HOME = {
    "AutoImageProcessor": "biject.auto",
    "AutoModel": "biject.auto",
    "AutoModelForCausalLM": "biject.auto",
    "AutoModelForImageClassification": "biject.auto",
    "AutoModelForMaskedLM": "biject.auto",
    "AutoModelForQuestionAnswering": "biject.auto",
    "AutoModelForSequenceClassification": "biject.auto",
    "AutoModelForTokenClassification": "biject.auto",
    "AutoTokenizer": "biject.auto",
    "BijectError": "biject.errors",
    "BijectWarning": "biject.errors",
    "Cache": "biject.generate.cache",
    "Callback": "biject.train.callbacks",
    "CheckpointError": "biject.errors",
    "Collator": "biject.data.collate",
    "ConfigError": "biject.errors",
    "FallbackModel": "biject.fallback.model",
    "EmbeddingModel": "biject.tasks.encoder",
    "FinetuneRecipe": "biject.config.recipe",
    "InputError": "biject.errors",
    "LoraConfig": "biject.config.adapter",
    "ModelConfig": "biject.config.model",
    "ModelOutput": "biject.nn.output",
    "PretrainedModel": "biject.pretrained",
    "Reranker": "biject.tasks.reranker",
    "quantize_embeddings": "biject.tasks.precision",
    "semantic_search": "biject.tasks.similarity",
    "Tokenizer": "biject.tokenization.tokenizer",
    "Traces": "biject.nn.traces",
    "TrainConfig": "biject.config.recipe",
    "Trainer": "biject.train.trainer",
    "WeightsError": "biject.errors",
    "build_dataset": "biject.data.features",
    "export_checkpoint": "biject.export",
    "finetune": "biject.runs.finetune",
    "load": "biject.pretrained",
    "metrics_for": "biject.tasks.metrics",
    "pipeline": "biject.tasks.pipeline",
    "verify_export": "biject.verify",
    "verify_trained": "biject.verify",
}


def __getattr__(name: str) -> object:
    home = _HOME.get(name)
    if home is None:
        raise AttributeError(f"module 'biject' has no attribute {name!r}; it has {', '.join(__all__)}")
    from importlib import import_module

    from biject.environment import prepare

    prepare()  # most of these load torch
    value: object = getattr(import_module(home), name)
    globals()[name] = value  # the next look-up does not come here
    return value


def __dir__() -> list[str]:
    return sorted(__all__)
