"""Model, normalizer, pre-tokenizer and decoder of each of HF's tokenizer classes.

Source of every function: the class's `__init__` in models/NAME/tokenization_NAME.py, transformers 5.23.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from tokenizers import Regex, Tokenizer, decoders, normalizers, pre_tokenizers
from tokenizers.models import BPE, Unigram, WordPiece

from biject.tokenization.vocabulary import Vocabulary

Options = Mapping[str, Any]
Texts = Mapping[str, str]
"""Special tokens' texts by role; `None` as text where a role has no token, as HF formats it."""

SPACE = "▁"
_QWEN2 = (  # GPT-4's pattern with single digits
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+"
    r"|\s+(?!\S)|\s+"
)


def bert(vocab: Vocabulary, options: Options, texts: Texts) -> Tokenizer:
    """WordPiece over BERT's words; also DistilBERT and ELECTRA."""
    backend = Tokenizer(WordPiece(vocab.ids, unk_token=texts["unk_token"]))
    backend.normalizer = normalizers.BertNormalizer(
        clean_text=True,
        handle_chinese_chars=options.get("tokenize_chinese_chars", True),
        strip_accents=options.get("strip_accents"),
        lowercase=options.get("do_lower_case", True),
    )
    backend.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    backend.decoder = decoders.WordPiece(prefix="##")
    return backend


def byte_bpe(vocab: Vocabulary, options: Options, texts: Texts) -> Tokenizer:
    """BPE over bytes: GPT-2, RoBERTa, DeBERTa."""
    backend = Tokenizer(_bpe(vocab))
    backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=options.get("add_prefix_space", False))
    backend.decoder = decoders.ByteLevel()
    return backend


def qwen2(vocab: Vocabulary, options: Options, texts: Texts) -> Tokenizer:
    """BPE over bytes of NFC text, with a pattern of its own."""
    backend = Tokenizer(_bpe(vocab))
    prefix = options.get("add_prefix_space")
    backend.normalizer = normalizers.NFC()
    backend.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(_QWEN2), behavior="isolated", invert=False),
            pre_tokenizers.ByteLevel(add_prefix_space=bool(prefix), use_regex=False),
        ]
    )
    backend.decoder = decoders.ByteLevel()
    return backend


def _bpe(vocab: Vocabulary) -> BPE:
    return BPE(
        vocab=vocab.ids,
        merges=vocab.merges,
        dropout=None,
        continuing_subword_prefix="",
        end_of_word_suffix="",
        fuse_unk=False,
    )


def albert(vocab: Vocabulary, options: Options, texts: Texts) -> Tokenizer:
    """Unigram over lower-cased text without accents; the unknown token is id 1."""
    backend = Tokenizer(Unigram(vocab.scores, unk_id=1, byte_fallback=False))
    steps: list[Any] = [normalizers.Replace("``", '"'), normalizers.Replace("''", '"')]
    if not options.get("keep_accents", False):
        steps += [normalizers.NFKD(), normalizers.StripAccents()]
    if options.get("do_lower_case", True):
        steps.append(normalizers.Lowercase())
    if vocab.charsmap:
        steps.append(normalizers.Precompiled(vocab.charsmap))
    backend.normalizer = normalizers.Sequence(steps)
    return _split_at_spaces(backend, options)


def xlm_roberta(vocab: Vocabulary, options: Options, texts: Texts) -> Tokenizer:
    """Unigram in fairseq's order of ids; the unknown token is id 3."""
    return _fairseq(vocab, options, unk_id=3)


def camembert(vocab: Vocabulary, options: Options, texts: Texts) -> Tokenizer:
    """As XLM-RoBERTa's, the unknown token where the vocabulary has it first."""
    found = (index for index, (text, _) in enumerate(vocab.scores) if text == texts["unk_token"])
    return _fairseq(vocab, options, unk_id=next(found, 0))


def _fairseq(vocab: Vocabulary, options: Options, *, unk_id: int) -> Tokenizer:
    backend = Tokenizer(Unigram(vocab.scores, unk_id=unk_id, byte_fallback=False))
    if vocab.charsmap:
        backend.normalizer = normalizers.Precompiled(vocab.charsmap)
    return _split_at_spaces(backend, options)


def _split_at_spaces(backend: Tokenizer, options: Options) -> Tokenizer:
    scheme = "always" if options.get("add_prefix_space", True) else "never"
    backend.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.WhitespaceSplit(),
            pre_tokenizers.Metaspace(replacement=SPACE, prepend_scheme=scheme),
        ]
    )
    backend.decoder = decoders.Metaspace(replacement=SPACE, prepend_scheme=scheme)
    return backend


def deberta_v2(vocab: Vocabulary, options: Options, texts: Texts) -> Tokenizer:
    """Unigram over text whose runs of white space are one space."""
    unknown = (texts["unk_token"], 0.0)
    given = options.get("unk_id", 1) if vocab.unk_id is None else vocab.unk_id
    unk_id = vocab.scores.index(unknown) if unknown in vocab.scores else given
    backend = Tokenizer(Unigram(vocab.scores, unk_id=unk_id, byte_fallback=False))
    steps: list[Any] = [normalizers.Lowercase()] if options.get("do_lower_case", False) else []
    steps += [
        normalizers.Replace(Regex(r"\s{2,}|[\n\r\t]"), " "),
        normalizers.NFC(),
        normalizers.Strip(left=False, right=True),
    ]
    backend.normalizer = normalizers.Sequence(steps)
    scheme = "always" if options.get("add_prefix_space", True) else "first"
    cuts: list[Any] = []
    if options.get("split_by_punct", False):
        cuts.append(pre_tokenizers.Punctuation(behavior="isolated"))
    cuts.append(pre_tokenizers.Metaspace(replacement=SPACE, prepend_scheme=scheme))
    backend.pre_tokenizer = pre_tokenizers.Sequence(cuts)
    backend.decoder = decoders.Metaspace(replacement=SPACE, prepend_scheme=scheme)
    return backend


def llama(vocab: Vocabulary, options: Options, texts: Texts) -> Tokenizer:
    """SentencePiece's BPE with bytes for what it does not know."""
    prefix = options.get("add_prefix_space")
    prefix = True if prefix is None else prefix
    backend = Tokenizer(
        BPE(vocab=vocab.ids, merges=vocab.merges, fuse_unk=True, byte_fallback=True, dropout=None)
    )
    scheme = ("always" if options.get("legacy", False) else "first") if prefix else "never"
    backend.pre_tokenizer = pre_tokenizers.Metaspace(replacement=SPACE, prepend_scheme=scheme, split=False)
    steps: list[Any] = [decoders.Replace(SPACE, " "), decoders.ByteFallback(), decoders.Fuse()]
    if prefix:
        steps.append(decoders.Strip(content=" ", left=1))
    backend.decoder = decoders.Sequence(steps)
    return backend


def gemma(vocab: Vocabulary, options: Options, texts: Texts) -> Tokenizer:
    """As LLaMA's, without the space before a text."""
    backend = Tokenizer(
        BPE(
            vocab=vocab.ids,
            merges=vocab.merges,
            unk_token=texts["unk_token"],
            fuse_unk=True,
            byte_fallback=True,
            dropout=None,
        )
    )
    backend.normalizer = normalizers.Replace(" ", SPACE)
    backend.pre_tokenizer = pre_tokenizers.Split(pattern=" ", behavior="merged_with_previous", invert=False)
    backend.decoder = decoders.Sequence(
        [decoders.Replace(SPACE, " "), decoders.ByteFallback(), decoders.Fuse()]
    )
    return backend


def generic_sentencepiece(vocab: Vocabulary) -> Tokenizer:
    """A SentencePiece model of no known class (`SpmConverter.build_tokenizer_from_spm_proto`)."""
    proto = vocab.proto
    assert proto is not None
    if vocab.scores:
        model: Any = Unigram(vocab.scores, unk_id=proto.unk_id, byte_fallback=proto.byte_fallback)
    else:
        model = BPE(
            vocab=vocab.ids,
            merges=vocab.merges,
            unk_token=proto.unk_piece,
            fuse_unk=True,
            byte_fallback=proto.byte_fallback,
            dropout=None,
        )
    backend = Tokenizer(model)
    steps: list[Any] = [normalizers.Precompiled(vocab.charsmap)] if vocab.charsmap else []
    backend.normalizer = normalizers.Sequence([*steps, normalizers.Replace(" ", SPACE)])
    undo: list[Any] = [decoders.Replace(SPACE, " ")]
    if proto.byte_fallback:
        undo += [decoders.ByteFallback(), decoders.Fuse()]
    backend.decoder = decoders.Sequence(undo)
    return backend
