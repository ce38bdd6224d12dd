"""Level `embedder`: sentence-transformers opens a folder, with the vectors or scores that Biject gives."""

from __future__ import annotations

import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from biject.tasks.encoder import EmbeddingModel
from biject.tasks.reranker import Reranker
from biject.verify.hf import quiet
from biject.verify.report import Check, LevelResult, Status

LEVEL = "embedder"
TOLERANCE = 1e-5
"""Of values of 1: both sides round in batches of other lengths. Vectors of a run were 0 to 2e-7 apart."""
Array = npt.NDArray[np.float32]


def embedder_level(folder: Path, texts: Sequence[str], *, reranker: bool) -> LevelResult:
    """Compare both sides on some texts, or pairs of neighbours among them.

    Args:
        folder: An embedder's, or a reranker's.
        texts: What to compare on.
        reranker: Which of the two.
    """
    began = time.monotonic()
    with quiet():
        try:
            import sentence_transformers
        except ImportError:
            return LevelResult(name=LEVEL, status="skipped", reason="sentence-transformers is not installed")
        ours, theirs = _both(sentence_transformers, folder, list(texts), reranker=reranker)
    what, same = "scores" if reranker else "vectors", ours.shape == theirs.shape
    size = max(1.0, float(np.abs(theirs).max()))
    apart = float(np.abs(ours - theirs).max()) / size if same else float("inf")
    detail = f"sentence-transformers opens it; {len(ours)} {what}, at most {apart:.1e} apart"
    shapes = f"shapes {ours.shape} and {theirs.shape}"
    check = Check(name=what, passed=apart <= TOLERANCE, detail=detail if same else shapes)
    passed: Status = "pass" if check.passed else "fail"
    return LevelResult(name=LEVEL, status=passed, checks=(check,), seconds=time.monotonic() - began)


def _both(library: Any, folder: Path, texts: list[str], *, reranker: bool) -> tuple[Array, Array]:
    if reranker:
        pairs = list(zip(texts, [*texts[1:], texts[0]], strict=True))
        ours = Reranker.from_pretrained(folder).predict(pairs)
        return np.asarray(ours), library.CrossEncoder(str(folder), device="cpu").predict(pairs)
    theirs = library.SentenceTransformer(str(folder), device="cpu").encode(texts)
    return EmbeddingModel.from_pretrained(folder).encode(texts), theirs
