"""Tokenizer folders of every kind, made on the spot: WordPiece, byte-BPE and SentencePiece files.

The SentencePiece models are trained by the sentencepiece package on a few lines of several languages.
"""

from __future__ import annotations

import functools
import io
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

LINES = (
    "The quick brown fox jumps over the lazy dog while nobody measures anything at all.",
    "Pack my box with five dozen liquor jugs, said the unaffable antidisestablishmentarian.",
    "What is compared? Every id, every mask, every offset, every number 1,234.5 and 2024-02-29.",
    "don't can't I'm we've they'll he'd email user@host.example https://example.org/a/b?c=d",
    "Съешь же ещё этих мягких французских булок, да выпей чаю.",
    "Ξεσκεπάζω την ψυχοφθόρα βδελυγμία.",
    "日本語のテキストと漢字、カタカナ、ひらがな。我能吞下玻璃而不伤身体。",
    "한국어 텍스트 그리고 조합형",
    "\u0645\u0631\u062d\u0628\u0627 \u0628\u0627\u0644\u0639\u0627\u0644\u0645",
    "\u05e9\u05dc\u05d5\u05dd \u05e2\u05d5\u05dc\u05dd",
    "café naïve Ångström straße Việt Nam ①② ½ ﬁ",
    "😀 👍 ❤ 🌈",
)
TEMPLATE = (
    "{{ bos_token }}{% for message in messages %}{% if message['role'] == 'system' %}<<{{ message['content'] "
    "| trim }}>>\n{% continue %}{% endif %}[{{ message['role'] | upper }}] {% generation %}"
    "{{ message['content'] }}{% endgeneration %}{{ '\\n' }}"
    "{% endfor %}{% if add_generation_prompt %}[ASSISTANT]{% endif %}"
)


def corpus() -> Iterator[str]:
    """Lines to train on."""
    for _ in range(8):
        yield from LINES


def write_json(path: Path, value: Any) -> None:
    """A JSON file, its folder made if need be."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(value, ensure_ascii=False), encoding="utf-8")


@functools.cache
def sentencepiece_model(kind: str) -> bytes:
    """A trained model: `unigram`, `bpe`, `bytes` (BPE with bytes), `albert`, `deberta`."""
    import sentencepiece

    options: dict[str, Any] = {"model_type": "unigram", "vocab_size": 260}
    if kind in ("bpe", "bytes"):
        options = {"model_type": "bpe", "vocab_size": 400 if kind == "bpe" else 620}
    if kind == "bytes":
        options |= {"byte_fallback": True, "normalization_rule_name": "identity", "split_digits": True}
    if kind == "albert":
        options |= {
            "pad_id": 0, "unk_id": 1, "bos_id": -1, "eos_id": -1, "pad_piece": "<pad>",
            "control_symbols": "[CLS],[SEP],[MASK]", "normalization_rule_name": "nmt_nfkc_cf",
        }  # fmt: skip
    if kind == "deberta":
        options |= {
            "pad_id": 0, "bos_id": 1, "eos_id": 2, "unk_id": 3, "pad_piece": "[PAD]", "bos_piece": "[CLS]",
            "eos_piece": "[SEP]", "unk_piece": "[UNK]", "user_defined_symbols": "<url>",
        }  # fmt: skip
    sink = io.BytesIO()
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=corpus(), model_writer=sink, hard_vocab_limit=False, minloglevel=2, num_threads=1,
        character_coverage=0.98, **options,
    )  # fmt: skip
    return sink.getvalue()


@functools.cache
def byte_bpe() -> tuple[dict[str, int], list[str]]:
    """A byte-level vocabulary and its merges."""
    from tokenizers import Tokenizer, models, pre_tokenizers, trainers

    backend = Tokenizer(models.BPE())
    backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    trainer = trainers.BpeTrainer(
        vocab_size=420, initial_alphabet=pre_tokenizers.ByteLevel.alphabet(), show_progress=False
    )
    backend.train_from_iterator(corpus(), trainer)
    model = json.loads(backend.to_str())["model"]
    return model["vocab"], [pair if isinstance(pair, str) else " ".join(pair) for pair in model["merges"]]


@functools.cache
def wordpieces() -> tuple[str, ...]:
    """A WordPiece vocabulary, cased and with accents, so that every normalization shows."""
    words = {word for line in LINES for word in line.replace(",", " ").replace(".", " ").split()}
    letters = sorted({letter for line in LINES for letter in line if not letter.isspace()})
    pieces = sorted(words | {word.lower() for word in words})
    tails = [f"##{letter}" for letter in letters] + ["##ing", "##able", "##s"]
    return ("[PAD]", "[unused0]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *letters, *tails, *pieces)


def write_wordpiece(folder: Path, tokens: tuple[str, ...] | None = None) -> None:
    """`vocab.txt`, of tokens that are all different."""
    folder.mkdir(parents=True, exist_ok=True)
    lines = dict.fromkeys(tokens or wordpieces())
    (folder / "vocab.txt").write_text("".join(f"{token}\n" for token in lines), encoding="utf-8")


def write_byte_bpe(folder: Path, first: tuple[str, ...] = (), last: tuple[str, ...] = ()) -> None:
    """`vocab.json` and `merges.txt`, with special tokens before and behind the others."""
    vocab, merges = byte_bpe()
    ordered = [*first, *sorted(vocab, key=lambda token: vocab[token]), *last]
    write_json(folder / "vocab.json", {token: index for index, token in enumerate(ordered)})
    (folder / "merges.txt").write_text("\n".join(["#version: 0.2", *merges, ""]), encoding="utf-8")


def write_sentencepiece(path: Path, kind: str) -> None:
    """A SentencePiece model."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(sentencepiece_model(kind))


CL100K = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+"
    r"|\s+(?!\S)|\s+"
)


def write_split_bpe(folder: Path, special: tuple[str, ...]) -> None:
    """tokenizer.json with bytes cut by GPT-4's pattern, as OLMo 2 and Granite have it."""
    from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers, processors

    vocab, merges = byte_bpe()
    backend = Tokenizer(models.BPE(vocab=vocab, merges=[tuple(pair.split(" ")) for pair in merges]))
    backend.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(CL100K), behavior="isolated"),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )
    backend.decoder = decoders.ByteLevel()
    backend.post_processor = processors.ByteLevel(trim_offsets=False)
    backend.add_special_tokens(list(special))
    folder.mkdir(parents=True, exist_ok=True)
    backend.save(str(folder / "tokenizer.json"))


def write_bytes_bpe(folder: Path, *, gemma: bool = False) -> None:
    """tokenizer.json converted from a SentencePiece model by older releases: a space is put before the text
    (Phi-3, Mistral), or nothing (`gemma`, whose tokens have other names).
    """
    from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, processors

    from biject.tokenization.vocabulary import from_sentencepiece

    folder.mkdir(parents=True, exist_ok=True)
    path = folder / "made.model"
    write_sentencepiece(path, "bytes")
    vocab = from_sentencepiece(path, unigram=False)
    path.unlink()
    names = {"<s>": "<bos>", "</s>": "<eos>"} if gemma else {}
    ids = {names.get(token, token): index for token, index in vocab.ids.items()}
    backend = Tokenizer(
        models.BPE(vocab=ids, merges=vocab.merges, unk_token="<unk>", fuse_unk=True, byte_fallback=True)
    )
    steps: list[Any] = [decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse()]
    if gemma:
        backend.normalizer = normalizers.Replace(" ", "▁")
        backend.pre_tokenizer = pre_tokenizers.Split(" ", "merged_with_previous")
    else:
        backend.normalizer = normalizers.Sequence([normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")])
        steps.append(decoders.Strip(" ", 1, 0))
    backend.decoder = decoders.Sequence(steps)
    bos = "<bos>" if gemma else "<s>"
    backend.post_processor = processors.TemplateProcessing(
        single=f"{bos} $A", pair=f"{bos} $A {bos} $B", special_tokens=[(bos, ids[bos])]
    )
    backend.add_special_tokens(["<unk>", bos, "<eos>" if gemma else "</s>"])
    backend.save(str(folder / "tokenizer.json"))
