"""SQuAD's nested JSON to flat rows.

Source: Rajpurkar et al. 2016 (arXiv:1606.05250) and 2018 (arXiv:1806.03822), the form of `train-v1.1.json`
and `train-v2.0.json`: {"data": [{"title", "paragraphs": [{"context", "qas": [{"id", "question", "answers":
[{"text", "answer_start"}], "is_impossible"}]}]}]}. The flat rows are those of the Hub's `squad` data set.
"""

from __future__ import annotations

from typing import Any

from biject.errors import InputError, shown


def is_nested(parsed: object) -> bool:
    """Whether a JSON value has SQuAD's form: articles with paragraphs."""
    articles = parsed.get("data") if isinstance(parsed, dict) else None
    return (
        isinstance(articles, list)
        and bool(articles)
        and isinstance(articles[0], dict)
        and "paragraphs" in articles[0]
    )


def flat_rows(parsed: dict[str, Any], source: str) -> list[dict[str, Any]]:
    """One row a question: `id`, `title`, `context`, `question`, `answers` (texts and starts).

    Raises:
        InputError: Something is missing; the message names its place.
    """
    rows: list[dict[str, Any]] = []
    for a, article in enumerate(parsed["data"], 1):
        for p, paragraph in enumerate(_list(article, "paragraphs", f"{source}, article {a}"), 1):
            where = f"{source}, article {a}, paragraph {p}"
            for q, question in enumerate(_list(paragraph, "qas", where), 1):
                here = f"{where}, question {q}"
                impossible = isinstance(question, dict) and question.get("is_impossible") is True
                given = [] if impossible else _list(question, "answers", here)
                rows.append(
                    {
                        "id": question.get("id", str(len(rows))),
                        "title": article.get("title", ""),
                        "context": _value(paragraph, "context", where),
                        "question": _value(question, "question", here),
                        "answers": {
                            "text": [_value(answer, "text", here) for answer in given],
                            "answer_start": [_value(answer, "answer_start", here) for answer in given],
                        },
                    }
                )
    if not rows:
        raise InputError(f"{source} has no questions.")
    return rows


def _value(holder: object, key: str, where: str) -> Any:
    if not isinstance(holder, dict) or key not in holder:
        raise InputError(f"{where}: expected an object with `{key}`, found {shown(holder)}.")
    return holder[key]


def _list(holder: object, key: str, where: str) -> list[Any]:
    value = _value(holder, key, where)
    if not isinstance(value, list):
        raise InputError(f"{where}: `{key}` should be a list, found {shown(value)}.")
    return value
