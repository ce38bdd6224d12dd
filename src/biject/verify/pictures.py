"""Pictures to call models with: of their own size, of others, with masked patches."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from biject.config.model import PatchConfig

Inputs = Mapping[str, Tensor]


def pictures(patches: PatchConfig, count: int, seed: int, *, size: tuple[int, int] | None = None) -> Tensor:
    """Random ones, (count, C, H, W), of the model's size where none is given."""
    draw = torch.Generator().manual_seed(seed)
    height, width = size or patches.image_size
    return torch.randn((count, patches.num_channels, height, width), generator=draw)


def picture_inputs(patches: PatchConfig, seed: int) -> dict[str, Inputs]:
    """The calls of level `forward` by name: one picture, several, masked patches, other sizes."""
    one, three = pictures(patches, 1, seed), pictures(patches, 3, seed + 1)
    masks = _masks(_rows(patches))
    found: dict[str, Inputs] = {"alone": {"pixel_values": one}, "three": {"pixel_values": three}}
    for name, mask in masks.items():
        found[name] = {"pixel_values": three, "attention_mask": mask}
    lines, columns = patches.grid
    if lines != columns:
        return found  # transformers interpolates square grids only
    height, width = patches.patch_size
    others = {
        "larger": (lines + 2, columns + 2),
        "wide": (lines, columns + 3),
        "not-square": (lines - 1, columns),
    }
    asked = {} if patches.other_sizes == "always" else {"interpolate_pos_encoding": torch.tensor(True)}
    for name, (down, across) in others.items():
        size = (max(1, down) * height, max(1, across) * width)
        found[name] = {"pixel_values": pictures(patches, 2, seed + 2, size=size), **asked}
    return found


def masked_pictures(patches: PatchConfig, seed: int) -> Inputs:
    """Pictures of which some have masked patches at their end or in between."""
    rows = _rows(patches)
    mask = torch.ones((5, rows), dtype=torch.long)
    mask[1, rows // 2 :] = 0
    mask[2, rows // 3 : rows // 2] = 0
    mask[4, max(1, rows // 4) :] = 0
    return {"pixel_values": pictures(patches, 5, seed), "attention_mask": mask}


def _rows(patches: PatchConfig) -> int:
    return patches.num_positions + patches.registers


def _masks(rows: int) -> dict[str, Tensor]:
    """For three pictures; the class token is never masked."""
    place = torch.arange(rows).expand(3, rows)
    right = (place < torch.tensor([[rows], [max(1, rows // 3)], [rows - 1]])).long()
    holes = ((place * 5 + torch.arange(3)[:, None]) % 7 != 3).long()
    holes[:, 0] = 1
    return {"right-padded": right, "holes": holes, "all-ones": torch.ones(3, rows, dtype=torch.long)}
