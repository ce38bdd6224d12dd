"""Folders that sentence-transformers itself writes, around tiny models."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from biject.verify.reference import make_reference

Wrap = Callable[..., Path]


@pytest.fixture(autouse=True)
def one_thread() -> None:
    torch.set_num_threads(1)


@pytest.fixture
def wrapped(tmp_path: Path) -> Wrap:
    """Make an embedder of a tiny model: `wrapped("bert", pooling="mean", dense=[…], normalize=True, …)`."""
    pytest.importorskip("sentence_transformers")

    def make(
        model_type: str,
        *,
        pooling: Any = "mean",
        dense: tuple[dict[str, Any], ...] = (),
        normalize: bool = False,
        include_prompt: bool = True,
        seed: int = 0,
        **options: Any,
    ) -> Path:
        from sentence_transformers import SentenceTransformer
        from sentence_transformers.sentence_transformer import modules

        base = make_reference(model_type, "base", tmp_path / "base", seed=seed)
        transformer = modules.Transformer(str(base))
        parts: list[Any] = [transformer]
        width = transformer.get_embedding_dimension()
        parts.append(modules.Pooling(width, pooling, include_prompt=include_prompt))
        torch.manual_seed(seed)
        size = parts[-1].get_embedding_dimension()
        for one in dense:
            parts.append(modules.Dense(size, **one))
            size = one["out_features"]
        if normalize:
            parts.append(modules.Normalize())
        model = SentenceTransformer(modules=parts, device="cpu", **options)
        model.save(str(tmp_path / "theirs"), create_model_card=False)
        return tmp_path / "theirs"

    return make


def opened(folder: Path) -> Any:
    """As sentence-transformers opens it, in eval mode."""
    from sentence_transformers import SentenceTransformer

    return SentenceTransformer(str(folder), device="cpu").eval()


@pytest.fixture
def reference(tmp_path: Path) -> Wrap:
    """A tiny model without sentence-transformers' files."""
    pytest.importorskip("sentence_transformers")

    def make(model_type: str, head: str) -> Path:
        return make_reference(model_type, head, tmp_path / "reference")

    return make
