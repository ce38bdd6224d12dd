"""How far our image processor (transformers' Pillow one, to the bit) is from its fast one.

torchvision is none of the project's packages; put it beside them for this measurement alone:

    pip install --no-deps --target FOLDER torchvision==0.28.0
    PYTHONPATH=FOLDER python scripts/measure_fast_processor.py
"""

from __future__ import annotations

import sys
from typing import Any

import numpy as np
import torch
from PIL import Image

from biject.pictures.processor import ImageProcessor
from biject.pictures.settings import preprocessing

SIZES = ((480, 640), (224, 224), (100, 80), (1500, 1000), (32, 32))
STANDARD = {"image_mean": [0.485, 0.456, 0.406], "image_std": [0.229, 0.224, 0.225]}
SETTINGS: dict[str, dict[str, Any]] = {
    "ViT (bilinear, 224)": {"image_processor_type": "ViTImageProcessor", "resample": 2},
    "ViT (bicubic, 224)": {"image_processor_type": "ViTImageProcessor", "resample": 3},
    "DeiT (bicubic, 256, crop 224)": {"image_processor_type": "DeiTImageProcessor", **STANDARD},
    "DINOv2 (bicubic, short edge 256, crop 224)": {
        "image_processor_type": "BitImageProcessor", "size": {"shortest_edge": 256}, **STANDARD,
    },
}  # fmt: skip


def fast(values: dict[str, Any]) -> Any:
    """Transformers' processor with torchvision."""
    from transformers import BitImageProcessor, DeiTImageProcessor, ViTImageProcessor

    kinds = {"V": ViTImageProcessor, "D": DeiTImageProcessor, "B": BitImageProcessor}
    rest = {name: value for name, value in values.items() if name != "image_processor_type"}
    made = kinds[values["image_processor_type"][0]](**rest)
    bases = {base.__name__ for base in type(made).__mro__}
    assert "TorchvisionBackend" in bases, f"{type(made).__name__} does not use torchvision: {sorted(bases)}"
    return made


def pictures() -> list[Image.Image]:
    """Noise, which is the worst there is, and a smooth picture, in several sizes."""
    draw = np.random.default_rng(0)
    found = []
    for height, width in SIZES:
        noise = draw.integers(0, 256, (height, width, 3)).astype(np.uint8)
        lines, columns = np.mgrid[0:height, 0:width]
        waves = 127 + 60 * np.sin(lines / 9) + 60 * np.cos(columns / 13)
        smooth = np.stack([waves, waves[::-1], waves[:, ::-1]], axis=-1).clip(0, 255).astype(np.uint8)
        found += [Image.fromarray(noise), Image.fromarray(smooth)]
    return found


def photographs() -> list[Image.Image]:
    """Two that scikit-learn brings."""
    from sklearn.datasets import load_sample_images

    return [Image.fromarray(image) for image in load_sample_images().images]


def main() -> int:
    """Print the distances in steps of 1/255, before means are taken off."""
    # torchvision's compiled part is for GPUs' torch and does not load beside the CPU's: resizing needs none
    library = torch.library.Library("torchvision", "DEF")
    for name in ("nms", "qnms"):
        library.define(f"{name}(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
    import torchvision
    import transformers

    print(f"torch {torch.__version__}, torchvision {torchvision.__version__}, "
          f"transformers {transformers.__version__}")  # fmt: skip
    for what, images in (("made pictures", pictures()), ("photographs", photographs())):
        for name, values in SETTINGS.items():
            ours, theirs = ImageProcessor(preprocessing(values)), fast(values)
            worst, moved, count = 0.0, 0, 0
            std = torch.tensor(ours.steps.std).view(3, 1, 1)
            for image in images:
                a = ours(image).pixel_values[0].double()
                b = theirs(image, return_tensors="pt")["pixel_values"][0].double()
                steps = ((a - b) * std).abs() * 255
                worst = max(worst, float(steps.max()))
                moved += int((steps > 0.5).sum())
                count += steps.numel()
            share = 100 * moved / count
            print(f"{name}, {what}: at most {worst:.3f} steps of 1/255; {share:.2f} % of the values differ")
    return 0


if __name__ == "__main__":
    sys.exit(main())
