"""From logits to the next token: the processors that Hugging Face runs, in its order and arithmetic.

Source: transformers 5.23, generation/utils.py (`_get_logits_processor`, `_sample`) and
generation/logits_process.py. Scores are (B, V) in float32; every step may change them in place.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import Tensor

from biject.errors import InputError, shown
from biject.generate.settings import Settings

Step = Callable[[Tensor, Tensor], Tensor]
"""Ids so far (B, S) and scores (B, V) → scores (B, V)."""


def processors(settings: Settings, *, first_B: Tensor | None) -> list[Step]:
    """What is done to the scores before a token is chosen.

    Args:
        settings: how to generate.
        first_B: the first column of each text that is real, (B,); None where nothing is padded.
    """
    steps: list[Step] = []
    if settings.repetition_penalty != 1.0:
        steps.append(lambda ids, scores: penalised(ids, scores, settings.repetition_penalty, first_B))
    if settings.min_length > 0 and settings.eos_token_ids:
        steps.append(lambda ids, scores: too_early(ids, scores, settings.min_length, settings.eos_token_ids))
    if settings.do_sample:
        if settings.temperature != 1.0:
            steps.append(lambda _, scores: scores / settings.temperature)
        if settings.top_k != 0:
            steps.append(lambda _, scores: top_k(scores, settings.top_k))
        if settings.top_p < 1.0:
            steps.append(lambda _, scores: top_p(scores, settings.top_p))
        if settings.min_p is not None:
            least = settings.min_p
            steps.append(lambda _, scores: min_p(scores, least))
    return steps


def choose(scores_BV: Tensor, *, do_sample: bool, generator: torch.Generator | None) -> Tensor:
    """The next token of each text: the likeliest, or a draw: (B,)."""
    if not do_sample:
        return torch.argmax(scores_BV, dim=-1)
    return torch.multinomial(torch.softmax(scores_BV, dim=-1), num_samples=1, generator=generator).squeeze(1)


def refuse_unusable(scores_BV: Tensor) -> None:
    """Raise where no token can be drawn: settings have left none, or made odds infinite.

    Raises:
        InputError: that is so.
    """
    if not bool(scores_BV.amax(dim=-1).isfinite().all()):
        raise InputError(
            "the settings leave no token to draw: after them the likeliest one's score is infinite or NaN. "
            "`temperature` or `repetition_penalty` is too near 0 or too large, or `min_new_tokens` (or "
            "`min_length`) excludes all tokens, as each of them is in `eos_token_id`."
        )


def generator_of(seed: int, device: torch.device | str = "cpu") -> torch.Generator:
    """A generator that begins with `seed`.

    Raises:
        InputError: the seed is not of 64 bits.
    """
    whole = int(seed) if hasattr(seed, "__index__") else 2**64
    if not -(2**63) <= whole < 2**64:
        raise InputError(f"`seed` must be a whole number from -2**63 to 2**64 - 1; found {shown(seed)}.")
    return torch.Generator(device).manual_seed(whole)


def penalised(ids_BS: Tensor, scores_BV: Tensor, penalty: float, first_B: Tensor | None) -> Tensor:
    """Scores of tokens that are in the text divided by `penalty`, or multiplied where negative (Keskar et al.
    2019, arXiv:1909.05858). Padding on the left does not count.
    """
    if first_B is not None:
        columns = torch.arange(ids_BS.shape[1], device=ids_BS.device)
        ids_BS = torch.where(columns < first_B[:, None], ids_BS.gather(1, first_B[:, None]), ids_BS)
    seen_BS = scores_BV.gather(1, ids_BS)
    return scores_BV.scatter_(1, ids_BS, torch.where(seen_BS < 0, seen_BS * penalty, seen_BS / penalty))


def too_early(ids_BS: Tensor, scores_BV: Tensor, length: int, ends: tuple[int, ...]) -> Tensor:
    """No end before `length` columns."""
    if ids_BS.shape[1] < length:
        scores_BV[:, [end for end in ends if 0 <= end < scores_BV.shape[1]]] = -math.inf
    return scores_BV


def top_k(scores_BV: Tensor, k: int) -> Tensor:
    """The `k` likeliest tokens, and any as likely as the last of them (Fan et al. 2018, arXiv:1805.04833)."""
    least_B1 = torch.topk(scores_BV, min(k, scores_BV.shape[-1]))[0][..., -1, None]
    return scores_BV.masked_fill_(scores_BV < least_B1, -math.inf)


def top_p(scores_BV: Tensor, p: float) -> Tensor:
    """The fewest likeliest tokens whose probabilities reach `p` (Holtzman et al. 2019, arXiv:1904.09751)."""
    ascending_BV, order_BV = torch.sort(scores_BV, descending=False)
    dropped_BV = ascending_BV.softmax(dim=-1).cumsum(dim=-1) <= (1 - p)
    dropped_BV[..., -1:] = False
    return scores_BV.masked_fill_(dropped_BV.scatter(1, order_BV, dropped_BV), -math.inf)


def min_p(scores_BV: Tensor, least: float) -> Tensor:
    """Tokens at least `least` times as likely as the likeliest (Nguyen et al. 2024, arXiv:2407.01082)."""
    probs_BV = torch.softmax(scores_BV, dim=-1)
    dropped_BV = probs_BV < least * probs_BV.amax(dim=-1, keepdim=True)
    dropped_BV.scatter_(-1, torch.topk(probs_BV, 1, dim=-1).indices, False)
    return scores_BV.masked_fill_(dropped_BV, -math.inf)
