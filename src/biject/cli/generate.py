"""`biject generate`."""

from __future__ import annotations

from typing import Annotated

from cyclopts import Parameter

from biject.cli.flags import Json, Switch, model_of
from biject.errors import InputError


def generate(
    folder: Annotated[str, Parameter(name="DIR")],
    /,
    *prompts: Annotated[str, Parameter(name="PROMPT")],
    max_new_tokens: Annotated[int | None, Parameter(metavar="N")] = None,
    sample: Annotated[
        bool | None, Parameter(name="--sample", negative="--greedy", show_default=False)
    ] = None,
    temperature: Annotated[float | None, Parameter(metavar="X")] = None,
    top_k: Annotated[int | None, Parameter(metavar="N")] = None,
    top_p: Annotated[float | None, Parameter(metavar="P")] = None,
    min_p: Annotated[float | None, Parameter(metavar="P")] = None,
    repetition_penalty: Annotated[float | None, Parameter(metavar="X")] = None,
    seed: Annotated[int | None, Parameter(metavar="N")] = None,
    stop: Annotated[tuple[str, ...], Parameter(metavar="TEXT", show_default=False)] = (),
    chat: Switch = False,
    dtype: Annotated[str, Parameter(metavar="NAME")] = "auto",
    quantization: Annotated[str | None, Parameter(metavar="NAME")] = None,
    json: Json = False,
) -> int:
    """Continue prompts with a causal language model, written as the tokens come.

    Prompts come from the arguments, else from standard input: all of it is one prompt or, with
    --chat, each line is what the user says next. What is not given comes from generation_config.json.

    Args:
        folder: A folder of a checkpoint, an adapter or a training run, or a repository on the Hub.
        prompts: Texts to continue, one after the other; with --chat, what the user says, turn by turn.
        max_new_tokens: How many tokens to add at most (as generation_config.json says, else 100, or what the
            table of positions leaves).
        sample: Draw tokens, or take the likeliest each. A flag that is about drawing means --sample.
        temperature: Above 1 flattens the odds, below sharpens them.
        top_k: Draw from the N likeliest tokens; 0 for all.
        top_p: Draw from the fewest tokens that have this probability together.
        min_p: Draw from tokens at least P times as likely as the likeliest.
        repetition_penalty: Above 1 makes tokens that are in the text less likely.
        seed: The same seed draws the same tokens.
        stop: End where this text comes; can be given several times.
        chat: Chat, by the tokenizer's chat template, or as ChatML if it has none.
        dtype: `auto` keeps the file's; else e.g. float32 or bfloat16.
        quantization: int8 or int4: matrices rounded to codes, tokens come several times as fast (CPU).
    """
    drawing = {"temperature": temperature, "top_k": top_k, "top_p": top_p, "min_p": min_p}
    drawn = [name for name, value in {**drawing, "seed": seed}.items() if value is not None]
    if sample is False and drawn:
        raise InputError(
            f"--{drawn[0].replace('_', '-')} is about drawing tokens: leave out --greedy, or it."
        )
    from biject.cli.generating import Writer, turns

    lines = turns(prompts, chat=chat)
    writer = Writer(
        model_of(folder),
        dtype=dtype,
        seed=seed,
        quiet=json,
        arguments={
            **drawing,
            "max_new_tokens": max_new_tokens,
            "do_sample": True if drawn else sample,
            "repetition_penalty": repetition_penalty,
            "stop_strings": list(stop) or None,
            "quantization": quantization,
        },
    )
    try:
        (writer.converse if chat else writer.continue_all)(lines)
    except BaseException:  # a turn that is too long, or Ctrl-C: what was said before is not lost
        if json and writer.results:
            writer.print_json(folder)
        raise
    if json:
        writer.print_json(folder)
    return 0
