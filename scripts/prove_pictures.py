"""Fine-tuned ViTs against linear probes, on scikit-learn's digits (real, 8 × 8 pixels), through `finetune`.

Settings are chosen on validation pictures; the test pictures are looked at once, with what was chosen.

    python scripts/prove_pictures.py FOLDER
"""

from __future__ import annotations

import json
import statistics
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from PIL import Image
from sklearn.datasets import load_digits
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import train_test_split
from transformers import ViTConfig, ViTModel

from biject import FinetuneRecipe, TrainConfig, finetune, load
from biject.config.augment import AugmentConfig
from biject.runs.evaluate import evaluate

SEEDS = (0, 1, 2)
SPLITS = ("train", "validation", "test")
SETTINGS = ((2e-3, (0.5, 1.0)), (4e-3, (0.5, 1.0)), (2e-3, (0.7, 1.0)))
STRENGTHS = (0.01, 0.1, 1.0, 10.0)
PROCESSOR = {
    "image_processor_type": "ViTImageProcessor", "size": {"height": 16, "width": 16}, "resample": 3,
    "image_mean": [0.5], "image_std": [0.5],
}  # fmt: skip


class Chosen(NamedTuple):
    """Settings, by the accuracy on validation pictures."""

    accuracy: float
    lr: float
    crop: tuple[float, float] | None


def write_pictures(folder: Path, digits: Sequence[int]) -> None:
    """60 % to train on, 20 % each for validation and test, digits in proportion."""
    data = load_digits()
    rows = np.flatnonzero(np.isin(data.target, digits))
    train, rest = train_test_split(rows, train_size=0.6, random_state=0, stratify=data.target[rows])
    validation, test = train_test_split(rest, train_size=0.5, random_state=0, stratify=data.target[rest])
    for split, chosen in zip(SPLITS, (train, validation, test), strict=True):
        for row in chosen:
            place = folder / split / f"digit {data.target[row]}"
            place.mkdir(parents=True, exist_ok=True)
            pixels = (data.images[row] * 255 / 16).round().astype(np.uint8)
            Image.fromarray(pixels).save(place / f"{row}.png")


def write_model(folder: Path, seed: int) -> Path:
    """A ViT of two layers and width 64 with random weights."""
    torch.manual_seed(seed)
    config = ViTConfig(
        hidden_size=64, num_hidden_layers=2, num_attention_heads=4, intermediate_size=128, image_size=16,
        patch_size=4, num_channels=1,
    )  # fmt: skip
    ViTModel(config, add_pooling_layer=False).save_pretrained(folder)
    (folder / "preprocessor_config.json").write_text(json.dumps(PROCESSOR))
    return folder


def trained(model: Path, data: Path, out: Path, seed: int, lr: float, crop: Any, epochs: int = 80) -> float:
    """Fine-tune; the accuracy on validation pictures of the state that is kept."""
    done = finetune(
        FinetuneRecipe(
            model=str(model), data=str(data), task="imgcls", new_head=True,
            augment=AugmentConfig(crop=crop),
            train=TrainConfig(
                epochs=epochs, batch_size=64, lr=lr, seed=seed, schedule="cosine", warmup=0.1,
                weight_decay=0.05, evaluate_every=100, metric="accuracy",
            ),
        ),
        out=out, verify=seed == SEEDS[-1],
    )  # fmt: skip
    assert done.passed
    assert done.fit.best_value is not None
    return done.fit.best_value


def accuracy(model: Path, data: Path, split: str) -> float:
    """Of a fine-tuned model."""
    recipe = FinetuneRecipe(model=str(model), data=str(data), task="imgcls", validation=0.0, data_split=split)
    return evaluate(recipe).metrics["accuracy"]


def arrays(model: Path | None, data: Path, split: str) -> tuple[Any, Any]:
    """Features and labels: pixels, or a frozen model's first row and the mean of its others."""
    files = sorted((data / split).rglob("*.png"))
    labels = np.array([path.parent.name for path in files])
    if model is None:
        return np.stack([np.array(Image.open(path)).ravel() / 255 for path in files]), labels
    from biject import AutoImageProcessor

    processor = AutoImageProcessor.from_pretrained(model)
    pixels = processor([Image.open(path) for path in files])
    with torch.no_grad():
        rows = load(model, head="base")(**pixels).last_hidden_state
    return torch.cat([rows[:, 0], rows[:, 1:].mean(1)], dim=1).numpy(), labels


def probe(model: Path | None, data: Path) -> float:
    """Test accuracy of logistic regression, its strength chosen on validation pictures."""
    (train, y), (validation, y_validation), (test, y_test) = (arrays(model, data, s) for s in SPLITS)
    mean, std = train.mean(0), train.std(0) + 1e-6
    scaled = [(x - mean) / std for x in (train, validation, test)]
    fitted = [LogisticRegression(C=c, max_iter=5000).fit(scaled[0], y) for c in STRENGTHS]
    best = max(fitted, key=lambda one: one.score(scaled[1], y_validation))
    return float(best.score(scaled[2], y_test))


def compare(name: str, models: Sequence[Path], data: Path, here: Path) -> None:
    """Choose on validation with the first seed, then train with all, and print test accuracies."""
    tried = [
        Chosen(trained(models[0], data, here / f"try-{i}", SEEDS[0], lr, crop), lr, crop)
        for i, (lr, crop) in enumerate(SETTINGS)
    ]
    chosen = max(tried, key=lambda one: one.accuracy)
    for one in tried:
        print(f"{name}: validation {one.accuracy:.4f} with lr {one.lr}, crop {one.crop}", flush=True)
    found: dict[str, list[float]] = {"fine-tuned": [], "probe of frozen features": []}
    for seed, model in zip(SEEDS, models, strict=True):
        trained(model, data, here / f"seed-{seed}", seed, chosen.lr, chosen.crop)
        found["fine-tuned"].append(accuracy(here / f"seed-{seed}" / "model", data, "test"))
        found["probe of frozen features"].append(probe(model, data))
    found["probe of pixels"] = [probe(None, data)]
    count = len(list((data / "test").rglob("*.png")))
    for arm, values in found.items():
        spread = f" ± {statistics.stdev(values):.4f}" if len(values) > 1 else ""
        listed = ", ".join(f"{value:.4f}" for value in values)
        print(
            f"{name}, {arm}: {statistics.mean(values):.4f}{spread} ({listed}) of {count} test pictures",
            flush=True,
        )


def main(folder: Path) -> None:
    """From random weights on all digits; and from a model of digits 0 to 4 on 5 to 9."""
    for name, digits in (("all", range(10)), ("low", range(5)), ("high", range(5, 10))):
        write_pictures(folder / name, digits)
    models = [write_model(folder / f"random-{seed}", seed) for seed in SEEDS]
    compare("ten digits", models, folder / "all", folder / "ten")
    for seed, model in zip(SEEDS, models, strict=True):
        trained(model, folder / "low", folder / f"low-{seed}", seed, *SETTINGS[0])
    compare("5 to 9", [folder / f"low-{seed}" / "model" for seed in SEEDS], folder / "high", folder / "five")


if __name__ == "__main__":
    if len(sys.argv) < 2:
        raise SystemExit(__doc__)
    main(Path(sys.argv[1]))
