"""What trains beside an adapter and would be in no file of it: refused by name before it is lost."""

from __future__ import annotations

from biject.adapters.names import module_names
from biject.adapters.state import adapters_of
from biject.errors import ConfigError
from biject.model import Model
from biject.parameters import declared

_LISTED = 6


def refuse_loss(model: Model) -> None:
    """Refuse what the files of a model's adapters cannot hold.

    Raises:
        ConfigError: parameters train that are no adapter's and that nobody declared.
    """
    kept = {id(p) for one in adapters_of(model).adapters.values() for p in one.trained()}
    kept |= {id(model.get_parameter(b.memory)) for found in declared(model).values() for b in found}
    lost = [name for name, p in model.named_parameters() if p.requires_grad and id(p) not in kept]
    if not lost:
        return
    listed = ", ".join(f"`{name}`" for name in lost[:_LISTED])
    more = f" and {len(lost) - _LISTED} more" if len(lost) > _LISTED else ""
    modules = dict.fromkeys(name.rpartition(".")[0] for name in lost)
    ends = {memory: outer.rpartition(".")[2] for outer, memory in module_names(model).items()}
    known = ", ".join(dict.fromkeys(repr(ends[one]) for one in modules if one in ends))
    how = f"name them in modules_to_save ({known}) of its LoraConfig" if known else "declare_adapter them"
    raise ConfigError(
        f"{listed}{more} train beside the adapter, whose files hold its own parameters only, so that they "
        f"would be lost: {how}, or freeze them. (After merge_adapter(), save_pretrained writes them all.)"
    )
