"""`AutoModel` and its kin: `from_pretrained` with the head in the class's name, as users know it."""

from __future__ import annotations

from pathlib import Path
from typing import Any, ClassVar, Self

from biject.model import Model
from biject.pretrained import load


class AutoModel:
    """Loads a checkpoint without a head: `AutoModel.from_pretrained(path, …)`; arguments as in
    `biject.pretrained.load`.
    """

    head: ClassVar[str] = "base"

    def __new__(cls) -> Self:
        raise TypeError(f"{cls.__name__} is not instantiated; call {cls.__name__}.from_pretrained(path).")

    @classmethod
    def from_pretrained(cls, path: str | Path, **options: Any) -> Model:
        """Load `path` with this class's head; see `biject.pretrained.load` for `options`."""
        return load(path, head=cls.head, **options)


class AutoModelForSequenceClassification(AutoModel):
    """Loads a sequence classifier."""

    head = "seqcls"


class AutoModelForTokenClassification(AutoModel):
    """Loads a token classifier."""

    head = "tokcls"


class AutoModelForQuestionAnswering(AutoModel):
    """Loads an extractive question answerer."""

    head = "qa"


class AutoModelForCausalLM(AutoModel):
    """Loads a causal language model."""

    head = "causal"


class AutoModelForMaskedLM(AutoModel):
    """Loads a masked language model."""

    head = "mlm"
