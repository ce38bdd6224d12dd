"""sentence-transformers' calls of `encode`, its properties, its searches: same results on the same folder."""

from __future__ import annotations

import copy
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import biject
from biject.errors import BijectError, BijectWarning
from biject.tasks import embedding_settings
from biject.tasks.encoder import EmbeddingModel
from biject.tasks.encoding_pool import EncodingPool
from biject.tasks.precision import quantize_embeddings
from biject.tasks.reranker import Reranker
from biject.tasks.similarity import semantic_search
from parity.embeddings.conftest import opened
from parity.test_pipelines import TEXTS

Wrap = Callable[..., Path]
TOLERANCE = 2e-6
PRECISIONS = ("float32", "int8", "uint8", "binary", "ubinary")


def util() -> Any:
    return pytest.importorskip("sentence_transformers.util")


@pytest.mark.parametrize("precision", PRECISIONS)
def test_codes_of_the_same_vectors(precision: Any) -> None:
    """Bit for bit, with their own ranges, given ones, and those of other vectors; one value never moves."""
    rng = np.random.default_rng(0)
    rows, others = (rng.standard_normal((n, 24)).astype(np.float32) for n in (150, 300))
    rows[:, 3] = 0.25
    ranges = np.stack([others.min(0), others.max(0)])
    for how in ({}, {"ranges": ranges}, {"calibration_embeddings": others}):
        for given in (rows, torch.from_numpy(rows), list(torch.from_numpy(rows))):
            ours = quantize_embeddings(given, precision, **how)
            hers = util().quantize_embeddings(given, precision, **how)
            assert ours.dtype == hers.dtype
            assert np.array_equal(ours, hers)
    assert len(np.unique(quantize_embeddings(rows, precision))) > 1


def test_precision_of_encode(wrapped: Wrap) -> None:
    theirs = wrapped("bert", normalize=True)
    ours, hers = EmbeddingModel.from_pretrained(theirs), opened(theirs)
    texts = [f"{text} {i}" for i in range(40) for text in TEXTS]
    mine = ours.encode(texts, precision="int8")
    other = hers.encode(texts, precision="int8")
    assert mine.dtype == other.dtype == np.int8
    assert np.abs(mine.astype(int) - other.astype(int)).max() <= 1  # where rounding falls between two codes
    for precision in ("binary", "ubinary"):
        mine, other = (model.encode(texts, precision=precision) for model in (ours, hers))
        assert mine.dtype == other.dtype
        assert mine.shape == other.shape
        apart = np.unpackbits(mine.view(np.uint8) ^ other.view(np.uint8)).mean()
        assert apart < 1e-3  # signs of what rounding leaves at zero
    assert ours.encode(TEXTS[0], precision="binary").shape == (4,)
    assert isinstance(ours.encode(texts, precision="ubinary", convert_to_tensor=True), torch.Tensor)
    with pytest.warns(BijectWarning, match="ranges"):
        ours.encode(texts[:5], precision="int8")
    with pytest.raises(BijectError, match="One vector"):
        ours.encode(TEXTS[0], precision="int8")
    with pytest.raises(BijectError, match="'int4'"):
        ours.encode(texts, precision="int4")
    with pytest.raises(BijectError, match="of floats"):
        quantize_embeddings(mine, "int8")


def test_rows_of_tokens(wrapped: Wrap) -> None:
    theirs = wrapped("bert", pooling="cls", prompts={"query": "the "})
    ours, hers = EmbeddingModel.from_pretrained(theirs), opened(theirs)
    for how in ({}, {"prompt_name": "query"}):
        mine = ours.encode(list(TEXTS), output_value="token_embeddings", **how)
        other = hers.encode(list(TEXTS), output_value="token_embeddings", **how)
        assert [x.shape for x in mine] == [x.shape for x in other]
        assert all((a - b.cpu()).abs().max() <= TOLERANCE * 4 for a, b in zip(mine, other, strict=True))
    one = ours.encode(TEXTS[1], output_value="token_embeddings")
    assert one.shape == hers.encode(TEXTS[1], output_value="token_embeddings").shape
    with pytest.raises(BijectError, match="output_value"):
        ours.encode("a", output_value="rows")


def test_properties(wrapped: Wrap, tmp_path: Path) -> None:
    """Read and set as there; what is set is saved, and sentence-transformers computes the same with it."""
    ours, hers = (load(wrapped("bert")) for load in (EmbeddingModel.from_pretrained, opened))
    names = ("max_seq_length", "truncate_dim", "default_prompt_name", "similarity_fn_name")
    assert [getattr(ours, name) for name in names[1:]] == [getattr(hers, name) for name in names[1:]]
    assert ours.get_embedding_dimension() == hers.get_embedding_dimension() == 32
    long = "a b c " * 9
    for model in (ours, hers):
        model.max_seq_length = 6
        model.truncate_dim = 10
        model.similarity_fn_name = "dot"
        model.prompts = {"query": "the "}
        model.default_prompt_name = "query"
    assert ours.get_sentence_embedding_dimension() == hers.get_embedding_dimension() == 10
    with pytest.warns(BijectWarning, match="6 tokens"):
        mine = ours.encode([long, "a"])
    assert np.abs(mine - hers.encode([long, "a"])).max() <= TOLERANCE
    ours.save_pretrained(tmp_path / "ours")
    for again in (opened(tmp_path / "ours"), EmbeddingModel.from_pretrained(tmp_path / "ours")):
        assert [getattr(again, name) for name in names] == [6, 10, "query", "dot"]
        assert np.array_equal(again.similarity(mine, mine), ours.similarity(mine, mine))
    for name, value in (("max_seq_length", 10**9), ("truncate_dim", 0), ("similarity_fn_name", "hamming"),
                        ("default_prompt_name", "answer"), ("prompts", {"a": 1})):  # fmt: skip
        with pytest.raises(BijectError):
            setattr(ours, name, value)


def test_settings_of_a_load(wrapped: Wrap) -> None:
    ours = EmbeddingModel.from_pretrained(
        wrapped("bert"), truncate_dim=7, default_prompt_name="q", prompts={"q": "the "}, max_seq_length=None
    )
    assert ours.encode("a").shape == (7,)
    assert ours.default_prompt_name == "q"
    with pytest.raises(BijectError, match="no argument `trust_remote_code`"):
        EmbeddingModel.from_pretrained(ours.model.source.folder, trust_remote_code=True)


def test_shapes_that_callers_give(wrapped: Wrap) -> None:
    ours = EmbeddingModel.from_pretrained(wrapped("bert"))
    texts = list(TEXTS)
    expected = ours.encode(texts)
    for given in (tuple(texts), np.array(texts)):
        assert np.array_equal(ours.encode(given), expected)
    assert np.array_equal(ours.encode(sentences=texts, show_progress_bar=True), expected)
    assert np.array_equal(ours.encode(texts, device="cpu"), expected)
    assert ours.encode([]).shape == (0, 32)
    assert ours.to("cpu") is ours
    with pytest.raises(BijectError, match="needs texts"):
        ours.encode()


@pytest.mark.parametrize("kind", ["cosine", "dot", "euclidean", "manhattan"])
def test_pairs(kind: str, wrapped: Wrap) -> None:
    theirs = wrapped("bert", similarity_fn_name=kind)
    ours, hers = EmbeddingModel.from_pretrained(theirs), opened(theirs)
    rows = hers.encode(list(TEXTS))
    for given in (rows, list(rows), list(torch.from_numpy(rows))):
        for name in ("similarity", "similarity_pairwise"):
            mine = getattr(ours, name)(given, given[::-1])
            other = getattr(hers, name)(torch.from_numpy(rows), torch.from_numpy(rows[::-1].copy()))
            assert mine.shape == other.shape
            assert (mine - other).abs().max() <= 1e-4  # of up to 40


@pytest.mark.parametrize("chunks", [{}, {"query_chunk_size": 3, "corpus_chunk_size": 7}])
def test_search(chunks: dict[str, int]) -> None:
    generator = torch.Generator().manual_seed(0)
    queries, corpus = torch.randn(8, 6, generator=generator), torch.randn(40, 6, generator=generator)
    for top_k in (1, 5, 99):
        ours = semantic_search(queries, corpus.numpy(), top_k=top_k, **chunks)
        hers = util().semantic_search(queries, corpus, top_k=top_k, **chunks)
        assert ours == hers  # ids and scores, to the bit
    assert len(semantic_search(queries[0], corpus)) == 1
    assert semantic_search(queries[:0], corpus) == []
    assert biject.semantic_search is semantic_search
    with pytest.raises(BijectError, match="top_k"):
        semantic_search(queries, corpus, top_k=0)


def test_a_reranker(reference: Any) -> None:
    pytest.importorskip("sentence_transformers")
    from sentence_transformers import CrossEncoder

    folder = reference("bert", "seqcls")
    ours, hers = Reranker.from_pretrained(folder), CrossEncoder(str(folder), device="cpu")
    pairs = [(TEXTS[0], text) for text in TEXTS]
    for how in (
        {},
        {"apply_softmax": True},
        {"activation_fn": torch.nn.Tanh()},
        {"show_progress_bar": False},
    ):
        assert np.abs(ours.predict(pairs, **how) - hers.predict(pairs, **how)).max() <= TOLERANCE
    assert np.array_equal(ours.predict(sentences=pairs), ours.predict(pairs))
    assert isinstance(ours.predict(pairs, convert_to_numpy=False), list)
    assert ours.max_length is not None
    short = Reranker.from_pretrained(folder, max_length=6)
    hers.max_length = 6
    with pytest.warns(BijectWarning, match="6 tokens"):
        mine = short.predict(pairs)
    assert np.abs(mine - hers.predict(pairs)).max() <= TOLERANCE
    with pytest.raises(BijectError, match="max_length"):
        ours.max_length = 0


@pytest.mark.slow
def test_several_processes(wrapped: Wrap) -> None:
    """The vectors of one process, in their order; a pool's folder goes with it; a worker's error is told."""
    theirs = wrapped("bert", prompts={"query": "the "}, normalize=True)
    ours = EmbeddingModel.from_pretrained(theirs)
    ours.truncate_dim = 9
    texts = [f"{text} {'a ' * (i % 5)}" for i in range(7) for text in TEXTS]
    expected = ours.encode(texts, prompt_name="query")
    pool = ours.start_multi_process_pool(["cpu", "cpu"])
    folder = pool._folder
    assert folder.is_dir()
    for how in ({"chunk_size": 4}, {}):
        found = ours.encode(texts, prompt_name="query", pool=pool, **how)
        assert np.abs(found - expected).max() <= TOLERANCE
    assert ours.encode_multi_process(texts[:3], pool, precision="ubinary").dtype == np.uint8
    pool._inputs.put(((-1, 0), texts[:1], {}))  # what a call that was broken off left behind
    assert np.abs(ours.encode(texts[:2], pool=pool) - ours.encode(texts[:2])).max() <= TOLERANCE
    with ThreadPoolExecutor(4) as threads:  # as a server's threads do
        parts = [texts[at : at + 5] for at in range(0, 20, 5)]
        answers = list(threads.map(lambda part: ours.encode(part, pool=pool, chunk_size=2), parts))
    for part, answer in zip(parts, answers, strict=True):
        assert np.abs(answer - ours.encode(part)).max() <= TOLERANCE
    with pytest.raises(BijectError, match=r"of the pool failed: .*unexpected keyword"):
        pool.encode(texts, None, {"speed": 3, "sentences": None})
    assert np.abs(ours.encode(texts[:2], pool=pool) - ours.encode(texts[:2])).max() <= TOLERANCE
    pool.processes[0].terminate()
    pool.processes[0].join()
    pool.processes[1].terminate()
    with pytest.raises(BijectError, match="ended unasked"):
        ours.encode(texts, pool=pool)
    assert not folder.exists()
    with pytest.raises(BijectError, match="was stopped"):
        ours.encode(texts, pool=pool)
    with pytest.raises(BijectError, match="at least one device"):
        EncodingPool(EmbeddingModel, ours.save_pretrained, [], options={})


@pytest.mark.slow
def test_several_processes_in_8_bits(wrapped: Wrap, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """From a relative folder, with a limit of tokens above the model's own."""
    theirs = wrapped("bert", normalize=True)
    monkeypatch.chdir(Path(theirs).parent)
    ours = EmbeddingModel.from_pretrained(Path(theirs).name, quantization="int8")
    found = ours.encode(TEXTS, device=["cpu", "cpu"])
    assert np.abs(found - ours.encode(TEXTS)).max() <= TOLERANCE


def test_8_bits(wrapped: Wrap, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Near the vectors of float32; nothing is saved or trained of it, and what it has not is refused."""
    theirs = wrapped("bert", normalize=True)
    exact = EmbeddingModel.from_pretrained(theirs)
    ours = EmbeddingModel.from_pretrained(theirs, quantization="int8", truncate_dim=20)
    texts = [f"{text} {'a ' * i}" for i in range(9) for text in TEXTS]
    mine, expected = ours.encode(texts), exact.encode(texts, truncate_dim=20)
    cosines = (mine * expected).sum(1) / np.linalg.norm(mine, axis=1) / np.linalg.norm(expected, axis=1)
    assert 0.99 <= cosines.min() < 1
    assert not np.array_equal(mine, expected)
    assert np.array_equal(exact.encode(texts, truncate_dim=20), expected)  # nothing of it leaks
    with pytest.raises(BijectError, match="int8"):
        ours.save_pretrained(tmp_path / "ours")
    for how in ({"dtype": "bfloat16"}, {"numerics": "exact"}, {"device": "meta"}):
        with pytest.raises(BijectError):
            EmbeddingModel.from_pretrained(theirs, quantization="int8", **how)
    with monkeypatch.context() as patched:  # as where there is a GPU
        patched.setattr(embedding_settings, "usable_device", torch.device)
        with pytest.raises(BijectError, match="computes on the CPU, not on cuda"):
            ours.encode(texts, device="cuda")
    with torch.inference_mode():
        half = copy.deepcopy(ours.model).half()  # a habit; what C reads stays as it was made
        ids = torch.randint(5, 50, (2, 7))
        apart = half(input_ids=ids).last_hidden_state.float() - ours.model(input_ids=ids).last_hidden_state
        assert apart.abs().max() < 0.1  # float16's rounding moves inputs by a code, 1/127 of the largest
    with pytest.raises(BijectError, match="'int4'"):
        EmbeddingModel.from_pretrained(theirs, quantization="int4")


@pytest.mark.parametrize("family", ["bert", "modernbert", "deberta-v2"])
def test_fast_is_within_rounding(family: str, wrapped: Wrap) -> None:
    theirs = wrapped(family)
    texts = [f"{text} {'a b ' * i}" for i in range(12) for text in TEXTS]
    exact, fast = (EmbeddingModel.from_pretrained(theirs, numerics=how) for how in ("exact", "fast"))
    expected = exact.encode(texts)
    assert np.abs(fast.encode(texts) - expected).max() <= 2e-6 * max(1.0, float(np.abs(expected).max()))
