"""Folders to compare on: every class, file format and option that changes an id."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from .make import (
    TEMPLATE,
    wordpieces,
    write_byte_bpe,
    write_bytes_bpe,
    write_json,
    write_sentencepiece,
    write_split_bpe,
    write_wordpiece,
)

Write = Callable[[Path], None]
CASES: dict[str, Write] = {}

_ROBERTA = ("<s>", "<pad>", "</s>", "<unk>", "<mask>")
_BRACKETS = ("[CLS]", "[PAD]", "[SEP]", "[UNK]", "[MASK]")


def settings(folder: Path, model_type: str | None, **values: Any) -> None:
    """config.json and, if there is something to say, tokenizer_config.json."""
    folder.mkdir(parents=True, exist_ok=True)
    write_json(folder / "config.json", {"model_type": model_type} if model_type else {})
    if values:
        write_json(folder / "tokenizer_config.json", values)


def _wordpiece(name: str, model_type: str = "bert", **values: Any) -> None:
    def write(folder: Path) -> None:
        settings(folder, model_type, **values)
        write_wordpiece(folder)

    CASES[f"wordpiece {name}"] = write


def _byte_bpe(
    name: str, model_type: str, first: tuple[str, ...] = (), last: tuple[str, ...] = (), **values: Any
) -> None:
    def write(folder: Path) -> None:
        settings(folder, model_type, **values)
        write_byte_bpe(folder, first, last)

    CASES[f"byte-bpe {name}"] = write


def _sentencepiece(name: str, model_type: str | None, file: str, kind: str, **values: Any) -> None:
    def write(folder: Path) -> None:
        settings(folder, model_type, **values)
        write_sentencepiece(folder / file, kind)

    CASES[f"sentencepiece {name}"] = write


def _case(name: str) -> Callable[[Write], Write]:
    def add(write: Write) -> Write:
        CASES[name] = write
        return write

    return add


_wordpiece("bare")
_wordpiece("settings", tokenizer_class="BertTokenizer", model_max_length=64)
_wordpiece("fast class", tokenizer_class="BertTokenizerFast", model_max_length=1e30)
_wordpiece("cased", do_lower_case=False, never_split=["[unused0]", "don't"])
_wordpiece("lower with accents", do_lower_case=True, strip_accents=False)
_wordpiece("cased without accents", do_lower_case=False, strip_accents=True)
_wordpiece("chinese kept", tokenize_chinese_chars=False)
_wordpiece("distilbert", "distilbert", tokenizer_class="DistilBertTokenizer", do_lower_case=False)
_wordpiece("distilbert by the config", "distilbert")
_wordpiece("without segments", model_input_names=["input_ids", "attention_mask"])
_wordpiece("electra", "electra", tokenizer_class="ElectraTokenizer")
_wordpiece("left sides", padding_side="left", truncation_side="left", clean_up_tokenization_spaces=True)
_wordpiece("extra tokens", additional_special_tokens=["[unused0]", "<extra>"], image_token="<image>")
_wordpiece("named tokens", extra_special_tokens={"boi_token": "<boi>"}, chat_template=TEMPLATE)
_wordpiece("no extra tokens", extra_special_tokens={}, additional_special_tokens=None)
_wordpiece("split special", split_special_tokens=True)
_wordpiece(
    "decoder",
    cls_token="[CLS]",
    mask_token={"__type": "AddedToken", "content": "[MASK]", "lstrip": True, "rstrip": False,
                "normalized": False, "single_word": False},
    added_tokens_decoder={
        "0": {"content": "[PAD]", "special": True, "normalized": False},
        "5": {"content": "[MASK]", "special": True, "normalized": False, "lstrip": True},
        "99999": {"content": "<later>", "special": False, "normalized": True, "single_word": True},
        "99998": {"content": "Ünï", "special": False, "normalized": True},
    },
)  # fmt: skip
_wordpiece("named by the config alone", "roberta", tokenizer_class="BertTokenizer")


@_case("wordpiece special map")
def _special_map(folder: Path) -> None:
    settings(folder, "bert", cls_token="[CLS]", pad_token="[wrong]")
    write_wordpiece(folder)
    mask = {"content": "[MASK]", "lstrip": True, "rstrip": False, "normalized": True, "single_word": False}
    special = {"pad_token": "[PAD]", "mask_token": mask, "additional_special_tokens": ["<one>", "[unused0]"]}
    write_json(folder / "special_tokens_map.json", special)
    write_json(folder / "added_tokens.json", {"<one>": 700, "two words": 701, "İx": 702})


@_case("wordpiece other names")
def _other_names(folder: Path) -> None:
    names = {
        "unk_token": "<u>",
        "cls_token": "<c>",
        "sep_token": "<s>",
        "pad_token": "<p>",
        "mask_token": "<m>",
    }
    settings(folder, "bert", **names)
    write_wordpiece(folder, (*names.values(), *wordpieces()[6:]))


@_case("wordpiece odd lines")
def _odd_lines(folder: Path) -> None:
    settings(folder, "bert", do_lower_case=False)
    lines = [
        "[PAD]",
        "[UNK]",
        "[CLS]",
        "[SEP]",
        "[MASK]",
        "the  ",
        "a\r",
        "the",
        "",
        "##s",
        "dog",
        "x\u2028y",
    ]
    (folder / "vocab.txt").write_bytes("\n".join(lines).encode())


_GPT2 = ("<|endoftext|>",)
_byte_bpe("gpt2", "gpt2", last=_GPT2)
_byte_bpe("gpt2 prefix", "gpt2", last=_GPT2, add_prefix_space=True, tokenizer_class="GPT2Tokenizer")
_byte_bpe("gpt2 bos", "gpt2", last=_GPT2, add_bos_token=True)
_byte_bpe("gpt2 pad", "gpt2", last=_GPT2, pad_token="<|pad|>", clean_up_tokenization_spaces=True)
_byte_bpe("roberta", "roberta", _ROBERTA[:4], _ROBERTA[4:])
_byte_bpe("roberta prefix", "roberta", _ROBERTA[:4], _ROBERTA[4:], add_prefix_space=True, trim_offsets=False)
_byte_bpe(
    "roberta mask", "roberta", _ROBERTA[:4], _ROBERTA[4:], tokenizer_class="RobertaTokenizerFast",
    mask_token={"__type": "AddedToken", "content": "<mask>", "lstrip": True, "rstrip": False,
                "normalized": True, "single_word": False},
)  # fmt: skip
_byte_bpe("longformer", "longformer", _ROBERTA[:4], _ROBERTA[4:], tokenizer_class="LongformerTokenizer")
_byte_bpe("deberta", "deberta", _BRACKETS[:4], _BRACKETS[4:])
_byte_bpe("qwen2", "qwen2", (), ("<|endoftext|>", "<|im_end|>"), eos_token="<|im_end|>")

_sentencepiece("albert", "albert", "spiece.model", "albert")
_sentencepiece("albert cased", "albert", "spiece.model", "albert", do_lower_case=False, keep_accents=True)
_sentencepiece(
    "albert no prefix",
    "albert",
    "spiece.model",
    "albert",
    add_prefix_space=False,
    tokenizer_class="AlbertTokenizer",
)
_sentencepiece("albert elsewhere", "albert", "tokenizer.model", "albert")
_sentencepiece("xlm-roberta", "xlm-roberta", "sentencepiece.bpe.model", "unigram", model_max_length=128)
_sentencepiece("xlm-roberta extra", "xlm-roberta", "sentencepiece.bpe.model", "unigram",
               extra_special_tokens=["<extra>"], mask_token="<m>")  # fmt: skip
_sentencepiece("camembert", "camembert", "sentencepiece.bpe.model", "unigram")
_sentencepiece("camembert listed", "camembert", "sentencepiece.bpe.model", "unigram",
               additional_special_tokens=["<s>NOTUSED", "</s>NOTUSED"])  # fmt: skip
_sentencepiece("deberta-v2", "deberta-v2", "spm.model", "deberta", do_lower_case=False)
_sentencepiece(
    "deberta-v2 words", "deberta-v2", "spm.model", "deberta", do_lower_case=True, split_by_punct=True
)
_sentencepiece("deberta-v2 no prefix", "deberta-v2", "spm.model", "deberta", add_prefix_space=False)
_sentencepiece("llama", "llama", "tokenizer.model", "bytes", tokenizer_class="LlamaTokenizer")
_sentencepiece(
    "llama legacy", "llama", "tokenizer.model", "bytes", tokenizer_class="LlamaTokenizer", legacy=True
)
_sentencepiece(
    "llama bos and eos", "llama", "tokenizer.model", "bytes", tokenizer_class="LlamaTokenizer",
    add_bos_token=True, add_eos_token=True, add_prefix_space=False, chat_template=TEMPLATE,
)  # fmt: skip
_sentencepiece(
    "generic unigram", None, "tokenizer.model", "unigram", tokenizer_class="PreTrainedTokenizerFast"
)
_sentencepiece("generic bpe", None, "tokenizer.model", "bpe", tokenizer_class="TokenizersBackend")
_sentencepiece("generic bytes", None, "tokenizer.model", "bytes", tokenizer_class="TokenizersBackend")


@_case("sentencepiece deberta-v3 mask")
def _deberta_v3(folder: Path) -> None:
    settings(folder, "deberta-v2", vocab_type="spm", do_lower_case=False)
    write_sentencepiece(folder / "spm.model", "deberta")
    write_json(folder / "added_tokens.json", {"[MASK]": 260})


@_case("serialized as it is")
def _serialized(folder: Path) -> None:
    settings(
        folder, "bert", tokenizer_class="PreTrainedTokenizerFast", unk_token="[UNK]", mask_token="[MASK]"
    )
    from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors

    words = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *["the", "quick", "brown", "fox", "ü", "word"]]
    ids = {word: index for index, word in enumerate(words)}
    backend = Tokenizer(models.WordLevel(ids, unk_token="[UNK]"))
    backend.normalizer = normalizers.Lowercase()
    backend.pre_tokenizer = pre_tokenizers.Whitespace()
    backend.post_processor = processors.BertProcessing(("[SEP]", 3), ("[CLS]", 2))
    backend.add_special_tokens(["[CLS]", "[SEP]"])
    backend.enable_padding(direction="left", pad_id=0, pad_token="[PAD]", length=16)
    backend.enable_truncation(16, direction="left")
    backend.save(str(folder / "tokenizer.json"))


@_case("serialized and versioned")
def _versioned(folder: Path) -> None:
    _serialized(folder)
    files = ["tokenizer.json", "tokenizer.4.0.0.json"]
    settings(folder, "bert", tokenizer_class="PreTrainedTokenizerFast", fast_tokenizer_files=files)
    text = (folder / "tokenizer.json").read_text()
    (folder / "tokenizer.4.0.0.json").write_text(text.replace('"quick"', '"slow"'))


@_case("templates in files")
def _templates(folder: Path) -> None:
    settings(folder, "bert", chat_template="{{ 1 / 0 }}")
    write_wordpiece(folder)
    (folder / "chat_template.jinja").write_text(TEMPLATE)
    (folder / "additional_chat_templates").mkdir()
    (folder / "additional_chat_templates" / "rag.jinja").write_text("{{ documents }}")


def _split_bpe(name: str, model_type: str, **values: Any) -> None:
    def write(folder: Path) -> None:
        settings(folder, model_type, **values)
        write_split_bpe(folder, ("<|endoftext|>", "<|pad|>"))

    CASES[f"split {name}"] = write


def _bytes_bpe(name: str, model_type: str, *, gemma: bool = False, **values: Any) -> None:
    def write(folder: Path) -> None:
        settings(folder, model_type, **values)
        write_bytes_bpe(folder, gemma=gemma)

    CASES[f"bytes {name}"] = write


_ENDS = {"bos_token": "<|endoftext|>", "eos_token": "<|endoftext|>", "unk_token": "<|endoftext|>"}
_split_bpe("olmo2", "olmo2", tokenizer_class="GPT2Tokenizer", pad_token="<|pad|>", **_ENDS)
_split_bpe("olmo2 unnamed", "olmo2", **_ENDS)
_split_bpe("granite", "granite", tokenizer_class="GPT2Tokenizer", padding_side="left", **_ENDS)
_split_bpe("gpt_bigcode", "gpt_bigcode", tokenizer_class="GPT2TokenizerFast", **_ENDS)
_split_bpe("gpt_neo", "gpt_neo", tokenizer_class="GPT2Tokenizer", **_ENDS)
_split_bpe("smollm3", "smollm3", tokenizer_class="PreTrainedTokenizerFast", eos_token="<|endoftext|>")
_split_bpe("llama 3", "llama", tokenizer_class="LlamaTokenizerFast", eos_token="<|endoftext|>")
_split_bpe("modernbert", "modernbert", tokenizer_class="RobertaTokenizer", unk_token="<|endoftext|>")
_split_bpe("qwen2", "qwen2", tokenizer_class="GPT2Tokenizer", **_ENDS)
_split_bpe("qwen3", "qwen3", tokenizer_class="GPT2Tokenizer", **_ENDS)
_split_bpe("gpt2", "gpt2", tokenizer_class="PreTrainedTokenizerFast", **_ENDS)
_split_bpe(
    "code of its own", "olmo2", tokenizer_class="GPT2Tokenizer",
    auto_map={"AutoTokenizer": [None, "tokenization_own.Own"]}, **_ENDS,
)  # fmt: skip
_PIECES = {"bos_token": "<s>", "eos_token": "</s>", "unk_token": "<unk>"}
_bytes_bpe("phi3", "phi3", tokenizer_class="LlamaTokenizer", pad_token="</s>", padding_side="left", **_PIECES)
_bytes_bpe("mistral", "mistral", tokenizer_class="LlamaTokenizer", legacy=True, **_PIECES)
_bytes_bpe("mixtral", "mixtral", tokenizer_class="LlamaTokenizerFast", legacy=False, **_PIECES)
_bytes_bpe("llama", "llama", tokenizer_class="LlamaTokenizer", legacy=False, **_PIECES)
_sentencepiece("mistral", "mistral", "tokenizer.model", "bytes", tokenizer_class="LlamaTokenizer")
_GEMMA = {"bos_token": "<bos>", "eos_token": "<eos>", "pad_token": "<eos>", "unk_token": "<unk>"}
_bytes_bpe("gemma2", "gemma2", gemma=True, tokenizer_class="GemmaTokenizer", **_GEMMA)
_bytes_bpe("gemma3", "gemma3_text", gemma=True, tokenizer_class="GemmaTokenizerFast", mask_token=None)
_bytes_bpe("gemma unnamed", "gemma2", gemma=True)
_bytes_bpe("gemma right", "gemma2", gemma=True, tokenizer_class="GemmaTokenizer", padding_side="right")
_sentencepiece("gemma", "gemma2", "tokenizer.model", "bytes", tokenizer_class="GemmaTokenizer", **_PIECES)
