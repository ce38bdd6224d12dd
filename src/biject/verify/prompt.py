"""A user's text as inputs, by the tokenizer that lies in the folder."""

from __future__ import annotations

from pathlib import Path

import torch

from biject.errors import InputError
from biject.tokenization.files import SERIALIZED, VOCABULARIES
from biject.verify.hf import quiet
from biject.verify.inputs import Case
from biject.verify.limited import limited

_NAMES = ("input_ids", "attention_mask", "token_type_ids")


def prompt_case(folder: Path, text: str, *, vocab_size: int) -> Case:
    """Tokenize `text` as `transformers` does for this folder.

    Raises:
        InputError: The folder has no tokenizer that transformers can read, or one for another vocabulary, or
            the text has no tokens.
    """
    known = (SERIALIZED, *VOCABULARIES)
    if not any((folder / name).is_file() for name in known):
        raise InputError(  # transformers 5.23 would make one up that knows its special tokens only
            f"--prompt needs a tokenizer, and {folder} has none of {', '.join(known)}."
        )
    with quiet():
        from transformers import AutoTokenizer

        def encode() -> dict[str, list[int]]:
            try:
                encoded = AutoTokenizer.from_pretrained(
                    folder, local_files_only=True, trust_remote_code=False
                )(text, truncation=True, return_attention_mask=True)
            except Exception as error:  # transformers raises what its many tokenizers raise
                raise InputError(
                    f"--prompt needs a tokenizer that transformers can read in {folder}: "
                    f"{type(error).__name__}: {error}"
                ) from error
            return {name: list(encoded[name]) for name in _NAMES if name in encoded}

        encoded = limited(encode, what=f"the tokenizer of {folder}")
    inputs = {name: torch.tensor([ids]) for name, ids in encoded.items()}
    if not inputs["input_ids"].numel():
        raise InputError("--prompt has no tokens; give a text of at least one word.")
    highest = int(inputs["input_ids"].max())
    if highest >= vocab_size:
        raise InputError(
            f"the tokenizer in {folder} gives id {highest}, the model has {vocab_size} token embeddings: "
            "they do not belong together."
        )
    return Case(name="prompt", inputs=inputs)
