"""Rules about the numbers in tensors: NaN, huge, denormal, constant, and never trained."""

from __future__ import annotations

import math
from collections.abc import Mapping

import torch
from torch import Tensor

from biject.families._family import Init
from biject.record import RECORD, Record
from biject.verify.lint.facts import Facts, error, warning
from biject.verify.report import Finding

HUGE = 1e4  # a trained encoder's largest weights are below 100; float16 ends at 65504
DENORMAL_SHARE = 0.01  # a few rows that weight decay has shrunk to nothing are common, whole tensors are not
SIGMAS = 4.0  # a sample of a normal distribution is further off once in 16,000 times
LEAST_NUMBERS = 32


def numbers(facts: Facts) -> list[Finding]:
    """NaN and infinity, values out of all proportion, denormal and constant tensors."""
    broken, huge, tiny, constant = [], [], [], []
    matrices = _matrices(facts)
    for name in facts.source.tensors:
        tensor = facts.reader.tensor(name)
        if not tensor.is_floating_point() or not tensor.numel():
            continue
        tensor = tensor.float() if tensor.element_size() == 1 else tensor
        low, high = (float(bound) for bound in torch.aminmax(tensor))
        if not (math.isfinite(low) and math.isfinite(high)):
            broken.append(name)
        elif max(abs(low), abs(high)) > HUGE:
            huge.append(name)
        elif low == high and name in matrices and tensor.numel() > 1:
            constant.append(name)
        elif _denormal(tensor):
            tiny.append(name)
    found = []
    if broken:
        advice = "go back to the last checkpoint without them; lower the learning rate or the loss scale"
        found.append(error("not-finite", broken, "NaN or infinity: outputs will be NaN", advice))
    if huge:
        meaning = f"values above {HUGE:g}: float16 may overflow, training has probably diverged"
        found.append(warning("huge-values", huge, meaning, "compare with an earlier checkpoint"))
    if tiny:
        meaning = "denormal numbers: slow to compute with, lost in another dtype; often a wrong dtype or cast"
        found.append(warning("denormal-values", tiny, meaning, "compare with an earlier checkpoint"))
    if constant:
        meaning = "all values of a matrix are the same: it was zeroed, or never filled"
        found.append(error("constant-matrix", constant, meaning, "export again from the trained model"))
    return found


def _matrices(facts: Facts) -> frozenset[str]:
    """Tensors that are a linear's weight by the plan (tables of positions or segments may be zero)."""
    if facts.identity is None:
        return frozenset()
    bindings = facts.identity.plan.bindings
    return frozenset(
        b.disk[0]
        for b in bindings
        if b.memory.endswith(".weight")
        and not b.memory.startswith("embed.")
        and len(facts.source.tensors[b.disk[0]].shape) == 2
    )


def _denormal(tensor: Tensor) -> bool:
    """Whether more than a few numbers are denormal; float16's range is so small that weights reach it."""
    if tensor.dtype == torch.float16 or tensor.numel() < LEAST_NUMBERS:
        return False
    count = int(((tensor != 0) & (tensor.abs() < torch.finfo(tensor.dtype).tiny)).sum())
    return count > DENORMAL_SHARE * tensor.numel()


def untrained(facts: Facts) -> list[Finding]:
    """Modules as initialisation leaves them: weights normal with `initializer_range`, biases exactly 0."""
    if facts.identity is None:
        return []
    identity, modules = facts.identity, _modules(facts)
    std = float(identity.config.initializer_range)

    def is_fresh(memory: str, disk: Mapping[str, str]) -> bool:
        leaves = {leaf: facts.reader.tensor(name) for leaf, name in disk.items()}
        return _is_fresh(leaves, memory, identity.family.init(identity.values, memory))

    fresh = {memory: disk for memory, disk in modules.items() if is_fresh(memory, disk)}
    recorded = frozenset(Record.read(facts.source.folder).new_parameters)
    pooler = {m: d for m, d in fresh.items() if m == "head.pooler" and identity.head == "base"}
    head = {m: d for m, d in fresh.items() if m.startswith("head.") and m not in pooler}
    body = {m: d for m, d in fresh.items() if m not in head and m not in pooler}
    found = _head(head, std, recorded)
    if pooler:
        meaning = "the pooler was never trained, so `pooler_output` means nothing"
        found.append(
            warning("fresh-pooler", _names(pooler), meaning, "use hidden states (mean, first column)")
        )
    if any("norm" not in memory for memory in body):  # norms alone may have been frozen
        meaning = f"layers as initialisation leaves them (standard deviation {std:g}, biases 0, scales 1)"
        advice = "the tensors were not found under the requested names when it was loaded to be saved"
        found.append(error("fresh-layers", _names(body), meaning, advice))
    return found + (_zero_bias(facts) if not head else [])


def _head(head: Mapping[str, Mapping[str, str]], std: float, recorded: frozenset[str]) -> list[Finding]:
    if not head:
        return []
    names = _names(head)
    if recorded.issuperset(names):
        meaning = f"the head is new and random, as {RECORD} records"
        return [warning("fresh-head", names, meaning, "train it before use")]
    meaning = (
        f"the head looks freshly initialised (standard deviation {std:g} or torch's default, biases 0, norm "
        "scales 1): its outputs mean nothing"
    )
    advice = "train it, or find out why the trained head was not loaded (another class, another name)"
    return [error("fresh-head", names, meaning, advice)]


def _zero_bias(facts: Facts) -> list[Finding]:
    """A classifier whose bias never moved, although its weights did."""
    name = facts.disk("head.out.bias")
    if name is None or bool(facts.reader.tensor(name).any()):
        return []
    meaning = "the head's bias is exactly 0, as initialisation leaves it"
    advice = "if it was trained with a bias, it was lost on the way"
    return [warning("zero-bias", name, meaning, advice)]


def _modules(facts: Facts) -> dict[str, dict[str, str]]:
    """Memory name of each module -> leaf -> name on disk; segment tables are left out: rows may go unused."""
    assert facts.identity is not None
    modules: dict[str, dict[str, str]] = {}
    for binding in facts.identity.plan.bindings:
        module, _, leaf = binding.memory.rpartition(".")
        if module != "embed.segments":
            modules.setdefault(module, {})[leaf] = binding.disk[0]
    return modules


def _names(modules: Mapping[str, Mapping[str, str]]) -> list[str]:
    return [name for leaves in modules.values() for name in leaves.values()]


def _is_fresh(leaves: Mapping[str, Tensor], memory: str, init: Init) -> bool:
    weight, bias = leaves.get("weight"), leaves.get("bias")
    if weight is None or not weight.is_floating_point() or weight.numel() < LEAST_NUMBERS // 4:
        return False
    if weight.dim() == 1:  # a norm: exactly 1 and 0
        return bias is not None and bool((weight == 1).all()) and not bool(bias.any())
    if weight.numel() < LEAST_NUMBERS:
        return False
    if bias is None:
        rows = weight[weight.flatten(1).any(dim=1)]  # a padding row is set to 0
        return rows.numel() >= LEAST_NUMBERS and looks_normal(rows, *init)
    if not bool(bias.any()):
        return looks_normal(weight, *init)
    return memory.startswith("head.") and _looks_torch_default(weight, bias)


def looks_normal(tensor: Tensor, std: float, cutoff: float | None = None) -> bool:
    """Whether numbers are a sample of N(0, std²): deviation, mean, kurtosis within `SIGMAS` standard errors.

    Standard errors of n numbers: std/√(2n), std/√n and √(24/n); with the tails cut off at `cutoff` standard
    deviations they are smaller, and variance and kurtosis those of the truncated normal distribution.
    """
    n, expected = tensor.numel(), 3.0
    if cutoff is not None:
        density = math.exp(-(cutoff**2) / 2) / math.sqrt(2 * math.pi)
        share = 2 * cutoff * density / math.erf(cutoff / math.sqrt(2))
        std, expected = std * math.sqrt(1 - share), (3 - share * (cutoff**2 + 3)) / (1 - share) ** 2
    found = float(tensor.float().std(correction=0))
    if std <= 0 or abs(found / std - 1) > SIGMAS / math.sqrt(2 * n):
        return False
    values = tensor.double()
    mean = float(values.mean())
    kurtosis = float(((values - mean) ** 4).mean()) / found**4
    return abs(mean) < SIGMAS * std / math.sqrt(n) and abs(kurtosis - expected) < SIGMAS * math.sqrt(24 / n)


def _looks_torch_default(weight: Tensor, bias: Tensor) -> bool:
    """`torch.nn.Linear`'s own initialisation: both uniform within ±1/√fan_in."""
    bound = 1 / math.sqrt(weight[0].numel())
    n = weight.numel()
    top = float(weight.abs().max())
    inside = bound * (1 - 20 / n) < top <= bound * (1 + 1e-3) and float(bias.abs().max()) <= bound * 1.001
    return inside and abs(float(weight.float().std()) * math.sqrt(3) / bound - 1) < SIGMAS * math.sqrt(
        0.2 / n
    )
