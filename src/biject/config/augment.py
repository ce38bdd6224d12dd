"""`AugmentConfig`: how pictures are changed at random while a model is trained on them. No torch."""

from __future__ import annotations

from dataclasses import dataclass

from biject.config.settings import refuse


@dataclass(frozen=True, kw_only=True)
class AugmentConfig:
    """Random changes of the pictures that are trained on; evaluations see none of them.

    Attributes:
        crop: Smallest and largest share of a picture's area that is cut out at random and resized, as
            torchvision's `RandomResizedCrop(scale=…)` does; left out, pictures stay whole.
        ratio: Smallest and largest width over height of what is cut out.
        flip: Share of the pictures that are mirrored left to right; 0.5 is usual.
    """

    crop: tuple[float, float] | None = None
    ratio: tuple[float, float] = (0.75, 4 / 3)
    flip: float = 0.0

    def __post_init__(self) -> None:
        """Raise `ConfigError` for values that cannot be drawn from, all in one message."""
        faults = []
        if self.crop is not None and not 0 < self.crop[0] <= self.crop[1] <= 1:
            faults.append(f"`augment.crop` should be two shares, 0 < a ≤ b ≤ 1, found {list(self.crop)}")
        if not 0.01 <= self.ratio[0] <= self.ratio[1] <= 100:
            faults.append(f"`augment.ratio` should be 0.01 ≤ a ≤ b ≤ 100, found {list(self.ratio)}")
        if not 0 <= self.flip <= 1:
            faults.append(f"`augment.flip` should be between 0 and 1, found {self.flip}")
        refuse(faults)

    @property
    def changes(self) -> bool:
        """Whether any picture is changed."""
        return self.crop is not None or self.flip > 0


PLAIN = AugmentConfig()
"""Pictures stay as they are."""
