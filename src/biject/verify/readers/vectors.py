"""sentence-transformers: the same vectors for the same texts."""

from __future__ import annotations

from importlib.metadata import version

import torch

from biject.tasks.pipeline import pipeline
from biject.verify.hf import quiet
from biject.verify.readers.job import TEXTS, Job
from biject.verify.readers.result import Missing, Reading, Unreadable, close

BOUND = 1e-6
"""Of the largest value: padding is left out here and computed there. Seen: 2e-7."""


def sentence_transformers(job: Job) -> Reading:
    """Vectors of a few texts, where the folder says how they are pooled (modules.json)."""
    if not (job.folder / "modules.json").is_file():
        raise Unreadable("the folder has no modules.json, so it is no embedder")
    try:
        from sentence_transformers import SentenceTransformer
    except ImportError as error:
        raise Missing("sentence-transformers is not installed") from error
    ours = ours_vectors(job)
    with quiet():
        theirs = SentenceTransformer(str(job.folder), device="cpu", local_files_only=True)
        vectors = theirs.encode(list(TEXTS), convert_to_tensor=True, show_progress_bar=False)
    reader = f"sentence-transformers {version('sentence-transformers')}"
    return close(
        reader,
        {"vectors": ours},
        {"vectors": vectors.cpu()},
        bound=BOUND,
        what=f"{len(TEXTS)} texts' vectors",
    )


def ours_vectors(job: Job) -> torch.Tensor:
    """What Biject makes of the texts."""
    embed = pipeline("embed", str(job.folder))
    embed.model = job.model
    found = embed(list(TEXTS))
    assert isinstance(found, torch.Tensor)
    return found
