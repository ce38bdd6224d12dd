"""Linears held in 4 or 8 bits by bitsandbytes: frozen codes and their scales, computed as it computes them.

bitsandbytes is imported when a model is quantised, never before. What its modules `Linear4bit` and
`Linear8bitLt` do is done here on tensors, so that codes and scales are a parameter and buffers like any
other: they move with the model, are copied with it, and are not packed anew by a forward pass.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Callable, Iterator
from functools import cache
from typing import Any, Self

import torch
from torch import Tensor, nn

from biject.config.quantization import Quantization
from biject.errors import MissingExtraError
from biject.nn.modules import TransposedLinear
from biject.nn.rowwise import Form, RowOp

BLOCK = 64
"""Weights that share a scale in 4 bits; bitsandbytes' default, which transformers leaves."""
NESTED_BLOCK = 256
"""Scales that share a scale, where they are quantised as well; the one size that matmul_4bit takes."""
PART = 2**16
"""Weights that are quantised at a time: few enough for what is freed in between to be used again."""
_NOISE = ("bitsandbytes.backends.cpu.ops", "bitsandbytes.autograd._functions")
"""What they log is about kernels that are not installed, and once a call that int8 rounds its inputs."""


def hush() -> None:
    """Close two channels of bitsandbytes' log but for errors; PEFT imports the library, too."""
    for name in _NOISE:
        logging.getLogger(name).setLevel(logging.ERROR)


@cache
def bitsandbytes() -> Any:
    """The library, with two of its log's channels closed but for errors.

    Raises:
        MissingExtraError: it is not installed.
    """
    hush()
    try:
        import bitsandbytes as found
    except ImportError as error:
        raise MissingExtraError(
            "Bases and optimizers in 4 or 8 bits need bitsandbytes, which is not installed: "
            "pip install 'biject[quant]'."
        ) from error
    return found


class QuantisedLinear(nn.Module):
    """A linear whose matrix is codes. The matrix and the bias are frozen; gradients pass to the inputs.

    `weight` starts on the meta device in the file's shape; `quantise` puts codes in its place. Whatever the
    file's orientation, a quantised matrix is (out, in), as in transformers.

    Args:
        settings: how.
        replaced: the linear in whose place this stands.

    Shape: (…, in) → (…, out).
    """

    weight: nn.Parameter
    dtype: torch.dtype
    """Of the values that were quantised."""

    def __init__(self, settings: Quantization, replaced: nn.Module) -> None:
        super().__init__()
        weight, bias = replaced.get_parameter("weight"), replaced._parameters["bias"]
        self.settings = settings
        self.stored_transposed = isinstance(replaced, TransposedLinear)
        """Whether the file stores (in, out)."""
        shape = weight.shape[::-1] if self.stored_transposed else weight.shape
        self.out_features, self.in_features = shape
        self.weight = nn.Parameter(weight.detach(), requires_grad=False)
        self.bias = None if bias is None else nn.Parameter(bias.detach(), requires_grad=False)

    def quantise(self, tensor: Tensor, *, dtype: torch.dtype, device: torch.device) -> None:
        """Take codes and scales of a matrix.

        A part of it at a time is cast, moved and quantised: blocks and rows do not know of each other, and on
        the CPU bitsandbytes needs several times the memory of what it is given.

        Args:
            tensor: in the file's orientation.
            dtype: the values are rounded to it first.
            device: where the codes go.
        """
        raise NotImplementedError

    def dequantized_weight(self) -> Tensor:
        """The matrix that the codes stand for, (out, in): in the dtype that it was quantised from, for int8
        in float32.
        """
        raise NotImplementedError

    def extra_repr(self) -> str:
        """Its sizes and kind."""
        bias = self.bias is not None
        return f"{self.in_features}, {self.out_features}, bias={bias}, {self.settings.method}"

    def _parts(self, tensor: Tensor, dtype: torch.dtype, device: torch.device) -> Iterator[Tensor]:
        """Some rows at a time of (out, in): whole blocks, but for the last part."""
        self.dtype = dtype
        rows = tensor.t() if self.stored_transposed else tensor
        whole = BLOCK // math.gcd(self.in_features, BLOCK)
        count = max(1, PART // (self.in_features * whole)) * whole
        for start in range(0, self.out_features, count):
            part = rows[start : start + count]
            yield part.to(device=device, dtype=dtype).contiguous()

    def hold(self, codes: Tensor, **scales: Tensor | None) -> None:
        """Keep codes and their scales, which have the right shapes."""
        self.weight = nn.Parameter(codes, requires_grad=False)
        for name, scale in scales.items():
            self.register_buffer(name, scale, persistent=False)

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> Self:
        """Scales move with the model, but keep their dtype when it is cast."""
        before = {name: scale.dtype for name, scale in self.named_buffers(recurse=False)}
        kept = dict(self.named_buffers(recurse=False))
        super()._apply(fn, recurse)  # type: ignore[no-untyped-call]
        for name, dtype in before.items():
            moved = self._buffers[name]
            if moved is not None and moved.dtype is not dtype:
                self._buffers[name] = kept[name].to(moved.device)
        return self


class FourBitLinear(QuantisedLinear):
    """NF4 or FP4 in blocks of 64; the scales quantised as well with `double_quant`.

    Source: bitsandbytes 0.50, nn/modules.py (Linear4bit), functional.py (quantize_4bit). Its forward pass in
    eval mode computes in bfloat16 on CPUs with AVX512-BF16, whatever dtype was requested, and rounds the
    scales for good; here `compute_dtype` holds, unless `bfloat16_in_eval`, and the codes stay.
    """

    bfloat16_in_eval = False
    """Compute as bitsandbytes does in eval mode on a CPU that has the instructions: faster, less exact."""
    _packed: tuple[Tensor, Any] | None = None
    """Codes in the order and scales in the dtype that it is done with."""

    absmax: Tensor
    code: Tensor
    nested_absmax: Tensor | None
    nested_code: Tensor | None
    offset: Tensor | None

    def __init__(self, settings: Quantization, replaced: nn.Module) -> None:
        super().__init__(settings, replaced)
        self.compute_dtype: torch.dtype = getattr(torch, settings.compute_dtype)

    def quantise(self, tensor: Tensor, *, dtype: torch.dtype, device: torch.device) -> None:
        functional = bitsandbytes().functional
        count = tensor.numel()
        codes = torch.empty((count + 1) // 2, 1, dtype=torch.uint8, device=device)
        absmax = torch.empty(-(-count // BLOCK), dtype=torch.float32, device=device)
        place = 0
        for part in self._parts(tensor, dtype, device):
            found, state = functional.quantize_4bit(part, blocksize=BLOCK, quant_type=self.settings.method)
            codes[place // 2 : place // 2 + len(found)] = found
            absmax[place // BLOCK : place // BLOCK + len(state.absmax)] = state.absmax
            place += part.numel()
        scales: dict[str, Tensor | None] = {"absmax": absmax, "code": state.code}
        scales |= dict.fromkeys(("nested_absmax", "nested_code", "offset"))
        if self.settings.double_quant:
            offset = absmax.mean()
            rounded, nested = functional.quantize_blockwise(absmax - offset, blocksize=NESTED_BLOCK)
            scales |= {"absmax": rounded, "nested_absmax": nested.absmax}
            scales |= {"nested_code": nested.code, "offset": offset}
        self.hold(codes, **scales)

    def quant_state(self) -> Any:
        """Bitsandbytes' `QuantState` over the tensors that are held."""
        kind = bitsandbytes().functional.QuantState
        nested = None
        if self.nested_absmax is not None:
            nested = kind(
                self.nested_absmax, code=self.nested_code, blocksize=NESTED_BLOCK, dtype=torch.float32
            )
        return kind(
            self.absmax,
            shape=torch.Size((self.out_features, self.in_features)),
            code=self.code,
            blocksize=BLOCK,
            quant_type=self.settings.method,
            dtype=self.dtype,
            offset=self.offset,
            state2=nested,
        )

    def dequantized_weight(self) -> Tensor:
        weight: Tensor = bitsandbytes().functional.dequantize_4bit(self.weight.detach(), self.quant_state())
        return weight

    def forward(self, x: Tensor) -> Tensor:
        bias = None if self.bias is None else self.bias.to(self.compute_dtype)
        if self._in_bfloat16(x):
            codes, state = self._packed = self._packed or self._pack()
        else:
            codes, state = self.weight, self.quant_state()
        out: Tensor = bitsandbytes().matmul_4bit(
            x.to(self.compute_dtype), codes, quant_state=state, bias=bias
        )
        return out.to(x.dtype)

    def train(self, mode: bool = True) -> Self:
        """Training mode needs the codes alone."""
        self._packed = None if mode else self._packed
        return super().train(mode)

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> Self:
        self._packed = None
        return super()._apply(fn, recurse)

    def _in_bfloat16(self, x: Tensor) -> bool:
        if not self.bfloat16_in_eval or self.training or x.requires_grad or x.device.type != "cpu":
            return False
        whole = self.out_features % 32 == 0 and self.in_features % BLOCK == 0  # bitsandbytes fails for others
        return whole and bool(bitsandbytes().functional.has_avx512bf16())

    def _pack(self) -> tuple[Tensor, Any]:
        pack = bitsandbytes().functional._convert_weight_packed_for_cpu
        found: tuple[Tensor, Any] = pack(self.weight.detach(), self.quant_state())
        return found

    def row_ops(self) -> tuple[RowOp, ...] | None:
        """On the CPU the product with the dequantised matrix; nothing is known of it in another dtype."""
        if self.compute_dtype is not self.dtype or self.bfloat16_in_eval:
            return None
        form: Form = "plain" if self.bias is None else "bias"
        return (RowOp("linear", form, self.in_features, self.out_features),)


class EightBitLinear(QuantisedLinear):
    """int8 with a scale a row, inputs rounded to int8 but for columns with large values (LLM.int8()).

    Source: bitsandbytes 0.50, nn/modules.py (Linear8bitLt), with `has_fp16_weights=False`.
    """

    scale: Tensor

    def quantise(self, tensor: Tensor, *, dtype: torch.dtype, device: torch.device) -> None:
        codes = torch.empty(self.out_features, self.in_features, dtype=torch.int8, device=device)
        scale = torch.empty(self.out_features, dtype=torch.float32, device=device)
        place = 0
        for part in self._parts(tensor, dtype, device):
            half = part.to(torch.float16)
            here = slice(place, place + len(half))
            codes[here], scale[here], _ = bitsandbytes().functional.int8_vectorwise_quant(half)
            place += len(half)
        self.hold(codes, scale=scale)

    def dequantized_weight(self) -> Tensor:
        weight: Tensor = bitsandbytes().functional.int8_vectorwise_dequant(self.weight.detach(), self.scale)
        return weight

    def forward(self, x: Tensor) -> Tensor:
        library = bitsandbytes()
        state = library.MatmulLtState()
        state.CB, state.SCB = self.weight.detach(), self.scale
        state.threshold, state.use_pool = self.settings.threshold, True
        state.has_fp16_weights, state.is_training = False, self.training
        bias = None if self.bias is None else self.bias.to(x.dtype)
        out: Tensor = library.matmul(x, self.weight, bias=bias, state=state)
        return out

    def row_ops(self) -> None:
        """Not known: which columns are large depends on all rows of a batch."""
        return


def quantised_linear(settings: Quantization, replaced: nn.Module) -> QuantisedLinear:
    """The quantised counterpart of a linear, without values yet."""
    kind = FourBitLinear if settings.four_bit else EightBitLinear
    return kind(settings, replaced)
