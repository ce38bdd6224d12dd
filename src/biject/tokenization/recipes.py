"""What each of HF's tokenizer classes makes of a vocabulary: files, special tokens, pipeline.

HF builds most of the pipeline from the class and not from tokenizer.json, of which it takes the
vocabulary and, where the class sets none, the post-processor. To give the same ids, so do we.
Source of every class: models/NAME/tokenization_NAME.py, transformers 5.23.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import tokenizers
from tokenizers import processors

from biject.tokenization.pipelines import (
    Options,
    Texts,
    albert,
    bert,
    byte_bpe,
    camembert,
    deberta_v2,
    gemma,
    llama,
    qwen2,
    xlm_roberta,
)
from biject.tokenization.vocabulary import Vocabulary, fairseq_order

Build = Callable[[Vocabulary, Options, Texts], tokenizers.Tokenizer]
Reorder = Callable[[Vocabulary, Texts], Vocabulary]
Post = Callable[[tokenizers.Tokenizer, Options, Texts], Any]

WORDPIECE, BYTE_BPE, UNIGRAM, SPM_BPE = "wordpiece", "byte-bpe", "unigram", "sentencepiece-bpe"


@dataclass(frozen=True, kw_only=True)
class Recipe:
    """One class.

    Attributes:
        name: HF's name of it.
        kind: how it cuts words.
        files: the vocabulary's files, all of which are needed where there is no tokenizer.json.
        special: its default special tokens by role.
        build: model, normalizer, pre-tokenizer and decoder from a vocabulary.
        post: the post-processor, or None where tokenizer.json's stays.
        reorder: what it makes of a SentencePiece model's order of ids.
        segments: whether it gives `token_type_ids`.
        extra: special tokens without a role, unless a file names some.
        padding_side: the side of padding, unless the files set another.
        mask_takes_space: its mask token swallows the space before it.
        readds_special: it adds its special tokens once more, as plain special ones.
    """

    name: str
    kind: str
    files: tuple[str, ...]
    special: Mapping[str, str | None]
    build: Build
    post: Post | None = None
    reorder: Reorder | None = None
    segments: bool = False
    extra: tuple[str, ...] = ()
    padding_side: str = "right"
    mask_takes_space: bool = False
    readds_special: bool = False


def _ids(backend: tokenizers.Tokenizer, *tokens: str) -> list[tuple[str, int]]:
    return [(token, index) for token in tokens if (index := backend.token_to_id(token)) is not None]


def _bert_post(backend: tokenizers.Tokenizer, options: Options, texts: Texts) -> Any:
    """`[CLS] A [SEP] B [SEP]`, the second text and its separator in segment 1."""
    cls, sep = texts["cls_token"], texts["sep_token"]
    return processors.TemplateProcessing(
        single=f"{cls}:0 $A:0 {sep}:0",
        pair=f"{cls}:0 $A:0 {sep}:0 $B:1 {sep}:1",
        special_tokens=_ids(backend, cls, sep),
    )


def _albert_post(backend: tokenizers.Tokenizer, options: Options, texts: Texts) -> Any:
    """As BERT's, with the names written out: the class knows no others."""
    return _bert_post(backend, options, {"cls_token": "[CLS]", "sep_token": "[SEP]"})


def _roberta_post(backend: tokenizers.Tokenizer, options: Options, texts: Texts) -> Any:
    (sep,), (cls,) = (_ids(backend, texts[role]) for role in ("sep_token", "cls_token"))
    return processors.RobertaProcessing(
        sep,
        cls,
        options.get("trim_offsets", True),
        options.get("add_prefix_space", False),
    )


def _two_separators(first: str, last: str) -> Post:
    """`<s> A </s> </s> B </s>`, all in segment 0; the tokens by their roles."""

    def post(backend: tokenizers.Tokenizer, options: Options, texts: Texts) -> Any:
        cls, sep = texts[first], texts[last]
        return processors.TemplateProcessing(
            single=[cls, "$A", sep],
            pair=[cls, "$A", sep, sep, "$B", sep],
            special_tokens=_ids(backend, cls, sep),
        )

    return post


def _xlm_roberta_order(vocab: Vocabulary, texts: Texts) -> Vocabulary:
    """Fairseq counts `<s> <pad> </s> <unk>`, SentencePiece `<unk> <s> </s>`."""
    roles = ("bos_token", "pad_token", "eos_token", "unk_token")
    return fairseq_order(vocab, [(texts[role], 0.0) for role in roles], drop=3, mask=texts["mask_token"])


def _camembert_order(vocab: Vocabulary, texts: Texts) -> Vocabulary:
    """Fairseq's own four, then SentencePiece's without its unknown token, which is never to be used."""
    head = [
        ("<s>NOTUSED", 0.0),
        (texts["pad_token"], 0.0),
        ("</s>NOTUSED", 0.0),
        (texts["unk_token"], 0.0),
        ("<unk>NOTUSED", -100.0),
    ]
    return fairseq_order(vocab, head, drop=1, mask=texts["mask_token"])


_BRACKETS = {
    "unk_token": "[UNK]",
    "sep_token": "[SEP]",
    "pad_token": "[PAD]",
    "cls_token": "[CLS]",
    "mask_token": "[MASK]",
}
_ANGLES = {
    "bos_token": "<s>",
    "eos_token": "</s>",
    "sep_token": "</s>",
    "cls_token": "<s>",
    "unk_token": "<unk>",
    "pad_token": "<pad>",
    "mask_token": "<mask>",
}
_CLS_AS_BOS = {"bos_token": "[CLS]", "eos_token": "[SEP]"}
_BPE_FILES = ("vocab.json", "merges.txt")

RECIPES: Mapping[str, Recipe] = {
    recipe.name: recipe
    for recipe in (
        Recipe(
            name="BertTokenizer",
            kind=WORDPIECE,
            files=("vocab.txt",),
            special=_BRACKETS,
            build=bert,
            post=_bert_post,
            segments=True,
        ),
        Recipe(
            name="DistilBertTokenizer",
            kind=WORDPIECE,
            files=("vocab.txt",),
            special=_BRACKETS,
            build=bert,
            post=_bert_post,
        ),
        Recipe(
            name="RobertaTokenizer",
            kind=BYTE_BPE,
            files=_BPE_FILES,
            special=_ANGLES,
            build=byte_bpe,
            post=_roberta_post,
        ),
        Recipe(
            name="GPT2Tokenizer",
            kind=BYTE_BPE,
            files=_BPE_FILES,
            special=dict.fromkeys(("unk_token", "bos_token", "eos_token"), "<|endoftext|>")
            | {"pad_token": None},
            build=byte_bpe,
        ),
        Recipe(
            name="Qwen2Tokenizer",
            kind=BYTE_BPE,
            files=_BPE_FILES,
            special=dict.fromkeys(("unk_token", "eos_token", "pad_token"), "<|endoftext|>"),
            build=qwen2,
            readds_special=True,
        ),
        Recipe(
            name="DebertaTokenizer",
            kind=BYTE_BPE,
            files=_BPE_FILES,
            special=_BRACKETS | _CLS_AS_BOS,
            build=byte_bpe,
            post=_two_separators("cls_token", "sep_token"),
            segments=True,
        ),
        Recipe(
            name="AlbertTokenizer",
            kind=UNIGRAM,
            files=("spiece.model",),
            special=_BRACKETS | _CLS_AS_BOS | {"unk_token": "<unk>", "pad_token": "<pad>"},
            build=albert,
            post=_albert_post,
        ),
        Recipe(
            name="XLMRobertaTokenizer",
            kind=UNIGRAM,
            files=("sentencepiece.bpe.model",),
            special=_ANGLES,
            build=xlm_roberta,
            reorder=_xlm_roberta_order,
            post=_two_separators("bos_token", "eos_token"),
        ),
        Recipe(
            name="CamembertTokenizer",
            kind=UNIGRAM,
            files=("sentencepiece.bpe.model",),
            special=_ANGLES,
            build=camembert,
            reorder=_camembert_order,
            post=_two_separators("bos_token", "eos_token"),
            mask_takes_space=True,
            extra=("<s>NOTUSED", "</s>NOTUSED", "<unk>NOTUSED"),
        ),
        Recipe(
            name="DebertaV2Tokenizer",
            kind=UNIGRAM,
            files=("spm.model",),
            special=_BRACKETS | _CLS_AS_BOS,
            build=deberta_v2,
            post=_bert_post,
            segments=True,
        ),
        Recipe(
            name="LlamaTokenizer",
            kind=SPM_BPE,
            files=("tokenizer.model",),
            special={"unk_token": "<unk>", "bos_token": "<s>", "eos_token": "</s>"},
            build=llama,
            padding_side="left",
        ),
        Recipe(
            name="GemmaTokenizer",
            kind=SPM_BPE,
            files=("tokenizer.model",),
            special={
                "unk_token": "<unk>",
                "bos_token": "<bos>",
                "eos_token": "<eos>",
                "pad_token": "<pad>",
                "mask_token": "<mask>",
            },
            build=gemma,
            padding_side="left",
        ),
    )
}
