"""`load_tokenizer`: texts to ids as `transformers` makes them, by the `tokenizers` library alone."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from biject.checkpoint.strict_json import parse_object, read_small_file, shown
from biject.data.encoded import Encoded
from biject.data.library import library_errors
from biject.data.load import Parts, load_parts
from biject.data.special import SpecialTokens
from biject.errors import CheckpointError, InputError

LARGEST_MAX_LENGTH = 10**20
"""Above this, `model_max_length` is HF's way to say none."""

# What True means comes first, what False means last.
_TRUNCATION = ("longest_first", "only_first", "only_second", "do_not_truncate")
_PADDING = ("longest", "max_length", "do_not_pad")

Texts = str | Sequence[str] | Sequence[Sequence[str]]


def load_tokenizer(folder: str | Path, config: Mapping[str, Any] | None = None) -> Tokenizer:
    """Build the tokenizer that a checkpoint folder holds.

    From `tokenizer.json`, or WordPiece's `vocab.txt`, byte-BPE's `vocab.json` and `merges.txt`, or a
    SentencePiece model; with `tokenizer_config.json`, `special_tokens_map.json`, `added_tokens.json` and chat
    templates. Ids are those of transformers 5.23's `AutoTokenizer` on the same folder.

    Args:
        folder: Where the files lie.
        config: config.json, whose `model_type` decides where no `tokenizer_class` is named; read from the
            folder where left out.

    Raises:
        CheckpointError: Files are missing (the message names those that were expected) or damaged.
    """
    folder = Path(folder)
    if not folder.is_dir():
        raise CheckpointError(f"{folder} is no folder; give the one that holds the tokenizer's files.")
    if config is None:
        path = folder / "config.json"
        config = parse_object(read_small_file(path, what=path.name), where=str(path)) if path.exists() else {}
    return Tokenizer(load_parts(folder, config))


class Tokenizer(SpecialTokens):
    """A tokenizer with its special tokens and habits; what `load_tokenizer` returns.

    Attributes:
        class_name: HF's class whose pipeline it is.
        model_max_length: the longest row that the files allow, None where they set no limit.
        padding_side: `right` or `left`.
        truncation_side: the side that is cut off.
        changed: whether tokens were added since it was loaded.
    """

    def __init__(self, parts: Parts) -> None:
        super().__init__(parts)
        self.class_name = parts.class_name
        self.padding_side = parts.padding_side
        self.truncation_side = parts.truncation_side
        self.model_max_length = _max_length(parts.options)
        self.changed = False

    @property
    def kind(self) -> str:
        """The algorithm: `WordPiece`, `BPE`, `Unigram` or `WordLevel`."""
        return type(self.backend.model).__name__

    def __call__(
        self,
        texts: Texts,
        pairs: Texts | None = None,
        *,
        max_length: int | None = None,
        truncation: bool | str = False,
        padding: bool | str = False,
        stride: int = 0,
        return_overflowing: bool = False,
        is_split_into_words: bool = False,
        add_special_tokens: bool = True,
        pad_to_multiple_of: int | None = None,
    ) -> Encoded:
        """Encode one text or several, or pairs of them; the result always has rows.

        Args:
            texts: One text or a list of them; with `is_split_into_words` lists of words.
            pairs: The second texts.
            max_length: In tokens; `model_max_length` where left out.
            truncation: False, True (`longest_first`), `only_first`, `only_second`.
            padding: False, True (to the longest row), `max_length`.
            stride: How many tokens a text's next row repeats.
            return_overflowing: Give what was cut off as further rows.
            is_split_into_words: The texts are lists of words.
            add_special_tokens: Put the model's special tokens around the texts.
            pad_to_multiple_of: Round padded lengths up.

        Raises:
            InputError: The arguments do not fit each other, or this tokenizer.
        """
        rows = _rows(texts, pairs, is_split_into_words)
        if not rows:
            return Encoded([], [], self._parts.segments)
        self._set_truncation(truncation, max_length, stride)
        self._set_padding(padding, max_length, pad_to_multiple_of)
        with library_errors(InputError, "the texts cannot be tokenized"):
            encodings = self.backend.encode_batch(
                rows, is_pretokenized=is_split_into_words, add_special_tokens=add_special_tokens
            )
        if return_overflowing:
            groups = [[row, *row.overflowing] for row in encodings]
            origin = [index for index, group in enumerate(groups) for _ in group]
            return Encoded([row for group in groups for row in group], origin, self._parts.segments)
        return Encoded(encodings, list(range(len(encodings))), self._parts.segments)

    def _set_truncation(self, truncation: bool | str, max_length: int | None, stride: int) -> None:
        strategy = _strategy("truncation", truncation, _TRUNCATION)
        limit = self.model_max_length if max_length is None else max_length
        if strategy == "do_not_truncate" or limit is None:
            self.backend.no_truncation()
            return
        with library_errors(InputError, f"rows of {limit} tokens with a stride of {stride} cannot be cut"):
            self.backend.enable_truncation(
                limit, stride=stride, strategy=strategy, direction=self.truncation_side
            )

    def _set_padding(self, padding: bool | str, max_length: int | None, multiple: int | None) -> None:
        strategy = _strategy("padding", padding, _PADDING)
        length = self.model_max_length if max_length is None else max_length
        if strategy == "do_not_pad" or (strategy == "max_length" and length is None):
            self.backend.no_padding()
            return
        if self.pad_token is None or self.pad_token_id is None:
            raise InputError(
                "padding needs a padding token, and this tokenizer has none: encode one text at a time, or "
                "name one as `pad_token` in tokenizer_config.json."
            )
        self.backend.enable_padding(
            direction=self.padding_side,
            pad_id=self.pad_token_id,
            pad_token=self.pad_token,
            length=length if strategy == "max_length" else None,
            pad_to_multiple_of=multiple,
        )

    def decode(
        self,
        ids: Sequence[int],
        *,
        skip_special_tokens: bool = False,
        clean_up_tokenization_spaces: bool | None = None,
    ) -> str:
        """The text that ids stand for, as far as the tokenizer keeps it."""
        with library_errors(InputError, f"the ids {shown(list(ids))} cannot be decoded"):
            text = self.backend.decode(list(ids), skip_special_tokens=skip_special_tokens)
        clean = clean_up_tokenization_spaces
        if clean is None:
            clean = bool(self._parts.options.get("clean_up_tokenization_spaces", False))
        return _cleaned(text) if clean and self.kind != "BPE" else text


def _strategy(name: str, asked: bool | str, known: Sequence[str]) -> str:
    strategy = known[0 if asked else -1] if isinstance(asked, bool) else asked
    if strategy not in known:
        raise InputError(f"{name}: expected a bool or one of {', '.join(known)}; found {asked!r}.")
    return strategy


def _max_length(options: Mapping[str, Any]) -> int | None:
    given = options.get("model_max_length", options.get("max_len"))
    if given is None:
        return None
    if isinstance(given, bool) or not isinstance(given, int | float):
        raise CheckpointError(
            f"tokenizer_config.json: `model_max_length` must be a number, found {shown(given)}."
        )
    return int(given) if given <= LARGEST_MAX_LENGTH else None


def _rows(texts: Texts, pairs: Texts | None, split: bool) -> list[Any]:
    """One entry per text, or pair of texts."""
    single = isinstance(texts, str) or (split and not (texts and isinstance(texts[0], list | tuple)))
    if single:
        return [(texts, pairs)] if pairs else [texts]
    if pairs is None:
        return list(texts)
    if isinstance(pairs, str) or len(pairs) != len(texts):
        count = "one text" if isinstance(pairs, str) else f"{len(pairs)}"
        raise InputError(f"pairs: expected as many as there are texts ({len(texts)}), found {count}.")
    return list(zip(texts, pairs, strict=True))


def _cleaned(text: str) -> str:
    """Without the spaces that WordPiece puts before punctuation and contractions (as HF cleans up)."""
    for space in (" .", " ?", " !", " ,"):
        text = text.replace(space, space[1:])
    text = text.replace(" ' ", "'")
    for space in (" n't", " 'm", " 's", " 've", " 're"):
        text = text.replace(space, space[1:])
    return text
