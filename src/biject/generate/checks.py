"""Arguments of generate, checked one by one; and those of Hugging Face's that are not supported."""

from __future__ import annotations

import difflib
import math
from collections.abc import Callable, Mapping
from typing import Any

from biject.errors import InputError, shown

_NEUTRAL: dict[str, tuple[Any, ...]] = {
    "num_beams": (1,),
    "num_beam_groups": (1,),
    "constraints": (),
    "force_words_ids": (),
    "penalty_alpha": (0, 0.0),
    "use_mtp": (False,),
    "prompt_lookup_num_tokens": (),
    "assistant_early_exit": (),
    "assistant_model": (),
    "dola_layers": (),
    "custom_generate": (),
    "guidance_scale": (1, 1.0),
    "sequence_bias": (),
    "encoder_repetition_penalty": (1, 1.0),
    "no_repeat_ngram_size": (0,),
    "encoder_no_repeat_ngram_size": (0,),
    "bad_words_ids": (),
    "forced_bos_token_id": (),
    "forced_eos_token_id": (),
    "remove_invalid_values": (False,),
    "exponential_decay_length_penalty": (),
    "suppress_tokens": ([],),
    "begin_suppress_tokens": ([],),
    "top_h": (),
    "typical_p": (1, 1.0),
    "epsilon_cutoff": (0, 0.0),
    "eta_cutoff": (0, 0.0),
    "watermarking_config": (),
    "renormalize_logits": (False,),
    "max_time": (),
    "token_healing": (False,),
    "prefill_chunk_size": (),
    "use_cache": (True,),
    "output_attentions": (False,),
    "output_hidden_states": (False,),
    "inputs_embeds": (),
    "position_ids": (),
    "logits_processor": (),
    "stopping_criteria": (),
    "prefix_allowed_tokens_fn": (),
    "generation_config": (),
}
"""What else Hugging Face takes, with the values (None aside) that change nothing. Others are an error."""


_BEYOND = 2**62
"""From here on sums of lengths, and ids, do not fit what torch counts with."""


def refuse_other(values: Mapping[str, Any], where: str) -> None:
    """Raise for what would change the text and is not supported; and, of a call's own arguments (`where` is
    empty), for unknown names.

    Raises:
        InputError: which, and what there is instead.
    """
    for name, value in values.items():
        neutral = _NEUTRAL.get(name)
        if neutral is not None:
            if value is not None and not any(value == other for other in neutral):
                raise InputError(
                    f"`{name}`{where} is {shown(value)}: that is not supported. Texts are continued greedily "
                    f"or by sampling with {', '.join(_CHECKS)}."
                )
        elif name not in _CHECKS and not where:
            near = difflib.get_close_matches(name, [*_CHECKS, *_NEUTRAL], n=1)
            meant = f" Did you mean `{near[0]}`?" if near else ""
            raise InputError(f"generate takes no `{name}`.{meant}")


def checked(name: str, value: Any, where: str) -> Any:
    """`value` of the argument `name`, in the form that `Settings` holds.

    Raises:
        InputError: it is of another kind or out of range.
    """
    expected, check = _CHECKS[name]
    try:
        return check(value)
    except OverflowError as error:
        raise InputError(f"`{name}`{where} must be below 2**62; found {shown(value)}.") from error
    except (TypeError, ValueError, RuntimeError) as error:  # the last: a tensor of several ids as one
        raise InputError(f"`{name}`{where} must be {expected}; found {shown(value)}.") from error


def _whole(least: int) -> Callable[[Any], int]:
    def check(value: Any) -> int:
        if isinstance(value, bool) or not isinstance(value, int) or value < least:
            raise ValueError
        if value >= _BEYOND:
            raise OverflowError
        return value

    return check


def _number(*, least: float, most: float = math.inf, open_below: bool = False) -> Callable[[Any], float]:
    def check(value: Any) -> float:
        if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
            raise TypeError
        if not least <= value <= most or (open_below and value == least):
            raise ValueError
        return float(value)

    return check


def _switch(value: Any) -> bool:
    if not isinstance(value, bool):
        raise TypeError
    return value


def _token(value: Any) -> int:
    return _whole(-1)(value.item() if hasattr(value, "item") else value)


def _tokens(value: Any) -> tuple[int, ...]:
    """One id or several; -1 never comes, so that it ends no text."""
    listed = value.tolist() if hasattr(value, "tolist") else value
    ids = listed if isinstance(listed, list | tuple) else [listed]
    return tuple(_token(each) for each in ids)


def _one_of(*names: str) -> Callable[[Any], str]:
    def check(value: Any) -> str:
        if not isinstance(value, str) or value not in names:
            raise ValueError
        return value

    return check


def _strings(value: Any) -> tuple[str, ...]:
    listed = [value] if isinstance(value, str) else list(value)
    if not all(isinstance(each, str) and each for each in listed):
        raise ValueError
    return tuple(listed)


_CHECKS: dict[str, tuple[str, Callable[[Any], Any]]] = {
    "numerics": ("'exact' or 'fast'", _one_of("exact", "fast")),
    "quantization": ("'int8' or 'int4'", _one_of("int8", "int4")),
    "max_new_tokens": ("a whole number of at least 1", _whole(1)),
    "max_length": ("a whole number of at least 1", _whole(1)),
    "min_new_tokens": ("a whole number of at least 0", _whole(0)),
    "min_length": ("a whole number of at least 0", _whole(0)),
    "do_sample": ("True or False", _switch),
    "temperature": ("a number greater than 0", _number(least=0)),
    "top_k": ("a whole number of at least 0 (0: all tokens)", _whole(0)),
    "top_p": ("a number from 0 to 1", _number(least=0, most=1)),
    "min_p": ("a number from 0 to 1", _number(least=0, most=1)),
    "repetition_penalty": ("a number greater than 0", _number(least=0, open_below=True)),
    "num_return_sequences": ("a whole number of at least 1", _whole(1)),
    "eos_token_id": ("a token's id or a list of them (-1: none)", _tokens),
    "pad_token_id": ("a token's id (-1: none)", _token),
    "return_dict_in_generate": ("True or False", _switch),
    "output_logits": ("True or False", _switch),
    "output_scores": ("True or False", _switch),
    "stop_strings": ("a string or a list of strings, none empty", _strings),
}
