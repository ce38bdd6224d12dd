"""The loop: prompt in, tokens out, one column at a time.

Source: transformers 5.23, generation/utils.py (`generate`, `_sample`).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Protocol

import torch
from torch import Tensor

from biject.errors import InputError
from biject.generate.cache import Cache
from biject.generate.defaults import read_defaults
from biject.generate.memory import enough_memory
from biject.generate.output import GenerateOutput, Kept
from biject.generate.prompt import Prompt, prompt_of
from biject.generate.scores import choose, generator_of, processors, refuse_unusable
from biject.generate.settings import Settings, settings_of
from biject.generate.stopping import StopStrings, VocabularyLike
from biject.model import Model
from biject.nn.decode import Decoding
from biject.nn.native.decoding import NativeDecoding, native_decoding


class Streamer(Protocol):
    """Told of every token as it comes; HF's streamers are of this kind."""

    def put(self, value: Tensor) -> None:
        """First the prompts, (B, L), then the next token of each text, (B,); on the CPU."""

    def end(self) -> None:
        """That was all."""


def generate(
    model: Model,
    input_ids: Tensor,
    attention_mask: Tensor | None,
    arguments: Mapping[str, Any],
    *,
    tokenizer: VocabularyLike | None = None,
    seed: int | None = None,
    generator: torch.Generator | None = None,
    streamer: Streamer | None = None,
    past_key_values: Cache | None = None,
) -> Tensor | GenerateOutput:
    """See `Model.generate`."""
    if not (model.head.output_matrix and all(spec.causal for spec in model.attention_specs)):
        raise InputError(
            f"generate needs the head of a causal language model; this model's is `{model.head_name}`. Load "
            "it with AutoModelForCausalLM, if the checkpoint has one."
        )
    if seed is not None and generator is not None:
        raise InputError("Give `seed` or `generator`, not both.")
    device = model.device
    defaults = read_defaults(model.source.folder, model.source.config)
    length = input_ids.shape[-1] if input_ids.dim() == 2 else 0
    settings = settings_of(arguments, defaults, prompt=length, table=_trained_length(model))
    if seed is not None:
        generator = generator_of(seed, device)
    stops = StopStrings(settings.stop_strings, tokenizer) if settings.stop_strings else None
    cache = past_key_values
    if cache is not None and not isinstance(cache, Cache):
        raise InputError(
            f"`past_key_values` must be a `biject.Cache`, as this model returns it; found "
            f"{type(cache).__name__}."
        )
    if cache is None and settings.return_dict_in_generate:
        cache = Cache()
    kept = Kept(settings)
    texts = input_ids.shape[:1].numel() * settings.num_return_sequences
    with torch.inference_mode(), enough_memory(texts=texts, length=settings.max_length):
        prompt = prompt_of(model.config, input_ids, attention_mask, settings, device)
        run = _Run(prompt, settings, stops, generator, streamer, kept)
        ids_BS = _continued(model, run, cache)
    if not settings.return_dict_in_generate:
        return ids_BS.clone()
    assert cache is not None
    return GenerateOutput(sequences=ids_BS.clone(), past_key_values=cache, **kept.found())


@dataclass(frozen=True)
class _Run:
    """What one call was asked for."""

    prompt: Prompt
    settings: Settings
    stops: StopStrings | None
    generator: torch.Generator | None
    streamer: Streamer | None
    kept: Kept


def _continued(model: Model, run: _Run, cache: Cache | None) -> Tensor:
    prompt, settings, streamer = run.prompt, run.settings, run.streamer
    batch, length = prompt.ids_BL.shape
    ids_BS = prompt.ids_BL.new_empty(batch, settings.max_length)
    ids_BS[:, :length] = prompt.ids_BL
    if streamer is not None:
        streamer.put(prompt.ids_BL.cpu())
    decoding = _decoding(model, prompt, settings, cache)
    try:
        length = _steps(decoding, ids_BS, run)
    finally:  # an interrupted text is kept as far as it came
        if cache is not None:
            cache.hold(ids_BS[:, : decoding.past], prompt.real_BS)
    if streamer is not None:
        streamer.end()
    return ids_BS[:, :length]


def _steps(decoding: Decoding | NativeDecoding, ids_BS: Tensor, run: _Run) -> int:
    """Fill `ids_BS` column by column; how many there are in the end."""
    prompt, settings, stops, kept = run.prompt, run.settings, run.stops, run.kept
    batch, length = prompt.ids_BL.shape
    steps = processors(settings, first_B=prompt.first_B)
    ends = torch.tensor(settings.eos_token_ids, device=ids_BS.device, dtype=torch.long)
    open_B = torch.ones(batch, dtype=torch.long, device=ids_BS.device)
    columns, positions = ids_BS[:, decoding.past : length], prompt.positions_BL[:, decoding.past :]
    plain = not steps and not settings.do_sample  # then the likeliest token shows whether logits are usable
    while True:
        logits_BV = decoding(columns, positions)
        scores_BV = logits_BV.to(copy=not plain or kept.active, dtype=torch.float32)
        if not plain:
            _refuse_unusable(scores_BV)
        kept.logits(scores_BV)
        for step in steps:
            scores_BV = step(ids_BS[:, :length], scores_BV)
        kept.scores(scores_BV)
        if settings.do_sample:
            refuse_unusable(scores_BV)
        next_B = choose(scores_BV, do_sample=settings.do_sample, generator=run.generator)
        if plain:
            _refuse_unusable(scores_BV.gather(1, next_B[:, None]))
        if settings.eos_token_ids:
            next_B = next_B * open_B + (settings.pad_token_id or 0) * (1 - open_B)
        ids_BS[:, length] = next_B
        length += 1
        if run.streamer is not None:
            run.streamer.put(next_B.cpu())
        if length == settings.max_length:
            return length
        if settings.eos_token_ids:
            open_B = open_B & ~torch.isin(next_B, ends)
        if stops is not None:
            open_B = open_B & ~stops.reached(ids_BS[:, :length])
        if (settings.eos_token_ids or stops is not None) and not bool(open_B.any()):
            return length
        columns, positions = ids_BS[:, length - 1 : length], positions[:, -1:] + 1


def _decoding(
    model: Model, prompt: Prompt, settings: Settings, cache: Cache | None
) -> Decoding | NativeDecoding:
    batch, length = len(prompt.ids_BL), settings.max_length - 1
    numerics = settings.numerics or model.planner.numerics or "exact"
    if settings.quantization is not None:
        numerics = "fast"
    kept, past = None, 0
    if cache is not None:
        form = settings.quantization or numerics
        kept, past = cache.begin(model, prompt, length=length, form=form)
    if numerics == "fast":
        return native_decoding(
            model,
            settings.quantization,
            batch=batch,
            length=length,
            real_BS=prompt.real_BS,
            first_B=prompt.first_B,
            cache=kept,
            past=past,
        )
    return Decoding(model, batch=batch, length=length, real_BS=prompt.real_BS, cache=kept, past=past)


def _refuse_unusable(scores_BV: Tensor) -> None:
    """Raise if there is a NaN or an infinity where the likeliest token should be."""
    if not bool(scores_BV.amax(dim=-1).isfinite().all()):
        raise InputError(
            "the model's logits are NaN or infinite, so that no token can be chosen: weights are damaged, or "
            "the dtype is too narrow for them (float16 overflows at 65504; try dtype='float32')."
        )


def _trained_length(model: Model) -> int | None:
    ropes = [one.rope for one in model.attentions if one.rope is not None]
    if ropes:
        return ropes[0].max_position_embeddings
    return model.config.embedding.max_position_embeddings
