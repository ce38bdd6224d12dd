"""Linears behind pooling: the folders 2_Dense of sentence-transformers, in and out.

Source: sentence-transformers 6.2, base/modules/dense.py. An activation is looked up in a table here; a class
that a folder names is never imported.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from safetensors.torch import save
from torch import Tensor, nn

from biject.checkpoint.header import read_header
from biject.checkpoint.reader import Reader
from biject.checkpoint.source import Source
from biject.checkpoint.strict_json import parse_object, read_small_file
from biject.errors import CheckpointError, ConfigError
from biject.model import Model
from biject.tasks.pooling import Dense

_ACTIVATIONS: Mapping[str, type[nn.Module]] = {
    kind.__name__: kind
    for kind in (nn.Identity, nn.Tanh, nn.ReLU, nn.GELU, nn.SiLU, nn.Sigmoid, nn.LeakyReLU, nn.ELU)
}
_LARGEST = 1 << 16
"""Values of a vector; more is no embedding."""
NAME = "sentence_dense"
"""What the linears are called in a model."""
_FILE, _OLD_FILE = "model.safetensors", "pytorch_model.bin"


@dataclass(frozen=True, kw_only=True)
class DenseConfig:
    """One linear.

    Attributes:
        folder: Where its weights are.
        inputs: Values of a vector before it.
        outputs: Values behind it.
        bias: It has one.
        activation: The class's name in torch.nn.
        residual: Its input is added to its output.
        stored: The values of its config.json.
    """

    folder: Path
    inputs: int
    outputs: int
    bias: bool
    activation: str
    residual: bool
    stored: bytes


def read_dense_config(folder: Path) -> DenseConfig:
    """A linear's settings.

    Raises:
        CheckpointError: The file is damaged.
        ConfigError: It says something that is not computed.
    """
    path = folder / "config.json"
    data = read_small_file(path, what=str(path))
    values = parse_object(data, where=str(path))
    sizes = [values.get("in_features"), values.get("out_features")]
    if not all(type(size) is int and 0 < size <= _LARGEST for size in sizes):
        raise ConfigError(f"{path}: expected `in_features` and `out_features` as numbers, found {sizes}.")
    activation = str(values.get("activation_function", "torch.nn.modules.activation.Tanh"))
    module, _, name = activation.rpartition(".")
    if not module.startswith("torch.nn") or name not in _ACTIVATIONS:
        known = ", ".join(_ACTIVATIONS)
        raise ConfigError(
            f"{path}: `activation_function` is {activation!r}; torch.nn's {known} are computed."
        )
    usual = "sentence_embedding"
    names = [values.get(key) or usual for key in ("module_input_name", "module_output_name")]
    if names != [usual, usual]:
        raise ConfigError(f"{path}: a linear from and to {usual} is computed; found {' and '.join(names)}.")
    return DenseConfig(
        folder=folder,
        inputs=values["in_features"],
        outputs=values["out_features"],
        bias=values.get("bias", True) is True,
        activation=name,
        residual=values.get("use_residual") is True,
        stored=data,
    )


def attach(model: Model, configs: Sequence[DenseConfig]) -> nn.ModuleList | None:
    """Give a model its folder's linears, where it has none yet; they are trained and saved with it.

    Raises:
        CheckpointError: A weight is missing or damaged.
        ConfigError: The sizes do not follow from each other.
    """
    if not configs or hasattr(model, NAME):
        return dense_of(model)
    made = nn.ModuleList([_read(config) for config in configs]).to(model.device)
    _put(model, made.train(model.training))
    return made


def _put(model: Model, made: nn.ModuleList) -> None:
    model.add_module(NAME, made)
    model.declare_adapter(NAME, [f"{NAME}.{name}" for name, _ in made.named_parameters()])


def dense_of(model: nn.Module) -> nn.ModuleList | None:
    """The linears of a model, or None."""
    found = getattr(model, NAME, None)
    return found if isinstance(found, nn.ModuleList) else None


def detach(model: Model) -> nn.ModuleList | None:
    """Take the linears out of a model, which is then the checkpoint's own again."""
    made = dense_of(model)
    if made is not None:
        delattr(model, NAME)
        plan = model.provenance.plan
        others = {name: found for name, found in plan.adapters.items() if name != NAME}
        model.provenance = replace(model.provenance, plan=replace(plan, adapters=others))
    return made


@contextmanager
def detached(model: Model) -> Iterator[None]:
    """The model without its linears inside the block, as a checkpoint has it."""
    made = detach(model)
    try:
        yield
    finally:
        if made is not None:
            _put(model, made)


def dense_files(made: nn.Module, config: DenseConfig) -> dict[str, bytes]:
    """A linear's folder: its config.json as it came, and its weights."""
    tensors = {name: value.detach().cpu().contiguous() for name, value in made.state_dict().items()}
    return {"config.json": config.stored, _FILE: save(tensors, metadata={"format": "pt"})}


def _read(config: DenseConfig) -> Dense:
    made = Dense(
        config.inputs,
        config.outputs,
        bias=config.bias,
        activation=_ACTIVATIONS[config.activation](),
        residual=config.residual,
    )
    stored = _tensors(config.folder)
    wanted = made.state_dict()
    for name, value in wanted.items():
        found = stored.get(name)
        if found is None or found.shape != value.shape:
            shape = "nothing" if found is None else tuple(found.shape)
            raise CheckpointError(f"{config.folder}: `{name}` should be {tuple(value.shape)}, found {shape}.")
    strange = sorted(set(stored) - set(wanted))
    if strange:
        raise CheckpointError(f"{config.folder}: expected {', '.join(wanted)}; found {strange[0]} as well.")
    made.load_state_dict({name: value.float() for name, value in stored.items()})
    return made


def _tensors(folder: Path) -> Mapping[str, Tensor]:
    """The tensors of a module's folder, read as a checkpoint's are."""
    if (folder / _FILE).is_file():
        header = read_header(folder / _FILE)
        values: dict[str, Any] = {
            "format": "safetensors", "weight_files": (_FILE,), "headers": {_FILE: header},
            "index_file": None, "index_bytes": None, "tensors": header.tensors, "config_bytes": b"{}",
            "config": {}, "other_weights": (), "assets": (),
        }  # fmt: skip
        reader = Reader(Source(folder=folder, **values))
        return {name: reader.tensor(name) for name in header.tensors}
    if (folder / _OLD_FILE).is_file():
        from biject.checkpoint.legacy import load_bin

        return load_bin(folder / _OLD_FILE)
    raise CheckpointError(f"{folder} has neither {_FILE} nor {_OLD_FILE}.")
