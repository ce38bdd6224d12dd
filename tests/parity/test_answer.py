"""Answers equal a reference written here from the documented algorithm, over HF's model and tokenizer.

HF 5 removed its question-answering pipeline. The algorithm is SQuAD's: windows over the context, the
best sums of start and end inside it, the null answer by `[CLS]`. White space at the ends of a span is left
out, and a span counts once.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from biject import BijectError, pipeline
from biject.families import families
from parity.real import real_folder

Make = Callable[..., Path]
SHORT = (
    "the quick brown fox jumps over a lazy dog while we measure how one model becomes the same model again ."
)
LONG = " ".join([SHORT, "good films make people happy , nothing is lost , paris is capital of france ."] * 4)
ITEMS = [
    {"question": "what jumps ?", "context": SHORT},
    {"question": "paris is capital of ?", "context": LONG},
    {"question": "who", "context": "  nothing is invented  "},
    {"question": "", "context": "yes"},
]
TOLERANCE = 1e-6


def reference_answers(
    folder: Path,
    item: dict[str, str],
    *,
    top_k: int,
    stride: int | None = None,
    max_answer_length: int = 15,
    null_answer: bool = False,
    null_threshold: float = 0.0,
    limit: int | None = None,
) -> list[dict[str, Any]]:
    import transformers

    tokenizer = transformers.AutoTokenizer.from_pretrained(folder)
    model = transformers.AutoModelForQuestionAnswering.from_pretrained(folder).eval()
    question, context = item["question"], item["context"]
    limit = min(384, limit or tokenizer.model_max_length)
    length = len(tokenizer(question, add_special_tokens=False)["input_ids"])
    room = limit - length - tokenizer.num_special_tokens_to_add(pair=True)
    windows = tokenizer(
        question,
        context,
        truncation="only_second",
        max_length=limit,
        stride=min(128, room // 2) if stride is None else stride,
        return_overflowing_tokens=True,
        return_offsets_mapping=True,
    )
    spans: dict[tuple[int, int], float] = {}
    nulls = []
    for w, ids in enumerate(windows["input_ids"]):
        inputs = {"input_ids": torch.tensor([ids])}
        if "token_type_ids" in windows:
            inputs["token_type_ids"] = torch.tensor([windows["token_type_ids"][w]])
        if getattr(model.config, "type_vocab_size", 1) < 2:
            inputs.pop("token_type_ids", None)
        with torch.no_grad():
            out = model(**inputs)
        starts, ends = out.start_logits[0].tolist(), out.end_logits[0].tolist()
        nulls.append(starts[ids.index(tokenizer.cls_token_id)] + ends[ids.index(tokenizer.cls_token_id)])
        of_context = [i for i, sequence in enumerate(windows.sequence_ids(w)) if sequence == 1]
        for i in of_context:
            for j in of_context:
                if i <= j < i + max_answer_length:
                    start, end = windows["offset_mapping"][w][i][0], windows["offset_mapping"][w][j][1]
                    text = context[start:end]
                    start, end = start + len(text) - len(text.lstrip()), start + len(text.rstrip())
                    if start >= end:
                        continue
                    place = (start, end)
                    spans[place] = max(starts[i] + ends[j], spans.get(place, -math.inf))
    ranked = sorted(spans.items(), key=lambda span: -span[1])[:20]
    found = [(score, score, start, end) for (start, end), score in ranked]
    if null_answer:
        found.append((min(nulls) - null_threshold, min(nulls), 0, 0))
    found.sort(key=lambda row: -row[0])
    total = sum(math.exp(row[1]) for row in found)
    return [
        {"score": math.exp(score) / total, "start": start, "end": end, "answer": context[start:end]}
        for _, score, start, end in found[:top_k]
    ]


def assert_answers(ours: list[dict[str, Any]], theirs: list[dict[str, Any]]) -> None:
    assert [list(a) for a in ours] == [list(a) for a in theirs]
    for a, b in zip(ours, theirs, strict=True):
        assert abs(a["score"] - b["score"]) <= TOLERANCE
        assert {**a, "score": 0} == {**b, "score": 0}


@pytest.mark.parametrize(
    "options",
    [
        {"top_k": 1},
        {"top_k": 6},
        {"top_k": 6, "stride": 3, "max_answer_length": 2},
        {"top_k": 30, "null_answer": True},
        {"top_k": 1, "null_answer": True, "null_threshold": -100.0},
    ],
)
@pytest.mark.parametrize("model_type", [name for name, known in families().items() if "mlm" in known.heads])
def test_tiny(model_type: str, options: dict[str, Any], reference: Make) -> None:
    folder = reference(model_type, "qa")
    pipe = pipeline(folder)
    found = pipe(ITEMS, **options)
    for item, ours in zip(ITEMS, found, strict=True):
        assert_answers(ours, reference_answers(folder, item, limit=pipe.max_tokens, **options))
    assert pipe((ITEMS[0]["question"], ITEMS[0]["context"]), **options)[0]["answer"] == found[0][0]["answer"]


def test_real_pieces(tmp_path: Path) -> None:
    """Real bert-tiny with a random head: a real vocabulary, a real text of several windows."""
    import transformers

    source = real_folder("bert-tiny-mlm")
    torch.manual_seed(0)
    model = transformers.AutoModelForQuestionAnswering.from_pretrained(source)
    model.qa_outputs.weight.data.normal_(0, 0.2)
    model.save_pretrained(tmp_path)
    for name in ("tokenizer.json", "tokenizer_config.json"):
        (tmp_path / name).write_bytes((source / name).read_bytes())
    context = (Path(__file__).parents[2] / "README.md").read_text(encoding="utf-8")
    item = {
        "question": "What does Biject give back after unbelievably-short fine-tuning?",
        "context": context,
    }
    for options in ({"top_k": 5}, {"top_k": 25, "stride": 300, "null_answer": True, "max_answer_length": 30}):
        assert_answers(
            pipeline(tmp_path, batch_size=3)(item, **options), reference_answers(tmp_path, item, **options)
        )


@pytest.mark.parametrize(
    ("item", "options", "says"),
    [
        ({"question": "model " * 70, "context": "yes"}, {}, "leaves no room"),
        ({"question": "who", "context": ""}, {}, "no tokens to answer with"),
        ({"question": "who", "context": LONG}, {"stride": 62}, "`stride` must be less"),
        ({"question": "who", "context": LONG}, {"top_k": 0}, "`top_k`"),
        ({"question": "who", "context": LONG}, {"max_answer_length": 0}, "`max_answer_length`"),
        ({"question": "who"}, {}, "`question`, `context`"),
        ("who", {}, "`question`, `context`"),
        ({"question": "who", "context": 3}, {}, "`question`, `context`"),
    ],
)
def test_bad_input(item: Any, options: dict[str, Any], says: str, reference: Make) -> None:
    with pytest.raises(BijectError, match=says):
        pipeline(reference("bert", "qa"))(item, **options)
