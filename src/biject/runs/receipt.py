"""The receipt of a run's own merge: `model/` against the adapter on its base, on the run's held-out texts."""

from __future__ import annotations

import json
import time
from pathlib import Path

from biject.errors import BijectError
from biject.merging.merge import check_merge
from biject.merging.receipt import FILE, Receipt
from biject.runs.folder import RunFolder
from biject.runs.prepare import Prepared
from biject.tokenization.tokenizer import Tokenizer
from biject.verify.report import Check, LevelResult

LEVEL = "merge"
MOST_PARAMETERS = 1_000_000_000
"""Base, adapter and merged model are held at once: larger models are left to `biject merge --check`."""
_MOST_TEXTS = 32


def merge_receipt(run: RunFolder, adapter: Path, prepared: Prepared) -> LevelResult:
    """Measure the merged model, write `merge_receipt.json` in the run's folder, and say what was found.

    Args:
        run: Its `model/` is written.
        adapter: The adapter's folder.
        prepared: Tokenizer and samples.
    """
    if sum(parameter.numel() for parameter in prepared.model.parameters()) > MOST_PARAMETERS:
        reason = f"a large model; `biject merge --check {run.model} --adapter {adapter}` measures it"
        return LevelResult(name=LEVEL, status="skipped", reason=reason)
    began = time.monotonic()
    texts = proof_texts(prepared)
    try:
        receipt = check_merge(run.model, adapter, texts=texts, sample_name="this run's data")
    except BijectError as error:  # the model is written and proved; what is missing is a figure
        return LevelResult(name=LEVEL, status="skipped", reason=str(error))
    run.write(FILE, json.dumps(receipt.to_json(), indent=2, ensure_ascii=False) + "\n")
    checks = tuple(Check(name="receipt", passed=False, detail=problem) for problem in receipt.problems)
    passed = Check(name="receipt", passed=True, detail=_words(receipt))
    return LevelResult(
        name=LEVEL,
        status="pass" if receipt.passed else "fail",
        checks=checks or (passed,),
        seconds=time.monotonic() - began,
    )


def proof_texts(prepared: Prepared) -> list[str] | None:
    """What the model read of some samples; None (built-in texts) where nothing is left of them."""
    if not isinstance(prepared.inputs, Tokenizer):
        return None
    samples = prepared.proof_samples
    chosen = (samples[i]["input_ids"] for i in range(min(len(samples), _MOST_TEXTS)))
    texts = [prepared.tokenizer.decode(ids, skip_special_tokens=True) for ids in chosen]
    return [text for text in texts if text.strip()] or None


def _words(receipt: Receipt) -> str:
    found = receipt.results[receipt.target]
    flips = "" if found.flips is None else f", argmax flips {found.flips} of {found.rows}"
    missed = f"{100 * found.ratio:.2g} % of what the adapter changes"
    return f"on {receipt.sample}, merged outputs miss {missed}{flips}"
