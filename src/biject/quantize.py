"""Which linears of a model are quantised, and what a quantised model refuses.

Source: transformers 5.23, quantizers/base.py (get_keys_to_not_convert), integrations/bitsandbytes.py
(replace_with_bnb_linear).
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import torch
from torch import nn

from biject.checkpoint.reader import Reader
from biject.config.quantization import DTYPES, Quantization, is_skipped
from biject.config.stored_codes import StoredCodes
from biject.errors import ConfigError, WeightsError
from biject.events import notice
from biject.model import Model
from biject.nn.experts import Experts
from biject.nn.modules import AddedBiasLinear, Linear, TransposedLinear
from biject.nn.quantised import FourBitLinear, QuantisedLinear, bitsandbytes, quantised_linear

DEVICES = ("cpu", "cuda")
_LINEARS = (nn.Linear, Linear, AddedBiasLinear, TransposedLinear)


def check(settings: Quantization, *, dtype: torch.dtype, device: torch.device) -> None:
    """Raise where a model cannot be quantised so.

    Raises:
        ConfigError: a dtype that bitsandbytes does not quantise, or a device that it has no kernels for.
        MissingExtraError: bitsandbytes is not installed.
    """
    name = str(dtype).removeprefix("torch.")
    if name not in DTYPES:
        raise ConfigError(
            f"quantization={settings.method!r}: parameters should be {', '.join(DTYPES)}, found {name}. "
            "Give dtype='float32' or dtype='bfloat16'."
        )
    if device.type not in DEVICES:
        raise ConfigError(
            f"quantization={settings.method!r}: expected a device of {', '.join(DEVICES)}, found {device}."
        )
    bitsandbytes()


def replace_linears(
    model: Model, settings: Quantization, *, fast: bool = False, codes: StoredCodes | None = None
) -> tuple[str, ...]:
    """Put quantised linears, without values yet, in the place of those that `transformers` would convert.

    Args:
        model: whose.
        settings: how.
        codes: what the file holds in few bits already: these and no others.
        fast: have 4-bit ones compute in bfloat16 in eval mode where bitsandbytes would.

    Returns:
        The names of the replaced modules.

    Raises:
        ConfigError: an entry of `skip_modules` fits no linear, or nothing is left to quantise.
    """
    _name_experts(model)
    kept = set(_left_by_default(model) if codes is None else _in_full(model, codes))
    if settings.skip_modules is not None:
        kept = set(_never(model))
        for pattern in settings.skip_modules:
            fits = {name for name, spelt in _spellings(model).items() if _fits(spelt, pattern)}
            if not fits:
                raise ConfigError(
                    f"skip_modules: {pattern!r} fits no linear of the model; there are "
                    f"{', '.join(_examples(model))}."
                )
            kept |= fits
    chosen = tuple(name for name, _ in _linears(model) if name not in kept)
    if not chosen:
        raise ConfigError("skip_modules leaves nothing to quantise; leave quantization out.")
    for name in chosen:
        old = model.get_submodule(name)
        new = quantised_linear(settings, old)
        if isinstance(new, FourBitLinear):
            new.bfloat16_in_eval = fast
        model.set_submodule(name, new, strict=True)
    model.quantization = settings
    return chosen


@torch.no_grad()
def restore_linears(model: Model, names: Iterable[str]) -> None:
    """Hold some linears in the file's numbers again, as if `skip_modules` had named them: those of a head
    that an adapter trains whole, which codes cannot be.

    Args:
        model: quantised.
        names: of modules; what is not quantised stays as it is.
    """
    found = dict(quantised_linears(model))
    disk = {binding.memory: binding.disk[0] for binding in model.provenance.plan.bindings}
    reader = Reader(model.source)
    for name in names:
        old = found.get(name)
        if old is None:
            continue
        sizes = old.in_features, old.out_features
        new = TransposedLinear(*sizes) if old.stored_transposed else Linear(*sizes, bias=old.bias is not None)
        tensor = reader.tensor(disk[f"{name}.weight"])
        if not tensor.is_floating_point():  # the file holds codes, too: what they stand for
            tensor = old.dequantized_weight()
            tensor = tensor.t().contiguous() if old.stored_transposed else tensor
        new.weight = nn.Parameter(tensor.to(device=old.weight.device, dtype=model.dtype, copy=True))
        new._parameters["bias"] = old.bias
        model.set_submodule(name, new.train(old.training).requires_grad_(), strict=True)


def _name_experts(model: Model) -> None:
    """Say that experts keep their numbers, as in transformers 5, whose experts are no linears either."""
    kept = sum(
        parameter.numel()
        for module in model.modules()
        if isinstance(module, Experts)
        for parameter in module.parameters()
    )
    if kept:
        share = kept / model.num_parameters()
        notice(
            "experts-not-quantised",
            f"The experts' matrices, {share:.0%} of the parameters, are not quantised: transformers leaves "
            "them as they are, too.",
        )


def quantised_linears(model: nn.Module) -> Iterator[tuple[str, QuantisedLinear]]:
    """Of a model, adapters around them or not."""
    return ((name, m) for name, m in model.named_modules() if isinstance(m, QuantisedLinear))


def _linears(model: Model) -> Iterator[tuple[str, nn.Module]]:
    return ((name, module) for name, module in model.named_modules() if type(module) in _LINEARS)


def _in_full(model: Model, codes: StoredCodes) -> Iterator[str]:
    """Linears of which the file holds the numbers.

    Raises:
        WeightsError: the file holds something else in few bits, or the matrix over the vocabulary.
    """
    disk = {binding.memory: binding.disk[0] for binding in model.provenance.plan.bindings}
    own = {name: disk.get(f"{name}.weight") for name, _ in _linears(model)}
    for name, found in own.items():
        if found not in codes.parts:
            yield name
    never = {own[name] for name in _never(model)}
    wrong = [one for one in disk.values() if one in codes.parts and (one in never or one not in own.values())]
    if wrong:
        raise WeightsError(
            f"{model.source.folder}: `{wrong[0]}` holds codes, which Biject computes for linears below the "
            "head's output only. Use the unquantised checkpoint."
        )


def _never(model: Model) -> Iterator[str]:
    """The matrix over the vocabulary, which may be the token table, and what the file does not have."""
    new = {binding.memory.rpartition(".")[0] for binding in model.provenance.plan.initialized}
    for name, module in _linears(model):
        if module is model.head.output_matrix or name in new:
            yield name


def _left_by_default(model: Model) -> Iterator[str]:
    """The same, and a last parameter that is a matrix: a linear without a bias at the head's end."""
    yield from _never(model)
    *_, (name, last) = _linears(model)
    if name.startswith("head.") and last._parameters["bias"] is None:
        yield name


def _spellings(model: Model) -> dict[str, set[str]]:
    """Every linear's names: ours, and Hugging Face's with and without the base model's prefix."""
    known = {name: {name} for name, _ in _linears(model)}
    prefix = f"{model.family.prefix_of(model.head_name)}."
    plan = model.provenance.plan
    for binding in (*plan.bindings, *plan.initialized):
        spelt = known.get(binding.memory.removesuffix(".weight"))
        if spelt is None:
            continue
        for disk in binding.disk:
            short = disk.removesuffix(".weight").removeprefix(prefix)
            spelt |= {short} if model.head_name == "base" else {short, f"{prefix}{short}"}
    return known


def _fits(spellings: set[str], pattern: str) -> bool:
    return any(is_skipped(name, (pattern,)) for name in spellings)


def _examples(model: Model) -> list[str]:
    return sorted({name.rsplit(".", 1)[-1] for spelt in _spellings(model).values() for name in spelt})[:12]


def refuse_saving(model: Model) -> None:
    """Raise for a quantised model: its codes are no tensors of a checkpoint that Biject reads.

    Raises:
        WeightsError: it is quantised.
    """
    if model.quantization is not None:
        raise WeightsError(
            f"This model is held in {model.quantization.method}: what it was loaded from is "
            f"{model.source.folder}, and is not written again from rounded codes. Save the adapter alone "
            "(model.save_adapter), or merge it into the original or the dequantised base (biject merge)."
        )


def refuse_training(model: nn.Module) -> None:
    """Raise for a quantised base without an adapter: codes have no gradients.

    Raises:
        ConfigError: it is quantised, and nothing of an adapter trains.
    """
    for name, module in model.named_modules():
        if (
            isinstance(module, Model)
            and module.quantization is not None
            and not module.provenance.plan.adapters
        ):
            where = f" (`{name}`)" if name else ""
            raise ConfigError(
                f"The model{where} is held in {module.quantization.method}, and codes do not train: add an "
                "adapter first (model.add_adapter), or load it without quantization."
            )
