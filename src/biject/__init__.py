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
        AutoModel,
        AutoModelForCausalLM,
        AutoModelForMaskedLM,
        AutoModelForQuestionAnswering,
        AutoModelForSequenceClassification,
        AutoModelForTokenClassification,
    )
    from biject.config.recipe import FinetuneRecipe, TrainConfig
    from biject.errors import BijectError
    from biject.nn.traces import Traces
    from biject.runs.finetune import finetune
    from biject.tasks.pipeline import pipeline
    from biject.train.trainer import Trainer
    from biject.verify import verify_export

__all__ = [
    "AutoModel",
    "AutoModelForCausalLM",
    "AutoModelForMaskedLM",
    "AutoModelForQuestionAnswering",
    "AutoModelForSequenceClassification",
    "AutoModelForTokenClassification",
    "BijectError",
    "FinetuneRecipe",
    "Traces",
    "TrainConfig",
    "Trainer",
    "__version__",
    "finetune",
    "pipeline",
    "verify_export",
]

_HOME = {
    "AutoModel": "biject.auto",
    "AutoModelForCausalLM": "biject.auto",
    "AutoModelForMaskedLM": "biject.auto",
    "AutoModelForQuestionAnswering": "biject.auto",
    "AutoModelForSequenceClassification": "biject.auto",
    "AutoModelForTokenClassification": "biject.auto",
    "BijectError": "biject.errors",
    "FinetuneRecipe": "biject.config.recipe",
    "Traces": "biject.nn.traces",
    "TrainConfig": "biject.config.recipe",
    "Trainer": "biject.train.trainer",
    "finetune": "biject.runs.finetune",
    "pipeline": "biject.tasks.pipeline",
    "verify_export": "biject.verify",
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
