"""Pictures: patches to rows, positions for any size, and stochastic depth.

Source: transformers 5.23, modeling_vit.py (ViTEmbeddings), modeling_deit.py (DeiTEmbeddings),
modeling_dinov2.py (Dinov2Embeddings, Dinov2DropPath), modeling_dinov2_with_registers.py.
"""

from __future__ import annotations

from dataclasses import replace

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from biject.config.model import ModelConfig, PatchConfig
from biject.errors import InputError
from biject.nn.batch import Batch
from biject.nn.layout import Layout, Padded
from biject.nn.modules import PatchConv


class PatchEmbeddings(nn.Module):
    """Learned rows, then a row a patch, plus positions.

    Shape: pictures (B, C, H, W) → (T, D), each picture's patches line by line.
    """

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        found, width = config.embedding.patches, config.embedding.size
        assert found is not None
        self.config: PatchConfig = found
        self.patches = PatchConv(found.num_channels, width, found.patch_size)
        self.positions = _empty(found.num_positions, width)
        for name in found.tokens:
            self.register_parameter(f"{name}_token", _empty(1, width))
        self.register_tokens = _empty(found.registers, width) if found.registers else None

    @property
    def main_weight(self) -> Tensor:
        """The one that tells the model's device and dtype."""
        return self.patches.weight

    def with_pictures(self, batch: Batch, pixel_values: Tensor | None, *, interpolate: bool) -> Batch:
        """The batch with pictures, in the model's dtype, and the rows that each becomes.

        Raises:
            InputError: there are no pictures, other inputs beside them, or pictures that do not fit.
        """
        texts = ("input_ids", "inputs_embeds", "token_type_ids", "position_ids")
        if pixel_values is None or any(getattr(batch, name) is not None for name in texts):
            raise InputError("This model reads `pixel_values` (batch, channels, height, width), no texts.")
        config, channels = self.config, self.config.num_channels
        if pixel_values.dim() != 4 or pixel_values.shape[1] != channels:
            raise InputError(
                f"`pixel_values` must be (batch, {channels} channels, height, width); found "
                f"{tuple(pixel_values.shape)}."
            )
        size = (int(pixel_values.shape[2]), int(pixel_values.shape[3]))
        interpolate = interpolate or config.other_sizes == "always"
        if size != config.image_size and not interpolate:
            raise InputError(
                f"`pixel_values` must be {_by(config.image_size)}, the model's size; found {_by(size)}. "
                "Give interpolate_pos_encoding=True to have positions interpolated."
            )
        lines, columns = size[0] // config.patch_size[0], size[1] // config.patch_size[1]
        if not lines * columns:
            raise InputError(f"`pixel_values` of {size[0]} × {size[1]} hold no patch of {config.patch_size}.")
        return replace(
            batch,
            pixel_values=pixel_values.to(self.main_weight.dtype),
            num_rows=config.before_patches + lines * columns,
            interpolate=interpolate,
        )

    def forward(self, layout: Layout, batch: Batch) -> Tensor:
        pictures = batch.pixel_values
        assert pictures is not None
        x_BPD = self.patches(pictures).flatten(2).transpose(1, 2)
        tokens = [getattr(self, f"{name}_token").expand(len(x_BPD), -1, -1) for name in self.config.tokens]
        x_BLD = torch.cat((*tokens, x_BPD), dim=1)
        x_BLD = x_BLD + self._positions(pictures, x_BPD.shape[1], interpolate=batch.interpolate)
        if self.register_tokens is not None:
            registers = self.register_tokens.expand(len(x_BLD), -1, -1)
            x_BLD = torch.cat((x_BLD[:, :1], registers, x_BLD[:, 1:]), dim=1)
        return layout.rows(x_BLD)

    def _positions(self, pictures: Tensor, num_patches: int, *, interpolate: bool) -> Tensor:
        """The table, or one interpolated for the pictures' size, (1, L, D).

        As HF decides: interpolated as soon as a picture is not square, be it of the model's size.
        """
        height, width = pictures.shape[-2:]
        config, own = self.config, len(self.config.tokens)
        table = self.positions
        if not interpolate or (num_patches == table.shape[1] - own and height == width):
            return table
        side = int((table.shape[1] - own) ** 0.5)
        if side * side != table.shape[1] - own:
            raise InputError(
                f"Positions of a grid of {_by(config.grid)} patches are not interpolated, only those of a "
                f"square one; give pictures of {_by(config.image_size)}."
            )
        patch_1DHW = table[:, own:].reshape(1, side, side, -1).permute(0, 3, 1, 2)
        size = (height // config.patch_size[0], width // config.patch_size[1])
        patch_1DHW = F.interpolate(
            patch_1DHW.to(torch.float32) if config.float32 else patch_1DHW,
            size=size,
            mode="bicubic",
            align_corners=False,
            antialias=config.antialias,
        ).to(table.dtype)
        patch_1PD = patch_1DHW.permute(0, 2, 3, 1).reshape(1, -1, table.shape[-1])
        return torch.cat((table[:, :own], patch_1PD), dim=1)


def drop_path(x_TD: Tensor, layout: Layout, *, rate: float) -> Tensor:
    """Stochastic depth (Huang et al. 2016, arXiv:1603.09382): some samples' rows 0, the others' scaled up.

    Draws one number a sample, as HF does.
    """
    random_B11 = torch.rand((layout.batch, 1, 1), dtype=x_TD.dtype, device=x_TD.device)
    kept_B11 = torch.floor(random_B11 + (1 - rate))
    x_TD = x_TD.div(1 - rate)
    if isinstance(layout, Padded):
        return layout.rows(layout.grid(x_TD) * kept_B11)
    return x_TD * kept_B11.view(-1, 1).index_select(0, layout.grid_index_T // layout.length)


def _by(size: tuple[int, int]) -> str:
    return f"{size[0]} × {size[1]}"


def _empty(rows: int, width: int) -> nn.Parameter:
    return nn.Parameter(torch.empty((1, rows, width), device="meta"))
