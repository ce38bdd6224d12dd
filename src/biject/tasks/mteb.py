"""MTEB: an embedder as the package `mteb` calls one, and our evaluators' numbers as its result files.

`mteb` is no dependency: it calls `MTEBEncoder`, and is imported where it asks for a model's card. Source:
mteb 2.26, models/models_protocols.py (EncoderProtocol), models/abs_encoder.py (get_prompt_name),
results/task_result.py (TaskResult), the scores' names in abstasks/sts.py and abstasks/retrieval.py.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy.typing as npt
from torch import Tensor

from biject.errors import InputError
from biject.tasks.encoder import EmbeddingModel
from biject.tasks.inputs import require
from biject.tasks.similarity import Vectors

_MAIN = ("cosine_spearman", "ndcg_at_10", "map", "accuracy")
"""What mteb takes as a task's main score, by what there is: of pairs, retrieval, reranking, classes."""
_PLAIN = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*")


class MTEBEncoder:
    """What `mteb.evaluate(model, tasks)` takes.

    Args:
        model: Whose vectors are judged.
        name: As results are to call it, `organisation/model`.
        revision: Of the model.
    """

    def __init__(self, model: EmbeddingModel, *, name: str, revision: str | None = None) -> None:
        require(name.count("/") == 1, f"`name` should be organisation/model; found {name!r}.")
        self.model, self.name, self.revision = model, name, revision

    def encode(
        self,
        inputs: Iterable[Mapping[str, Sequence[str]]],
        *,
        task_metadata: Any,
        hf_split: str,
        hf_subset: str,
        prompt_type: Any = None,
        **how: Any,
    ) -> npt.NDArray[Any]:
        """Vectors of the texts of all batches, behind the prompt of the task or its type.

        Raises:
            InputError: A batch has no texts: pictures and sounds are not encoded.
        """
        del hf_split, hf_subset
        texts: list[str] = []
        for batch in inputs:
            if "text" not in batch:
                raise InputError(
                    f"Only texts are encoded; a batch of {task_metadata.name} has {list(batch)}."
                )
            texts += batch["text"]
        kind = None if prompt_type is None else str(getattr(prompt_type, "value", prompt_type))
        known = (
            "batch_size",
            "convert_to_numpy",
            "normalize_embeddings",
            "precision",
            "truncate_dim",
            "device",
        )
        options = {key: value for key, value in how.items() if key in known and value is not None}
        name = self._prompt(task_metadata, kind)
        encode: Callable[..., Any] = self.model.encode
        if name is None and kind is not None:
            encode = self.model.encode_query if kind == "query" else self.model.encode_document
        vectors: npt.NDArray[Any] = encode(texts, name, **{**options, "convert_to_numpy": True})
        return vectors

    def _prompt(self, task: Any, kind: str | None) -> str | None:
        """The most special prompt that the folder has, in mteb's order."""
        names = [
            *([f"{task.name}-{kind}"] if kind else []), task.name,
            *([f"{task.type}-{kind}"] if kind else []), task.type,
        ]  # fmt: skip
        return next((name for name in names if name in self.model.prompts), None)

    def similarity(self, embeddings1: Vectors, embeddings2: Vectors) -> Tensor:
        """All pairs."""
        return self.model.similarity(embeddings1, embeddings2)

    def similarity_pairwise(self, embeddings1: Vectors, embeddings2: Vectors) -> Tensor:
        """Pairs in the same place."""
        return self.model.similarity_pairwise(embeddings1, embeddings2)

    @property
    def mteb_model_meta(self) -> Any:
        """The model's card there."""
        from mteb.models import ModelMeta
        from mteb.models.model_meta import ScoringFunction

        model = self.model
        return ModelMeta.create_empty(
            {
                "name": self.name,
                "revision": self.revision or "no_revision_available",
                "n_parameters": sum(p.numel() for p in model.model.parameters()),
                "max_tokens": model.max_seq_length,
                "embed_dim": model.get_embedding_dimension(),
                "similarity_fn_name": ScoringFunction(model.similarity_fn_name),
                "framework": ["PyTorch"],
                "use_instructions": bool(model.prompts),
            }
        )


def task_result(
    scores: Mapping[str, float],
    *,
    task_name: str,
    split: str = "test",
    subset: str = "default",
    languages: Sequence[str] = ("eng-Latn",),
    main_score: str | None = None,
    dataset_revision: str = "local",
    seconds: float | None = None,
) -> dict[str, Any]:
    """Numbers of an evaluator as one of mteb's results, by its names: `cosine_spearman`, `ndcg_at_10`.

    Args:
        scores: What an evaluator without a name of its own gave.
        task_name: What the data are called.
        split: Which part of them.
        subset: Of the data, where there are several.
        languages: As mteb writes them.
        main_score: The name of the one that stands for all; left out, as mteb chooses.
        dataset_revision: Of the data.
        seconds: That the evaluation took.

    Raises:
        InputError: There is no such score, or none that could be the main one.
    """
    named = {_name(name): float(value) for name, value in scores.items()}
    main = main_score or next((name for name in _MAIN if name in named), None)
    if main not in named:
        raise InputError(f"`main_score` should be one of {', '.join(named)}; found {main_score!r}.")
    record = {**named, "main_score": named[main], "hf_subset": subset, "languages": list(languages)}
    return {
        "dataset_revision": dataset_revision,
        "task_name": task_name,
        "mteb_version": "2.26.24",
        "scores": {split: [record]},
        "evaluation_time": seconds,
        "kg_co2_emissions": None,
        "date": datetime.now(UTC).isoformat(),
    }


def write_result(folder: str | Path, result: Mapping[str, Any], *, name: str, revision: str) -> Path:
    """Put a result where mteb's cache looks for it: FOLDER/results/ORGANISATION__MODEL/REVISION/TASK.json.

    Raises:
        InputError: A name that is no plain file name.
    """
    for part in (*name.split("/"), revision, str(result["task_name"])):
        require(
            _PLAIN.fullmatch(part) is not None, f"{part!r} should be of letters, digits, dots and dashes."
        )
    path = Path(folder) / "results" / name.replace("/", "__") / revision / f"{result['task_name']}.json"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(result, indent=2) + "\n", encoding="utf-8")
    return path


def _name(name: str) -> str:
    """`spearman_cosine` → `cosine_spearman`, `cosine_ndcg@10` → `ndcg_at_10`."""
    if name.endswith("_cosine"):
        return f"cosine_{name.removesuffix('_cosine')}"
    return name.removeprefix("cosine_").replace("@", "_at_")
