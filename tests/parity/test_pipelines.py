"""fill-mask, classify and tag equal HF's pipelines: labels, offsets and order, scores within 1e-6; one text
at a time, as HF's pipelines run, bit for bit.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
import torch

from biject import pipeline
from biject.families import text_families
from parity.real import real_folder

Make = Callable[..., Path]
TEXTS = (
    "paris is capital of france .",
    "the quick brown fox jumps over a lazy dog while we measure how one model becomes the same model again .",
    "yes !",
    "good films make people happy , nothing is lost , every number keeps its last bit ?",
    "unheard-of words: Zürich, 日本 and 🙂 !",
    "nothing is invented : every tensor keeps its bytes",
)
SENTENCES = (
    "Paris is the capital of France.",
    "Angela Merkel studied physics in Leipzig before she went into politics; nobody expected that.",
    "No.",
    "The transformers' embeddings weren't tokenised unbelievably-well in São Paulo, 北京 or ﬁnland!!!",
    "It rained. " * 30,
    "",
)
TOLERANCE = 1e-6
ENCODERS = [name for name, known in text_families().items() if "mlm" in known.heads]
"""HF's pipelines mask tokens and mark pairs for these; decoders' references know neither."""
AGGREGATIONS = ("none", "simple", "first", "average", "max")


def hf(task: str, folder: Path, **options: Any) -> Any:
    import transformers

    return transformers.pipeline(task, model=str(folder), device="cpu", **options)


def assert_close(ours: Any, theirs: Any, where: str = "result", *, tolerance: float = TOLERANCE) -> None:
    """Same structure, keys in the same order, equal values; floats within the tolerance."""
    if isinstance(theirs, dict):
        assert list(ours) == list(theirs), where
        for key in theirs:
            assert_close(ours[key], theirs[key], f"{where}.{key}", tolerance=tolerance)
    elif isinstance(theirs, list):
        assert len(ours) == len(theirs), where
        for i, (a, b) in enumerate(zip(ours, theirs, strict=True)):
            assert_close(a, b, f"{where}[{i}]", tolerance=tolerance)
    elif isinstance(ours, float):
        assert abs(ours - float(theirs)) <= tolerance, f"{where}: {ours} against {theirs}"
    else:
        assert ours == theirs, where


def assert_same(ours: Any, theirs: Any) -> None:
    """The same bits."""
    assert_close(ours, theirs, tolerance=0.0)


def one_by_one(pipe: Any, texts: Sequence[Any], **options: Any) -> list[Any]:
    return [pipe(text, **options) for text in texts]


def masked(texts: Sequence[str], mask: str) -> list[str]:
    """Each text with its middle word masked."""
    out = []
    for text in texts:
        words = text.split()
        words[len(words) // 2 : len(words) // 2 + 1] = [mask]
        out.append(" ".join(words))
    return out


@pytest.mark.parametrize("model_type", ENCODERS)
def test_fill_mask(model_type: str, reference: Make) -> None:
    folder = reference(model_type, "mlm")
    ours, theirs = pipeline(folder), hf("fill-mask", folder)
    mask = theirs.tokenizer.mask_token
    texts = masked(TEXTS, mask)
    expected = one_by_one(theirs, texts)
    assert_close(ours(texts), expected)
    assert_same(pipeline(folder, batch_size=1)(texts), expected)
    two = f"the {mask} is {mask} again"
    assert_close(ours(two, top_k=3), theirs(two, top_k=3))
    found = theirs(texts[0], targets=["paris", "nothing", "."], top_k=9)
    assert_close(ours(texts[0], targets=["paris", "nothing", "."], top_k=9), found)


@pytest.mark.parametrize(
    "keys",
    [
        {},
        {"num_labels": 1},
        {"num_labels": 5, "problem_type": "multi_label_classification"},
        {"num_labels": 1, "problem_type": "regression"},
        {"num_labels": 3, "problem_type": "regression"},
        {"id2label": {0: "no", 1: "yes", 2: "perhaps"}, "label2id": {"no": 0, "yes": 1, "perhaps": 2}},
    ],
)
@pytest.mark.parametrize("model_type", ENCODERS)
def test_classify(model_type: str, keys: dict[str, Any], reference: Make) -> None:
    folder = reference(model_type, "seqcls", overrides=keys)
    ours, theirs = pipeline(folder), hf("text-classification", folder)
    assert_close(ours(list(TEXTS)), one_by_one(theirs, TEXTS))
    expected = one_by_one(theirs, TEXTS, top_k=None)
    assert_close(ours(list(TEXTS), top_k=None), expected)
    assert_same(pipeline(folder, batch_size=1)(list(TEXTS), top_k=None), expected)
    assert_close(
        ours(TEXTS[0], top_k=2, function_to_apply="sigmoid"),
        theirs(TEXTS[0], top_k=2, function_to_apply="sigmoid"),
    )


@pytest.mark.parametrize(
    "model_type",
    [name for name in ENCODERS if text_families()[name].tiny.get("type_vocab_size") != 1],  # HF crashes
)
def test_classify_pairs(model_type: str, reference: Make) -> None:
    folder = reference(model_type, "seqcls")
    ours, theirs = pipeline(folder), hf("text-classification", folder)
    pairs = [{"text": text, "text_pair": pair} for text, pair in zip(TEXTS, reversed(TEXTS), strict=True)]
    expected = one_by_one(theirs, pairs, top_k=2)
    assert_close(ours(pairs, top_k=2), expected)
    assert_close(ours([(p["text"], p["text_pair"]) for p in pairs], top_k=2), expected)
    mixed = [*TEXTS[:2], pairs[3]]
    assert_close(ours(mixed, top_k=2), one_by_one(theirs, mixed, top_k=2))


TAGGERS = [name for name, known in text_families().items() if "tokcls" in known.heads]
LABELS = ("O", "B-PER", "I-PER", "B-LOC", "I-LOC", "MISC")
NER = {"id2label": dict(enumerate(LABELS)), "label2id": {label: i for i, label in enumerate(LABELS)}}


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize(
    "model_type", [name for name, known in text_families().items() if "tokcls" in known.heads]
)
def test_tag(model_type: str, reference: Make) -> None:
    folder = reference(model_type, "tokcls", overrides=NER)
    ours, theirs = pipeline(folder), hf("token-classification", folder)
    for aggregation in AGGREGATIONS:
        expected = one_by_one(theirs, TEXTS, aggregation_strategy=aggregation)
        assert_close(ours(list(TEXTS), aggregation=aggregation), expected)
    every = one_by_one(theirs, TEXTS, ignore_labels=[])
    assert_close(ours(list(TEXTS), ignore_labels=[]), every)
    assert_same(pipeline(folder, batch_size=1)(list(TEXTS), ignore_labels=[]), every)


@pytest.fixture(scope="module")
def tiny_words(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Path]:
    """A real model with a random head, so that `##` pieces and a real vocabulary are there."""

    def make(cls: str, name: str = "bert-tiny-mlm", **keys: Any) -> Path:
        import transformers

        folder = tmp_path_factory.mktemp(cls)
        source = real_folder(name)
        torch.manual_seed(0)
        model = getattr(transformers, cls).from_pretrained(source, **keys)
        model.classifier.weight.data.normal_(0, 0.1)
        model.save_pretrained(folder)
        for file in ("tokenizer.json", "tokenizer_config.json"):
            (folder / file).write_bytes((source / file).read_bytes())
        return folder

    return make


def test_real_fill_mask() -> None:
    folder = real_folder("bert-tiny-mlm")
    ours, theirs = pipeline(folder, batch_size=4), hf("fill-mask", folder)
    texts = masked(SENTENCES[:-1], "[MASK]")
    expected = one_by_one(theirs, texts)
    assert_close(ours(texts), expected)
    assert_same(pipeline(folder, batch_size=1)(texts), expected)
    two = "The [MASK] sat on the [MASK]."
    assert_close(ours([two, texts[0]]), one_by_one(theirs, [two, texts[0]]))
    targets = ["london", "berlin", "unbelievable-city"]
    with pytest.warns(UserWarning, match="first token"):
        assert_close(ours(texts[0], targets=targets), theirs(texts[0], targets=targets))


REAL = ("bert-tiny-mlm", "all-MiniLM-L6-v2")


@pytest.mark.parametrize("name", REAL)
def test_real_classify(name: str, tiny_words: Callable[..., Path]) -> None:
    folder = tiny_words("BertForSequenceClassification", name, num_labels=4)
    ours, theirs = pipeline(folder, batch_size=4), hf("text-classification", folder)
    expected = one_by_one(theirs, SENTENCES, top_k=3)
    assert_close(ours(list(SENTENCES), top_k=3), expected)
    assert_same(pipeline(folder, batch_size=1)(list(SENTENCES), top_k=3), expected)


@pytest.mark.parametrize("name", REAL)
@pytest.mark.parametrize("aggregation", AGGREGATIONS)
def test_real_tag(aggregation: str, name: str, tiny_words: Callable[..., Path]) -> None:
    folder = tiny_words("BertForTokenClassification", name, **NER)
    ours, theirs = pipeline(folder, batch_size=4), hf("token-classification", folder)
    expected = one_by_one(theirs, SENTENCES, aggregation_strategy=aggregation)
    assert sum(map(len, expected)) > 20
    assert_close(ours(list(SENTENCES), aggregation=aggregation), expected)
    assert_same(pipeline(folder, batch_size=1)(list(SENTENCES), aggregation=aggregation), expected)


@pytest.mark.parametrize("stride", [0, 5, 20])
def test_real_tag_in_windows(stride: int, tiny_words: Callable[..., Path]) -> None:
    folder = tiny_words("BertForTokenClassification", **NER)
    config = folder / "tokenizer_config.json"
    config.write_text(config.read_text().replace('"model_max_length": 512', '"model_max_length": 40'))
    ours, theirs = pipeline(folder, batch_size=4), hf("token-classification", folder)
    options: dict[str, Any] = {"stride": stride}
    expected = one_by_one(theirs, SENTENCES, aggregation_strategy="first", **options)
    assert_close(ours(list(SENTENCES), aggregation="first", **options), expected)
