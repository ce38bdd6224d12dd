"""A decoder as step.c takes it: every matrix and norm, laid out once and kept while the parameters stay."""

from __future__ import annotations

from dataclasses import dataclass
from typing import cast
from weakref import WeakKeyDictionary

import torch
from torch import nn

from biject.config.rope import RopeConfig
from biject.nn.attention import Attention
from biject.nn.fingerprint import Fingerprint
from biject.nn.layer import Layer
from biject.nn.mlp import MLP
from biject.nn.native.build import library
from biject.nn.native.matrices import Form, Laid, lay_out, norm_parts
from biject.nn.native.structures import LayerParts, Matrix, Norm
from biject.nn.transformer import Transformer

ACTIVATIONS = {
    "gelu": 0,
    "gelu_python": 0,
    **dict.fromkeys(("gelu_new", "gelu_pytorch_tanh", "gelu_accurate", "gelu_fast", "gelu_python_tanh"), 1),
    "silu": 2,
    "swish": 2,
    "relu": 3,
}
_KEPT: WeakKeyDictionary[Transformer, dict[Form | None, tuple[Fingerprint, LaidOut]]] = WeakKeyDictionary()


class Unfit(Exception):  # noqa: N818  # it never leaves this package
    """This model has a part that step.c does not compute."""


@dataclass(frozen=True, kw_only=True, eq=False)
class LaidOut:
    """Structures, and the tensors that keep their memory alive."""

    layers: tuple[LayerParts, ...]
    """Without keys and values."""
    final_norm: Norm
    head: Matrix
    ropes: tuple[RopeConfig, ...]
    widths: tuple[int, int, int, int, int]
    """The most values of a row: hidden, queries, keys, inner, vocabulary."""
    num_bytes: int
    """What a step reads of matrices."""
    tensors: tuple[object, ...]


def laid_out(model: Transformer, form: Form | None) -> LaidOut | str:
    """The model's parts with matrices in this form, or why there are none: a clause."""
    if model.device.type != "cpu":
        return f"its parameters are on {model.device.type}"
    if model.dtype not in (torch.float32, torch.bfloat16):
        return f"its parameters are {str(model.dtype).removeprefix('torch.')}, neither float32 nor bfloat16"
    if library() is None:
        return "there is no C compiler that compiles its steps (cc, gcc or clang; CC names another)"
    now = Fingerprint(model.parameters())
    kept = _KEPT.setdefault(model, {})
    if form in kept and kept[form][0] == now:
        return kept[form][1]
    try:
        with torch.no_grad():
            found = _Maker(form).model(model)
    except Unfit as unfit:
        return str(unfit)
    kept[form] = (now, found)
    return found


class _Maker:
    def __init__(self, form: Form | None) -> None:
        self.form = form
        self.tensors: list[object] = []
        self.num_bytes = 0

    def model(self, model: Transformer) -> LaidOut:
        config, sizes = model.config, model.config.embedding
        plain = sizes.projection == "none" and not sizes.zero_padding and "segments" not in sizes.order
        plain = plain and sizes.scale is None
        if not plain or type(model.embed_norm) is not nn.Identity:
            raise Unfit("its embeddings are normalised, scaled, projected or have segments")
        if config.layer_order != tuple(range(len(model.layers))):
            raise Unfit("its layers run in another order than they are stored in")
        ropes = tuple(dict.fromkeys(one.rope for one in model.attentions if one.rope is not None))
        layers = tuple(self.layer(layer, ropes) for layer in model.layers)
        if getattr(config.head, "softcap", None) is not None:
            raise Unfit("its logits are capped")
        head = self.matrix(cast(nn.Module, model.head.output_matrix), head=True)
        widths = (
            config.hidden_size,
            max(layer.heads * layer.width for layer in layers),
            max(layer.groups * layer.width for layer in layers),
            max(layer.up.rows for layer in layers),
            head.rows,
        )
        return LaidOut(
            layers=layers,
            final_norm=self.norm(model.final_norm),
            head=head.whole(),
            ropes=ropes,
            widths=widths,
            num_bytes=self.num_bytes,
            tensors=tuple(self.tensors),
        )

    def layer(self, layer: nn.Module, ropes: tuple[RopeConfig, ...]) -> LayerParts:
        known = type(layer) is Layer and type(layer.attn) is Attention and type(layer.mlp) is MLP
        if not (known and isinstance(layer, Layer) and layer.pre and layer.conv is None):
            raise Unfit("its layers are not norm, attention, norm and MLP of our own (experts are none)")
        if layer.attn_out_norm is not None or layer.mlp_out_norm is not None:
            raise Unfit("what attention and MLP give is normalised")
        attention, mlp = cast(Attention, layer.attn), cast(MLP, layer.mlp)
        if attention.rope is not None and attention.rope.head_dim != attention.spec.head_dim:
            raise Unfit("its heads are rotated in part")
        spec, act = attention.spec, ACTIVATIONS.get(mlp.config.act)
        if act is None or mlp.config.gate == "fused":
            raise Unfit(f"its MLP has a fused gate or the activation {mlp.config.act}")
        if attention.relative is not None or spec.mask_queries or not spec.causal:
            raise Unfit("its attention is not causal or has relative scores")
        if spec.softcap is not None or attention.norms_whole:
            raise Unfit("its scores are capped, or all heads of queries are normalised as one")
        q, k, v = self.projections(attention)
        parts = LayerParts(
            attn_norm=self.norm(layer.attn_norm),
            mlp_norm=self.norm(layer.mlp_norm),
            q_norm=self.norm(attention.q_norm),
            k_norm=self.norm(attention.k_norm),
            q=q, k=k, v=v,
            o=self.matrix(attention.o_proj).whole(),
            up=self.matrix(mlp.up_proj).whole(),
            down=self.matrix(mlp.down_proj).whole(),
            heads=spec.num_heads, groups=spec.num_key_value_heads, width=spec.head_dim,
            window=-1 if spec.window is None else spec.window,
            act=act,
            rope=-1 if attention.rope is None else ropes.index(attention.rope),
            scale=spec.scale,
        )  # fmt: skip
        if mlp.gate_proj is not None:
            parts.gate = self.matrix(mlp.gate_proj).whole()
        return parts

    def projections(self, attention: Attention) -> list[Matrix]:
        if attention.qkv_proj is None:
            three = (attention.q_proj, attention.k_proj, attention.v_proj)
            return [self.matrix(cast(nn.Module, one)).whole() for one in three]
        fused = self.matrix(attention.qkv_proj)
        wide, narrow, _ = attention.widths
        return [
            fused.part(start, rows) for start, rows in ((0, wide), (wide, narrow), (wide + narrow, narrow))
        ]

    def matrix(self, module: nn.Module, *, head: bool = False) -> Laid:
        """The matrix over the vocabulary decides which token comes: never less than 8 bits."""
        found = lay_out(module, "int8" if head and self.form == "int4" else self.form)
        if found is None:
            raise Unfit(f"it computes with {type(module).__name__} (merge adapters before)")
        self.tensors.append(found)
        self.num_bytes += found.num_bytes
        return found

    def norm(self, module: nn.Module | None) -> Norm:
        found = norm_parts(module)
        if found is None:
            raise Unfit(f"it normalises with {type(module).__name__}")
        self.tensors.append(found[1])
        return found[0]
