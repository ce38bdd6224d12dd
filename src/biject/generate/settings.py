"""How to generate: arguments of the call, then generation_config.json, then Hugging Face's defaults.

Source: transformers 5.23, generation/configuration_utils.py and `_prepare_generation_config`,
`_prepare_generated_length` of generation/utils.py.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal, TypedDict

from biject.errors import InputError
from biject.generate.checks import checked, refuse_other
from biject.generate.defaults import Defaults

_NEW_TOKENS = 20


class LengthError(InputError):
    """A prompt with what is to be added is longer than a text may be."""


class Arguments(TypedDict, total=False):
    """Arguments of `Model.generate`, named as in Hugging Face; None is the same as leaving one out."""

    max_new_tokens: int | None
    """How many tokens to add at most (20)."""
    max_length: int | None
    """The same, counted with the prompt; `max_new_tokens` comes first."""
    min_new_tokens: int | None
    """No end-of-text token before this many."""
    min_length: int | None
    """The same, counted with the prompt."""
    do_sample: bool | None
    """Draw tokens; else the likeliest is taken."""
    temperature: float | None
    top_k: int | None
    """50 where nothing is given and `do_sample` is on; 0 for all tokens."""
    top_p: float | None
    min_p: float | None
    repetition_penalty: float | None
    num_return_sequences: int | None
    """Texts for each prompt, side by side; needs `do_sample`."""
    eos_token_id: int | list[int] | None
    """Tokens that end a text; -1 for none."""
    pad_token_id: int | None
    """What fills texts that have ended; the first end-of-text token where there is none."""
    stop_strings: str | list[str] | None
    """Strings that end a text; need `tokenizer`."""
    numerics: Literal["exact", "fast"] | None
    """`fast`: tokens after the prompt are computed in C, within the rounding of float32; as the model was
    loaded where left out."""
    quantization: Literal["int8", "int4"] | None
    """The same with matrices rounded to codes of so many bits (the matrix over the vocabulary to 8)."""
    return_dict_in_generate: bool | None
    """Return a `GenerateOutput`, with the cache in it, and not the ids alone."""
    output_logits: bool | None
    """Keep each step's logits in it."""
    output_scores: bool | None
    """Keep each step's scores in it: logits after temperature, top-k and the others."""


_OF_A_CALL = ("numerics", "quantization")
"""No folder decides these."""
_OF_THE_OUTPUT = ("return_dict_in_generate", "output_logits", "output_scores")


@dataclass(frozen=True, kw_only=True)
class Settings:
    """What one call of generate does; lengths count the prompt's columns, too."""

    max_length: int
    min_length: int
    do_sample: bool
    temperature: float
    top_k: int
    top_p: float
    min_p: float | None
    repetition_penalty: float
    num_return_sequences: int
    eos_token_ids: tuple[int, ...]
    pad_token_id: int | None
    stop_strings: tuple[str, ...]
    numerics: Literal["exact", "fast"] | None = None
    quantization: Literal["int8", "int4"] | None = None
    return_dict_in_generate: bool = False
    output_logits: bool = False
    output_scores: bool = False


def settings_of(
    arguments: Mapping[str, Any], defaults: Defaults, *, prompt: int, table: int | None
) -> Settings:
    """Settle everything for prompts of `prompt` columns.

    Args:
        arguments: as in `Arguments`.
        defaults: those of the model's folder.
        prompt: how many columns the prompts have.
        table: `max_position_embeddings`: how long texts were in training.

    Raises:
        InputError: an argument that is unknown, out of range or not supported, or that another one excludes.
    """
    given = {name: value for name, value in arguments.items() if value is not None}
    said = _said(defaults, given)
    refuse_other(given, "")
    refuse_other(said, f" of {defaults.where}")
    known = Arguments.__annotations__.keys()
    merged = {name: checked(name, value, f" of {defaults.where}") for name, value in said.items()
              if name in known - set(_OF_A_CALL) and value is not None}  # fmt: skip
    merged |= {name: checked(name, value, "") for name, value in given.items() if name in known}
    if merged.get("quantization") is not None and merged.get("numerics") == "exact":
        raise InputError("quantization rounds the matrices: leave out it, or numerics='exact'.")
    do_sample = merged.get("do_sample", False)
    if merged.get("temperature") == 0 and (do_sample or "temperature" in given):
        raise InputError(
            "`temperature` must be greater than 0, found 0; for the likeliest token use do_sample=False."
        )
    count = merged.get("num_return_sequences", 1)
    if count > 1 and not do_sample:
        raise InputError(
            f"`num_return_sequences` is {count}: without `do_sample` all of them would be the same text."
        )
    ends = merged.get("eos_token_id", ())
    pad = merged.get("pad_token_id", -1)
    return Settings(
        max_length=_max_length(merged, prompt, table),
        min_length=merged["min_new_tokens"] + prompt
        if "min_new_tokens" in merged
        else merged.get("min_length", 0),
        do_sample=do_sample,
        temperature=merged.get("temperature", 1.0),
        top_k=merged.get("top_k", 50),
        top_p=merged.get("top_p", 1.0),
        min_p=merged.get("min_p"),
        repetition_penalty=merged.get("repetition_penalty", 1.0),
        num_return_sequences=count,
        eos_token_ids=ends,
        pad_token_id=pad if pad >= 0 else next((end for end in ends if end >= 0), None),
        stop_strings=merged.get("stop_strings", ()),
        numerics=merged.get("numerics"),
        quantization=merged.get("quantization"),
        **{name: merged.get(name, False) for name in _OF_THE_OUTPUT},
    )


def _said(defaults: Defaults, given: Mapping[str, Any]) -> dict[str, Any]:
    """What the folder says and the call does not, without what changes no token: a cache is always used,
    and attentions and hidden states would come beside the ids only where these come in an object.
    """
    unused = {"use_cache", *given}
    if not {**defaults.values, **given}.get("return_dict_in_generate"):
        unused |= {"output_attentions", "output_hidden_states"}
    return {name: value for name, value in defaults.values.items() if name not in unused}


def _max_length(merged: Mapping[str, Any], prompt: int, table: int | None) -> int:
    if "max_new_tokens" in merged:
        return int(prompt + merged["max_new_tokens"])
    if "max_length" in merged:
        most = int(merged["max_length"])
    else:
        most = prompt + _NEW_TOKENS if table is None else min(prompt + _NEW_TOKENS, table)
    if prompt >= most:
        raise LengthError(
            f"the prompt has {prompt} tokens and the text may have {most} (`max_length`, or the longest that "
            "the model was made for): nothing could be added. Say `max_new_tokens`, or shorten the prompt."
        )
    return most
