"""Rules about generation_config.json and chat templates: readable, and of the same ids as everything else."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from biject.checkpoint.strict_json import parse_object, read_small_file
from biject.errors import BijectError, MissingExtraError
from biject.tokenization.chat import compile_template
from biject.tokenization.files import TEMPLATE, TEMPLATES
from biject.verify.lint.facts import Facts, error, warning
from biject.verify.lint.tokenizer import token_id, tokenizer_settings
from biject.verify.report import Finding, listed

GENERATION = "generation_config.json"
_AGAIN = "fetch the file again, or save it again"


def generation(facts: Facts) -> list[Finding]:
    """A generation_config.json that cannot be read, ids without a row, an end that nothing else names."""
    if GENERATION not in facts.source.assets:
        return []
    try:
        values = _object(facts.source.folder / GENERATION)
    except BijectError as problem:
        meaning = str(problem).rstrip(".")
        return [error("generation-config-unreadable", GENERATION, meaning, _AGAIN)]
    wrong = [key for key, value in values.items() if key.endswith("_token_id") and _ids(value) is None]
    if wrong:
        meaning = f"{listed(wrong)}: an id is a whole number, a list of them, or null"
        return [error("generation-config-unreadable", GENERATION, meaning, _AGAIN)]
    return [*_beyond(facts, values), *_end_differs(facts, values)]


def _beyond(facts: Facts, values: Mapping[str, Any]) -> list[Finding]:
    table = facts.disk("embed.tokens.weight")
    shape = facts.source.tensors[table].shape if table else ()
    rows = shape[0] if shape else facts.config.get("vocab_size")
    if not isinstance(rows, int):
        return []
    over = {
        key: value
        for key, value in values.items()
        if key.endswith("_token_id") and any(not 0 <= one < rows for one in _ids(value) or ())
    }
    if not over:
        return []
    what = ", ".join(f"{key} {value}" for key, value in over.items())
    meaning = f"{what}: ids go from 0 to {rows - 1}, so the token never comes"
    if "eos_token_id" in over:
        meaning += " and texts do not end"
    return [error("generation-id-beyond-vocabulary", GENERATION, meaning, "write the tokenizer's ids")]


def _end_differs(facts: Facts, values: Mapping[str, Any]) -> list[Finding]:
    """Ends of a text that neither config.json nor the tokenizer knows; more ends than theirs are usual."""
    ends = set(_ids(values.get("eos_token_id")) or ())
    own = token_id(facts, "eos_token")
    known = set(_ids(facts.config.get("eos_token_id")) or ()) | ({own} if own is not None else set())
    if not ends or not known or ends & known:
        return []
    meaning = f"texts end with {sorted(ends)} here, with {sorted(known)} in config.json or the tokenizer"
    advice = "write the id with which the model was trained to end"
    return [warning("generation-id-differs", f"{GENERATION}: eos_token_id", meaning, advice)]


def _ids(value: Any) -> list[int] | None:
    """The ids of a setting; None where it is something else."""
    listed_ids = value if isinstance(value, list) else [] if value is None else [value]
    right = all(isinstance(one, int) and not isinstance(one, bool) for one in listed_ids)
    return listed_ids if right else None


def chat_templates(facts: Facts) -> list[Finding]:
    """Chat templates that do not parse; they are not run here."""
    found: list[Finding] = []
    for where, text in _templates(facts):
        try:
            if not isinstance(text, str):
                problem = f"a template is a text, found {type(text).__name__}"
            else:
                compile_template(text)
                continue
        except MissingExtraError:
            return found
        except Exception as wrong:  # jinja2 raises several, and recursion may be too deep
            problem = f"it is no template: {type(wrong).__name__}: {wrong}"
        found.append(error("chat-template-unreadable", where, problem.rstrip("."), _AGAIN))
    return found


def _templates(facts: Facts) -> Iterator[tuple[str, Any]]:
    """Where a template stands, and what stands there."""
    for name in facts.source.assets:
        if name == TEMPLATE or (name.startswith(f"{TEMPLATES}/") and name.endswith(".jinja")):
            try:
                yield name, read_small_file(facts.source.folder / name, what=name).decode("utf-8")
            except (BijectError, UnicodeDecodeError):
                yield name, b""
    value = tokenizer_settings(facts).get("chat_template")
    where = "tokenizer_config.json: chat_template"
    if isinstance(value, list):
        for entry in value:
            yield where, entry.get("template") if isinstance(entry, dict) else entry
    elif value is not None:
        yield where, value


def _object(path: Path) -> dict[str, Any]:
    return parse_object(read_small_file(path, what=path.name), where=path.name)
