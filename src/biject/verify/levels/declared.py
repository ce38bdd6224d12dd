"""Part of level `forward`: what modules declare about their numbers is what they compute.

Packing asks the probe about the widths and kinds that modules declare (`row_ops`), and the planner takes a
kernel by the operation that attention declares. A wrong declaration changes no bit on the machine that it was
written on; so what runs is recorded and compared with what was declared.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode

from biject.model import Model
from biject.nn.rowwise import RowOp, row_ops
from biject.verify.attention_calls import AttentionCall, RecordAttention
from biject.verify.inputs import Case
from biject.verify.report import Check
from biject.verify.subject import Subject, inputs_for

_ACTIVATIONS = frozenset(
    {"gelu", "silu", "relu", "tanh", "sigmoid", "erf", "mish", "hardswish", "leaky_relu", "hardtanh", "elu"}
)
"""Names in aten under which activations compute, or a step of them."""
_OF_SCORES = 4
"""Axes of scores, (B, H, L, S): what bounds them belongs to attention, whose own probe has it."""


def declared(subject: Subject) -> list[Check]:
    """Rows and attention of one call without padding."""
    main = subject.ours.main_input_name
    case = next(case for case in subject.cases if main in case.inputs and "attention_mask" in case.inputs)
    inputs = inputs_for(subject.ours, Case(name=case.name, inputs={main: case.inputs[main]}))
    return [row_operations(subject.ours, inputs), attention_operations(subject.ours, inputs)]


class _RecordRows(TorchDispatchMode):
    """Widths of the products, norms and activations that run over a number of rows."""

    def __init__(self, rows: int) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.rows, self.inside = rows, 0
        self.found: set[tuple[str, str, int, int]] = set()
        self.products: set[tuple[int, int]] = set()

    def __torch_dispatch__(
        self,
        func: Any,
        types: Iterable[type],
        args: tuple[Any, ...] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> Any:
        if self.inside:
            self._note(func.__name__.partition(".")[0], args, kwargs or {})
        return func(*args, **(kwargs or {}))

    def _note(self, name: str, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> None:
        if name in ("addmm", "mm"):
            x, matrix = args[-2:]
            self.products.add(tuple(matrix.shape))
            if x.shape[0] == self.rows:
                form = "plain" if name == "mm" else "transposed" if matrix.is_contiguous() else "bias"
                self.found.add(("linear", form, *matrix.shape))
        elif name == "gemm_4bit":  # bitsandbytes: dequantises, and multiplies inside
            (outputs, inputs), bias = args[2], kwargs.get("bias", args[6] if len(args) > 6 else None)
            self.products.add((inputs, outputs))
            if args[0].shape[0] == self.rows:
                self.found.add(("linear", "plain" if bias is None else "bias", inputs, outputs))
        elif name == "native_layer_norm" and self._over_rows(args[0]):
            self.found.add(("norm", "layer", args[1][-1], 0))
        elif name == "mean" and self._over_rows(args[0]):
            self.found.add(("norm", "rms", args[0].shape[-1], 0))
        elif name in _ACTIVATIONS and args[0].dim() < _OF_SCORES and self._over_rows(args[0]):
            self.found.add(("activation", "", args[0].shape[-1], 0))

    def _over_rows(self, x: Tensor) -> bool:
        return x.numel() // x.shape[-1] % self.rows == 0


@contextmanager
def _within(modules: Iterable[nn.Module], record: _RecordRows) -> Iterator[None]:
    """Record only what runs inside of these modules."""

    def step(by: int) -> Callable[..., None]:
        def hook(*_: object) -> None:
            record.inside += by

        return hook

    handles = []
    for module in modules:
        for one in module if isinstance(module, nn.ModuleList) else (module,):
            handles.append(one.register_forward_pre_hook(step(1)))
            handles.append(one.register_forward_hook(step(-1)))
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


def row_operations(model: Model, inputs: Mapping[str, Tensor]) -> Check:
    """Products, norms and activations of the layers, as they run and as `row_ops` declares them."""
    name, case = "row operations", "without padding"
    said = row_ops(model.row_modules)
    if said is None:
        return Check(name=name, passed=True, case=case, detail="a module declares none: no bits are claimed")
    record = _RecordRows(model.batch_of(**inputs).shape.numel())
    with torch.no_grad(), _within(model.row_modules, record), record:
        model(**inputs)
    expected = {_key(op) for op in said if op.name != "linear"}
    missing = record.found - expected
    idle = {key for key in expected - record.found if key[0] != "linear" or key[2:] not in record.products}
    wrong = [f"{_words(key)} runs, and no module declares it" for key in sorted(missing)]
    wrong += [f"{_words(key)} is declared, and none runs" for key in sorted(idle)]
    detail = "; ".join(wrong) or f"{len(expected)} kinds, as declared"
    return Check(name=name, passed=not wrong, detail=detail, case=case)


def _key(op: RowOp) -> tuple[str, str, int, int]:
    return op.kind, "" if op.kind == "activation" else op.name, op.inputs, op.outputs


def _words(key: tuple[str, str, int, int]) -> str:
    kind, name, inputs, outputs = key
    width = f"{inputs} -> {outputs}" if outputs else f"of width {inputs}"
    return f"{kind} {name} {width}".replace("  ", " ")


def attention_operations(model: Model, inputs: Mapping[str, Tensor]) -> Check:
    """For each attention: the operation that the planner takes a kernel for, its heads and its window."""
    name, case = "attention operations", "without padding"
    calls: list[tuple[Any, list[AttentionCall]]] = []
    recorder = RecordAttention()
    handles = []
    for attention in model.attentions:
        module: Any = attention
        handles.append(
            module.register_forward_pre_hook(lambda one, _: calls.append((one, recorder.calls[:])))
        )
    try:
        with torch.no_grad(), recorder:
            model(**inputs)
    finally:
        for handle in handles:
            handle.remove()
    wrong = []
    for index, (attention, before) in enumerate(calls):
        after = calls[index + 1][1] if index + 1 < len(calls) else recorder.calls
        wrong += [f"call {index + 1}: {text}" for text in _wrong(attention, after[len(before) :])]
    detail = "; ".join(dict.fromkeys(wrong)) or f"{len(calls)} calls, as declared"
    return Check(name=name, passed=bool(calls) and not wrong, detail=detail, case=case)


def _wrong(attention: Any, found: list[AttentionCall]) -> list[str]:
    spec = attention.spec
    if len(found) != 1:
        return [f"{len(found)} kernels run for one attention"]
    (call,) = found
    if call.scores is not None:
        operation = "attention by steps" if spec.written_out else "written-out attention"
        if attention.operation != operation and not spec.upcast:
            return [f"{attention.operation!r} is declared, and the scores are written out"]
        return _wrong_window(spec, call) if spec.written_out else []
    wrong = []
    operation = "causal attention" if call.causal else "attention"
    if attention.operation != operation:
        wrong.append(f"{attention.operation!r} is declared, and {operation!r} runs")
    assert call.q is not None
    if call.q.shape[-1] != spec.head_dim:
        wrong.append(f"heads of width {spec.head_dim} are declared, and {call.q.shape[-1]} run")
    return wrong + _wrong_window(spec, call)


def _wrong_window(spec: Any, call: AttentionCall) -> list[str]:
    queries = call.visible.shape[-2]
    reach = queries - 1 if spec.window is None else min(spec.window - int(spec.causal), queries - 1)
    if call.reach != reach:
        return [f"a window of {spec.window} is declared, and tokens see {call.reach} away"]
    return []
