"""Tensors that are cast when they are asked for, one at a time: a cast of a model needs no second model."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping

import torch

from biject.checkpoint.forget import forget_unwritten


class Casting(Mapping[str, torch.Tensor]):
    """Tensors by name, each in a dtype of its own.

    Args:
        tensors: The values and the dtype in which each is given out.
        whole: Makes one of them whole, where they are spread over ranks.
        released: Nobody else has the tensors: what was read of a mapped file is given back by `used`.

    Attributes:
        held: The tensors before the cast.
        described: Dtypes and shapes alone where a cast is needed (on the meta device), the tensors themselves
            where none is: tied ones can still be told.
    """

    def __init__(
        self,
        tensors: Iterable[tuple[str, torch.Tensor, torch.dtype]],
        whole: Callable[[torch.Tensor], torch.Tensor] | None = None,
        *,
        released: bool = False,
    ) -> None:
        given = list(tensors)
        self._released = released
        self._whole = whole or (lambda tensor: tensor)
        self.held = {name: tensor for name, tensor, _ in given}
        self.described = {
            name: tensor
            if tensor.dtype == dtype and whole is None
            else torch.empty(tensor.shape, dtype=dtype, device="meta")
            for name, tensor, dtype in given
        }

    def __getitem__(self, name: str) -> torch.Tensor:
        return self._whole(self.held[name]).to(self.described[name].dtype)

    def used(self, name: str) -> None:
        """This one is not needed for now."""
        tensor = self.held[name]
        if self._released and tensor.device.type == "cpu" and tensor.is_contiguous():
            forget_unwritten(tensor.data_ptr(), tensor.nbytes)

    def __iter__(self) -> Iterator[str]:
        return iter(self.held)

    def __len__(self) -> int:
        return len(self.held)


def kept_dtype(
    tensor: torch.Tensor, own: torch.dtype, whole: Callable[[torch.Tensor], torch.Tensor] | None
) -> torch.dtype:
    """The dtype in the file, `own`, unless the tensor has values by now that it does not have.

    NaN counts as one value. `whole` makes the tensor whole, if it is spread over ranks.
    """
    if own == tensor.dtype:
        return own
    value = tensor if whole is None else whole(tensor)
    back = value.to(own).to(value.dtype)
    return own if bool(((back == value) | value.isnan()).all()) else tensor.dtype


def used(tensors: Mapping[str, torch.Tensor], name: str) -> None:
    """See `Casting.used`."""
    if isinstance(tensors, Casting):
        tensors.used(name)


def held(tensors: Mapping[str, torch.Tensor]) -> Mapping[str, torch.Tensor]:
    """The tensors before a cast."""
    return tensors.held if isinstance(tensors, Casting) else tensors


def described(tensors: Mapping[str, torch.Tensor]) -> Mapping[str, torch.Tensor]:
    """The dtypes and shapes of tensors, without a cast."""
    return tensors.described if isinstance(tensors, Casting) else tensors
