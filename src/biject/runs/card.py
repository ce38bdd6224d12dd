"""The model card of a fine-tune: README.md with the Hub's metadata, and how the model came about.

Nothing of this machine is in it: of local folders and files only their names, and no text of the data.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

from biject._version import __version__
from biject.config.recipe import FinetuneRecipe
from biject.pages.settings import settings
from biject.pages.words import decimal, metric_name
from biject.runs.prepare import Prepared
from biject.runs.uses import USES
from biject.train.result import FitResult

CARD = "README.md"
_REPOSITORY = re.compile(r"[\w.-]+/[\w.-]+")
_PIPELINES = {
    "seqcls": "text-classification",
    "tokcls": "token-classification",
    "qa": "question-answering",
    "mlm": "fill-mask",
    "causal": "text-generation",
    "imgcls": "image-classification",
    "dpo": "text-generation",
    "reward": "text-classification",
    "embed": "sentence-similarity",
    "rerank": "text-ranking",
}
_LIBRARIES = {"embed": "sentence-transformers", "rerank": "sentence-transformers"}
_METRICS = {
    "f1_macro": ("f1", "F1, macro"),
    "f1_micro": ("f1", "F1, micro"),
    "matthews": ("matthews_correlation", "Matthews' correlation"),
    "pearson": ("pearsonr", "Pearson's correlation"),
    "spearman": ("spearmanr", "Spearman's correlation"),
}
_WIDGETS: dict[str, list[Any]] = {
    "seqcls": [{"text": "This is an example."}],
    "tokcls": [{"text": "Ada Lovelace lived in London."}],
    "qa": [{"text": "Where did she live?", "context": "Ada Lovelace lived in London."}],
    "causal": [{"text": "Once upon a time"}],
    "dpo": [{"text": "Once upon a time"}],
}
_MOST_CARD_BYTES = 1 << 20


def card(
    recipe: FinetuneRecipe, prepared: Prepared, fit: FitResult, *, name: str, adapter: bool = False
) -> bytes:
    """The file's content.

    Args:
        recipe: The run.
        prepared: Its model and samples.
        fit: What came out.
        name: The model's, e.g. the run's folder's.
        adapter: The card is for the adapter's folder, which PEFT loads on its base.
    """
    about = _metadata(recipe, prepared, fit, name, adapter=adapter)
    return f"---\n{about}\n---\n\n{_text(recipe, prepared, fit, name, adapter=adapter)}".encode()


def _metadata(recipe: FinetuneRecipe, prepared: Prepared, fit: FitResult, name: str, *, adapter: bool) -> str:
    from huggingface_hub import EvalResult, ModelCardData

    base, kept = _base(recipe, prepared), _kept(prepared.model.source.folder / CARD)
    on_hub = _is_repository(recipe.data)
    results = [
        EvalResult(
            task_type=_PIPELINES[recipe.task],
            dataset_type=recipe.data if on_hub else Path(recipe.data).suffix.removeprefix(".") or "local",
            dataset_name=recipe.data if on_hub else Path(recipe.data).name,
            dataset_split="held out",
            metric_type=_METRICS.get(metric, (metric, ""))[0],
            metric_name=_METRICS.get(metric, ("", metric_name(metric)))[1],
            metric_value=round(value, 6),
        )
        for metric, value in _metrics(fit).items()
        if value == value
    ]
    mask = prepared.tokenizer.mask_token if recipe.task == "mlm" else None
    widget = [{"text": f"This is a {mask}."}] if mask else _WIDGETS.get(recipe.task)
    relation: dict[str, Any] = {"base_model_relation": "adapter"} if adapter and base else {}
    data = ModelCardData(
        base_model=base,
        datasets=[recipe.data] if on_hub else None,
        eval_results=results or None,
        model_name=name,
        library_name="peft" if adapter else _LIBRARIES.get(recipe.task, "transformers"),
        license=kept.get("license"),
        language=kept.get("language"),
        pipeline_tag=_PIPELINES[recipe.task],
        tags=["biject", "fine-tuned", *(["lora"] if adapter else [])],
        **relation,
        widget=widget,
        ignore_metadata_errors=True,
    )
    return data.to_yaml()


def _base(recipe: FinetuneRecipe, prepared: Prepared) -> str | None:
    """The repository that the model is from, as far as anybody knows."""
    named = prepared.model.source.config.get("_name_or_path")
    for value in (recipe.model, named):
        if isinstance(value, str) and _is_repository(value):
            return value
    return None


def _is_repository(value: str) -> bool:
    return bool(_REPOSITORY.fullmatch(value)) and not Path(value).exists()


def _kept(path: Path) -> dict[str, Any]:
    """Licence and languages of the base's own card; nothing where that is missing or damaged."""
    from huggingface_hub import ModelCard

    try:
        if path.stat().st_size > _MOST_CARD_BYTES:
            return {}
        data = ModelCard.load(path, ignore_metadata_errors=True).data.to_dict()
    except Exception:  # a stranger's file: whatever is wrong with it is no matter of ours
        return {}
    found = {}
    for name in ("license", "language"):
        value = data.get(name)
        if isinstance(value, str) or (isinstance(value, list) and all(isinstance(one, str) for one in value)):
            found[name] = value
    return found


def _metrics(fit: FitResult) -> Mapping[str, float]:
    """Of the state that the model is in."""
    found = [entry for entry in fit.history if entry["step"] == fit.model_step]
    return {name: value for name, value in found[-1].items() if name != "step"} if found else {}


def _text(recipe: FinetuneRecipe, prepared: Prepared, fit: FitResult, name: str, *, adapter: bool) -> str:
    shown = _base(recipe, prepared) or Path(recipe.model).name
    labels, state = prepared.samples.labels, fit.model_state.partition(": ")[0]
    parts = [
        f"# {_plain(name)}",
        f"{'An adapter for ' if adapter else ''}`{_plain(shown)}`, fine-tuned for "
        f"{_PIPELINES[recipe.task].replace('-', ' ')} on `{_plain(_short('data', recipe.data))}` "
        f"({len(prepared.samples.train):,} samples) with Biject {__version__}.",
        f"Labels: {', '.join(f'`{_plain(label)}`' for label in labels[:50])}." if labels else "",
        "## Evaluation",
        _table(("metric", "value"), [(metric_name(k), decimal(v)) for k, v in _metrics(fit).items()])
        if _metrics(fit)
        else "Nothing was evaluated.",
        f"On {len(prepared.samples.evaluation or ()):,} held-out samples; {_plain(state)}.",
        "## Use",
        _use(recipe, adapter=adapter),
        "## Training",
        _table(("setting", "value"), _settings(recipe)),
        "All other settings are Biject's defaults.",
        "## Verification",
        VERIFICATION if recipe.backend == "biject" else VERIFICATION_HF,
    ]
    return "\n\n".join(part for part in parts if part) + "\n"


def _settings(recipe: FinetuneRecipe) -> list[tuple[str, str]]:
    """Those that are not the defaults."""
    return [
        (one.name, _plain(_short(one.name, one.value)))
        for one in settings(asdict(recipe))[0]
        if one.name not in ("device", "eval_data")
    ]


def _use(recipe: FinetuneRecipe, *, adapter: bool) -> str:
    """A few lines of code; an adapter's settings and tensors are PEFT's, its labels are in biject.json."""
    if not adapter and recipe.task in _LIBRARIES:
        return USES[recipe.task]
    if not adapter:
        return (
            "```python\nfrom transformers import pipeline\n\n"
            f'model = pipeline("{_PIPELINES[recipe.task]}", model="PATH_OR_REPOSITORY")\n```'
        )
    more = ', backend="hf"' if recipe.backend == "hf" else ""
    call = f'biject.AutoModelForCausalLM.from_pretrained("PATH_OR_REPOSITORY"{more})'
    if recipe.head != "causal":
        call = f'biject.pipeline(model="PATH_OR_REPOSITORY"{more})'
    return (
        f"```python\nimport biject\n\nmodel = {call}  # on the base that adapter_config.json names\n```\n\n"
        "The files are PEFT's: `PeftModel.from_pretrained(base, PATH_OR_REPOSITORY)` loads them, too."
    )


VERIFICATION = (
    "`biject verify-export FOLDER` compares this folder with `transformers`: names, bytes, logits. `biject "
    "push` does so before it uploads, and replaces these lines with what it found."
)


VERIFICATION_HF = VERIFICATION.replace("verify-export FOLDER", "verify-export --backend hf FOLDER")
"""Of a model of transformers' own class."""


def _short(name: str, value: str) -> str:
    """Of a path its last part."""
    return Path(value).name if name in ("model", "data") and not _is_repository(value) else value


def _plain(text: str) -> str:
    """A text that Markdown leaves as it is."""
    return re.sub(r"[`|<>\[\]\n\r\\]", " ", text)[:300]


def _table(head: tuple[str, str], rows: list[tuple[str, str]]) -> str:
    lines = [f"| {a} | {b} |" for a, b in (head, ("---", "---"), *rows)]
    return "\n".join(lines)
