"""A classifier of scikit-learn's digits from files: python examples/pictures.py CHECKPOINT FOLDER"""

from __future__ import annotations

import sys
from pathlib import Path

from PIL import Image
from sklearn.datasets import load_digits

import biject
from biject.config.augment import AugmentConfig
from biject.runs.evaluate import evaluate


def write_pictures(folder: Path) -> None:
    """A folder for each digit, in folders to train on, to choose by, and to test on."""
    data = load_digits()
    for row, (pixels, digit) in enumerate(zip(data.images, data.target, strict=True)):
        split = ("train", "train", "train", "validation", "test")[row % 5]
        path = folder / split / str(digit) / f"{row}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray((pixels * 255 / 16).astype("uint8")).save(path)


def main(checkpoint: str, folder: Path) -> None:
    """Fine-tune on `train`, keep the state that is best on `validation`, and look at `test` once."""
    write_pictures(folder / "digits")
    train = biject.TrainConfig(epochs=20, batch_size=64, lr=2e-3, metric="accuracy", weight_decay=0.05)
    task = {"data": str(folder / "digits"), "task": "imgcls"}
    recipe = biject.FinetuneRecipe(
        model=checkpoint, **task, train=train, augment=AugmentConfig(crop=(0.7, 1.0))
    )
    biject.finetune(recipe, out=folder / "run")
    tested = biject.FinetuneRecipe(model=str(folder / "run/model"), **task, validation=0.0, data_split="test")
    print(f"accuracy {evaluate(tested).metrics['accuracy']:.3f}")


if __name__ == "__main__":
    sys.exit(__doc__) if len(sys.argv) < 3 else main(sys.argv[1], Path(sys.argv[2]))
