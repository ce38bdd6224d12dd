"""How models that sentence-transformers opens are used: for their model cards."""

from __future__ import annotations

USES = {
    "embed": (
        "```python\nfrom sentence_transformers import SentenceTransformer\n\n"
        'model = SentenceTransformer("PATH_OR_REPOSITORY")\nvectors = model.encode(["A text.", "Another."])\n'
        "```\n\n`biject.EmbeddingModel.from_pretrained` opens it with the same calls."
    ),
    "rerank": (
        "```python\nfrom sentence_transformers import CrossEncoder\n\n"
        'model = CrossEncoder("PATH_OR_REPOSITORY")\nscores = model.predict([("A query", "A text.")])\n'
        "```\n\n`biject.Reranker.from_pretrained` opens it with the same calls."
    ),
}
"""By the run's task."""
