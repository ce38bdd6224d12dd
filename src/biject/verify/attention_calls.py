"""What two models hand to attention, compared part by part: values, positions, mask, window, scale.

Both sides are recorded where they call torch's fused attention or a softmax over four axes; the first call
in which they differ says what was done otherwise before it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from biject.nn.attend import repeated
from biject.verify.numbers import same_bits

HIDDEN = 0.5
"""Of the dtype's lowest number: what is added to hide a key lies below."""


@dataclass(frozen=True, kw_only=True)
class AttentionCall:
    """One call of attention.

    Attributes:
        q, k, v: (B, H, L, E), (B, G, S, E) twice; None where attention is written out.
        visible: (B or 1, H or 1, L, S), True where a query may look.
        scale: What scores are multiplied by; None where attention is written out.
        causal: The call is causal by its flag, or its mask shows no query what comes after it.
        dropout: Rate of the fused kernel.
        scores: (B, H, L, S) before the softmax, where attention is written out.
    """

    visible: Tensor
    causal: bool
    q: Tensor | None = None
    k: Tensor | None = None
    v: Tensor | None = None
    scale: float | None = None
    dropout: float = 0.0
    scores: Tensor | None = None

    @property
    def reach(self) -> int:
        """How many tokens away the farthest visible key of a query lies."""
        return int(torch.where(self.visible, _distances(self.visible), 0).abs().max())


class RecordAttention(TorchFunctionMode):
    """Keeps the arguments of every call of attention that runs inside the `with` block."""

    def __init__(self) -> None:
        super().__init__()
        self.calls: list[AttentionCall] = []

    def __torch_function__(
        self,
        func: Callable[..., Any],
        types: Iterable[type],
        args: tuple[Any, ...] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> Any:
        given = dict(kwargs or {})
        name = getattr(func, "__name__", "")
        if name == "scaled_dot_product_attention":
            self.calls.append(_fused(*args, **given))
        elif name == "softmax":
            scores = args[0] if args else given["input"]
            if scores.dim() == 4 and scores.is_floating_point():
                self.calls.append(_written_out(scores))
        return func(*args, **given)


def _fused(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attn_mask: Tensor | None = None,
    dropout_p: float = 0.0,
    is_causal: bool = False,
    scale: float | None = None,
    **_: object,
) -> AttentionCall:
    shape = (1, 1, query.shape[-2], key.shape[-2])
    visible = torch.ones(shape, dtype=torch.bool, device=query.device)
    if is_causal:
        visible = visible.tril()
    elif attn_mask is not None:
        mask = attn_mask[(None,) * (4 - attn_mask.dim())]
        visible = mask if mask.dtype is torch.bool else _not_hidden(mask)
    copies = (x.detach().clone() for x in (query, key, value))
    q, k, v = copies
    return AttentionCall(
        q=q, k=k, v=v, visible=visible, dropout=dropout_p, causal=is_causal or _looks_back(visible),
        scale=query.shape[-1] ** -0.5 if scale is None else scale,
    )  # fmt: skip


def _written_out(scores: Tensor) -> AttentionCall:
    visible = _not_hidden(scores)
    return AttentionCall(scores=scores.detach().clone(), visible=visible, causal=_looks_back(visible))


def _not_hidden(scores: Tensor) -> Tensor:
    return scores.detach() > HIDDEN * torch.finfo(scores.dtype).min


def _distances(visible: Tensor) -> Tensor:
    """How far each key lies before each query, (L, S)."""
    queries, keys = visible.shape[-2:]
    q_L = torch.arange(keys - queries, keys, device=visible.device)
    return q_L[:, None] - torch.arange(keys, device=visible.device)


def _looks_back(visible: Tensor) -> bool:
    ahead_LS = _distances(visible) < 0
    return bool(ahead_LS.any()) and not bool((visible & ahead_LS).any())


def attention_calls(model: nn.Module, inputs: Mapping[str, Tensor], **flags: bool) -> list[AttentionCall]:
    """The calls of attention during one call of the model, in order."""
    recorder = RecordAttention()
    with torch.no_grad(), recorder:
        model(**inputs, **flags)
    return recorder.calls


def explain(ours: list[AttentionCall], theirs: list[AttentionCall], padding: Tensor | None) -> str | None:
    """In one phrase, what the first differing call was given otherwise; None where nothing differs.

    Args:
        ours: From `attention_calls`.
        theirs: The same of HF.
        padding: (B, S), False where a column is padding; None where none is.
    """
    if len(ours) != len(theirs):
        return f"the number of attentions: {len(ours)}, HF's {len(theirs)}"
    for mine, other in zip(ours, theirs, strict=True):
        found = _difference(mine, other, padding)
        if found is not None:
            return found
    return None


def _difference(mine: AttentionCall, other: AttentionCall, padding: Tensor | None) -> str | None:
    if (mine.scores is None) != (other.scores is None):
        return "the kernel: one side calls torch's fused attention, the other writes it out"
    return (
        _heads(mine, other)
        or _mask(mine, other, padding)
        or _scale(mine, other)
        or (_scores(mine, other) if mine.scores is not None else None)
    )


def _heads(mine: AttentionCall, other: AttentionCall) -> str | None:
    """Queries, keys and values before the kernel."""
    if mine.q is None or mine.k is None or mine.v is None:
        return None
    if other.q is None or other.k is None or other.v is None:
        return None
    heads = other.q.shape[1]
    wrong = {
        name: (a, b)
        for name, a, b in (("queries", mine.q, other.q), ("keys", mine.k, other.k))
        if not _same(a, b, heads)
    }
    if not _same(mine.v, other.v, heads):
        return "the values: heads are split, or shared by queries, in another way"
    if not wrong:
        return None
    words = " and ".join(wrong)
    a, b = next(iter(wrong.values()))
    a, b = _shared(a, heads), _shared(b, heads)
    if a.shape != b.shape:
        return f"the {words}: heads {tuple(a.shape)}, HF's {tuple(b.shape)}"
    differs_LE = (a != b).flatten(0, 1).any(0)
    half = differs_LE.shape[1] // 2
    lengths = a.double().norm(dim=-1), b.double().norm(dim=-1)
    if not torch.allclose(*lengths, rtol=1e-2):
        return f"the {words} before their positions: their norm, or how heads are split"
    if not bool(differs_LE[:, [0, half]].any()):
        return f"the rotary angles of {words}: same for the fastest pair only, so theta or its scaling"
    return f"the rotary angles of {words}: the positions, or which elements make a pair"


def _shared(x: Tensor, heads: int) -> Tensor:
    return repeated(x, heads // x.shape[1]) if x.shape[1] and heads % x.shape[1] == 0 else x


def _same(mine: Tensor, other: Tensor, heads: int) -> bool:
    a, b = _shared(mine, heads), _shared(other, heads)
    return a.shape == b.shape and same_bits(a, b)


def _mask(mine: AttentionCall, other: AttentionCall, padding: Tensor | None) -> str | None:
    if mine.visible.shape[-2:] != other.visible.shape[-2:]:
        return f"the keys: {tuple(mine.visible.shape)} of them, HF's {tuple(other.visible.shape)}"
    wrong = mine.visible ^ other.visible
    if not bool(wrong.any()):
        return None
    before_LS = _distances(wrong)
    if padding is not None and padding.shape[-1] == wrong.shape[-2] == wrong.shape[-1]:
        real_BL = padding.bool()
        if not bool((wrong & real_BL[:, None, :, None] & real_BL[:, None, None, :]).any()):
            return "the mask of padding: it hides other columns or rows than HF's"
    if mine.causal != other.causal and not bool((wrong & (before_LS >= 0)).any()):
        here, there = ("look back only", "look ahead")[:: 1 if mine.causal else -1]
        return f"the causal mask: tokens {here}, HF's {there}"
    if mine.reach != other.reach:
        return f"the window: a token sees {mine.reach} tokens away, HF's {other.reach}"
    return "the mask: other keys are hidden than in HF"


def _scale(mine: AttentionCall, other: AttentionCall) -> str | None:
    if mine.scale is not None and mine.scale != other.scale:
        return f"the scale of the scores: {mine.scale:.6g}, HF's {other.scale:.6g}"
    if mine.dropout != other.dropout:
        return f"the dropout of the weights: {mine.dropout}, HF's {other.dropout}"
    return None


def _scores(mine: AttentionCall, other: AttentionCall) -> str | None:
    """Scores that are written out: a common factor is the scale."""
    assert mine.scores is not None
    assert other.scores is not None
    if mine.scores.shape != other.scores.shape:
        return f"the scores: {tuple(mine.scores.shape)}, HF's {tuple(other.scores.shape)}"
    if same_bits(mine.scores, other.scores):
        return None
    shown = mine.visible & other.visible & (other.scores != 0)
    ratio = (mine.scores.double() / other.scores.double())[shown.expand_as(other.scores)]
    if ratio.numel() and float(ratio.max() - ratio.min()) <= 1e-3 * abs(float(ratio.mean())):
        return f"the scale of the scores: {float(ratio.mean()):.4g} times HF's"
    return "the scores: queries, keys or relative positions enter them in another way"
