"""`finetune`, `evaluate` and `predict` with pictures, from folders to the report; and hostile names."""

from __future__ import annotations

import base64
import io
import json
import os
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image

from biject.config.augment import AugmentConfig
from biject.config.recipe import FinetuneRecipe, TrainConfig
from biject.runs.prepare import prepare
from biject.verify.reference import make_reference

Run = Callable[..., Any]
AUGMENTED = ("--set", "augment.crop=[0.4, 1.0]", "--set", "augment.flip=0.5")
pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.fixture(scope="module")
def vit(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_reference("vit", "base", tmp_path_factory.mktemp("vit") / "model")


@pytest.fixture
def pictures(tmp_path: Path, write_data: Any) -> Path:
    found: Path = write_data(tmp_path, "imgcls", count=24)
    return found


def command(vit: Path, data: Path, out: Path, *more: object) -> list[object]:
    return ["finetune", "--model", vit, "--data", data, "--task", "imgcls", "--out", out,
            "--batch-size", 4, "--epochs", 3, "--lr", 5e-3, *more]  # fmt: skip


def test_from_a_folder_to_a_verified_model(run: Run, vit: Path, pictures: Path, tmp_path: Path) -> None:
    done = run(*command(vit, pictures, tmp_path / "run", *AUGMENTED))
    assert done.code == 0, done.err
    assert "DATA train: 24 pictures of 30 × 24 pixels" in done.out
    assert "VERDICT PASS" in done.out
    assert "pictures/s" in done.out
    model = tmp_path / "run" / "model"
    assert json.loads((model / "config.json").read_text())["id2label"] == {"0": "bright", "1": "dark"}
    assert (model / "preprocessor_config.json").read_bytes() == (
        vit / "preprocessor_config.json"
    ).read_bytes()
    toml = (tmp_path / "run" / "run.toml").read_text()
    assert "[augment]\ncrop = [0.4, 1.0]" in toml
    assert "flip = 0.5" in toml

    found = run("evaluate", tmp_path / "run", "--data", pictures, "--json")
    assert json.loads(found.out)["metrics"]["accuracy"] == 1.0

    picture = next((pictures / "dark").iterdir())
    predicted = run("predict", tmp_path / "run", picture, pictures / "bright", "--json")
    results = json.loads(predicted.out)["results"]
    assert [one["result"][0]["label"] for one in results] == ["dark", *["bright"] * 12]
    assert results[0]["picture"] == str(picture)

    from transformers import AutoImageProcessor
    from transformers import pipeline as theirs

    made = theirs(
        "image-classification", model=str(model), image_processor=AutoImageProcessor.from_pretrained(
            model, backend="pil"
        ),
    )  # fmt: skip
    want = {one["label"]: one["score"] for one in made(str(picture))}
    ours = {one["label"]: one["score"] for one in results[0]["result"]}
    assert ours == pytest.approx(want, abs=1e-6)  # 13 pictures in a batch here, one there: 2 ULP apart


def test_a_validation_folder_beside_is_used(run: Run, vit: Path, write_data: Any, tmp_path: Path) -> None:
    for split, count in (("train", 16), ("val", 6)):
        write_data(tmp_path / "data", "imgcls", count=count).rename(tmp_path / "data" / split)
    done = run(*command(vit, tmp_path / "data", tmp_path / "run", "--no-verify"))
    assert done.code == 0, done.err
    assert "DATA train: 16 pictures" in done.out
    assert "DATA evaluation: 6 pictures" in done.out
    assert "6 of these pictures are among those to train on" in done.out  # made alike


def recipe(vit: Path, data: Path, **more: Any) -> FinetuneRecipe:
    return FinetuneRecipe(
        model=str(vit), data=str(data), task="imgcls", train=TrainConfig(batch_size=4, max_steps=6),
        augment=AugmentConfig(crop=(0.2, 1.0), flip=0.5), **more,
    )  # fmt: skip


def test_augmentation_is_by_seed_and_epoch_and_off_in_evaluation(vit: Path, pictures: Path) -> None:
    prepared = prepare(recipe(vit, pictures))
    train, held_out = prepared.samples.train, prepared.samples.evaluation
    assert held_out is not None

    def pixels(samples: Any, epoch: int) -> torch.Tensor:
        if hasattr(samples, "set_epoch"):
            samples.set_epoch(epoch)
        return prepared.collate([samples[i] for i in range(2)])["pixel_values"]

    first, second = pixels(train, 0), pixels(train, 1)
    assert not torch.equal(first, second)
    assert torch.equal(first, pixels(train, 0))
    assert torch.equal(pixels(held_out, 0), pixels(held_out, 1))
    again = prepare(recipe(vit, pictures))
    again.samples.train.set_epoch(1)  # type: ignore[attr-defined]
    assert torch.equal(again.collate([again.samples.train[i] for i in range(2)])["pixel_values"], second)


def test_a_resumed_run_sees_the_same_pictures(
    run: Run, vit: Path, pictures: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from biject.config.recipe_file import dump_recipe

    path = tmp_path / "recipe.toml"
    path.write_text(dump_recipe(recipe(vit, pictures)))
    assert run("verify-resume", path, "--steps", 6).code == 0
    from biject.pictures import augment

    calls = iter(range(10**6))
    planted = augment.Draw.rng
    monkeypatch.setattr(augment.Draw, "rng", lambda self: planted(self._replace(sample=next(calls))))
    failed = run("verify-resume", path, "--steps", 6)  # pictures that depend on how many were drawn before
    assert failed.code == 1, failed.out


def test_changed_pictures_are_not_resumed_with(run: Run, vit: Path, pictures: Path, tmp_path: Path) -> None:
    out = tmp_path / "run"
    assert run(*command(vit, pictures, out, "--checkpoint-every", 2, "--no-verify")).code == 0
    Image.new("RGB", (30, 24)).save(next((pictures / "bright").iterdir()))
    done = run("finetune", "--out", out, "--resume", "--max-steps", 99)
    assert done.code == 2
    assert "changed since" in done.err


@pytest.mark.parametrize("method", ["lora", "qlora"])
def test_adapters(run: Run, vit: Path, pictures: Path, tmp_path: Path, method: str) -> None:
    if method == "qlora":
        pytest.importorskip("bitsandbytes")
    merge = ("--merge",) if method == "lora" else ()
    done = run(*command(vit, pictures, tmp_path / "run", "--method", method, *merge))
    assert done.code == 0, done.err
    assert "FAIL" not in done.out
    assert ("(pass: merge)" in done.out) == (method == "lora")
    picture = next((pictures / "dark").iterdir())
    found = run("predict", tmp_path / "run" / "adapter", picture, "--top-k", 1, "--json")
    assert found.code == 0, found.err


HOSTILE = '"><img src=x onerror=alert(1)>'


def test_the_page_escapes_names_and_carries_small_pictures(
    run: Run, vit: Path, pictures: Path, tmp_path: Path
) -> None:
    (pictures / "dark").rename(pictures / HOSTILE)
    one = next((pictures / HOSTILE).iterdir())
    one.rename(one.with_name("<script>alert(2)<script>.png"))
    Image.new("RGB", (4000, 3000), (9, 9, 9)).save(pictures / HOSTILE / "large.png")
    done = run(*command(vit, pictures, tmp_path / "run", "--no-verify", "--set", "validation=0.5"))
    assert done.code == 0, done.err
    page = (tmp_path / "run" / "report.html").read_text()
    assert "<img src=x" not in page
    assert "<script>alert" not in page
    assert 'alt="' in page
    tags = re.findall(r'<img class="thumb" src="data:image/(?:png|jpeg);base64,([^"]+)" alt="([^"]+)">', page)
    assert len(tags) == page.count("<img") == 12
    for content, alt in tags:
        assert "predicted" in alt
        assert max(Image.open(io.BytesIO(base64.b64decode(content))).size) <= 96
    assert len(page) < 150_000


@pytest.mark.parametrize(
    "picture",
    ["https://example.org/x.png", "data:image/svg+xml;base64,AAAA", 'data:image/png;base64,A" x="', 7],
)
def test_a_page_shows_no_other_addresses(picture: object) -> None:
    from biject.pages.findings import findings

    one = {"text": "a", "label": "b", "prediction": "c", "picture": picture}
    (shown,) = findings({"task": "imgcls", "examples": [one]}).texts
    assert shown["picture"] == ""


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--text-column", "x"), "text_column has no meaning for the task imgcls"),
        (("--max-length", 12), "max_length has no meaning for the task imgcls"),
        (("--set", "augment.flip=2"), "`augment.flip` should be between 0 and 1"),
        (("--set", "augment.crop=[0.9, 0.1]"), "`augment.crop` should be two shares"),
    ],
)
def test_settings_that_mean_nothing(
    run: Run, vit: Path, pictures: Path, tmp_path: Path, arguments: tuple[object, ...], message: str
) -> None:
    done = run(*command(vit, pictures, tmp_path / "run", *arguments))
    assert done.code == 2
    assert message in done.err
    assert not (tmp_path / "run").exists()


def test_texts_and_pictures_are_not_mixed_up(
    run: Run, vit: Path, base: Path, pictures: Path, tmp_path: Path, write_data: Any
) -> None:
    done = run(*command(base, pictures, tmp_path / "run"))
    assert done.code == 2
    assert "`bert` has no such head" in done.err
    other = run("finetune", "--model", vit, "--data", write_data(tmp_path / "t", "seqcls"), "--task",
                "seqcls", "--out", tmp_path / "run")  # fmt: skip
    assert other.code == 2
    assert "`vit` has no such head; it has imgcls" in other.err
    text = run("predict", vit, "a text")
    assert text.code == 2
    assert "there is no such file or folder; this model reads pictures" in text.err


def test_a_model_without_its_preprocessor(run: Run, pictures: Path, tmp_path: Path) -> None:
    model = make_reference("vit", "base", tmp_path / "model")
    (model / "preprocessor_config.json").unlink()
    done = run(*command(model, pictures, tmp_path / "run"))
    assert done.code == 2
    assert "there is no preprocessor_config.json" in done.err


def test_sizes_that_do_not_fit_are_refused_before_training(run: Run, pictures: Path, tmp_path: Path) -> None:
    model = make_reference("vit", "base", tmp_path / "model")
    path = model / "preprocessor_config.json"
    settings = json.loads(path.read_text())
    settings["size"]["height"] = 24
    path.write_text(json.dumps(settings))
    done = run(*command(model, pictures, tmp_path / "run"))
    assert done.code == 2
    assert "makes pictures of (24, 20) pixels" in done.err


def test_predictions_beside_a_table(run: Run, vit: Path, pictures: Path, tmp_path: Path) -> None:
    assert run(*command(vit, pictures, tmp_path / "run", "--no-verify")).code == 0
    names = sorted(path.relative_to(pictures).as_posix() for path in pictures.rglob("*.png"))[:3]
    table = pictures / "list.csv"
    table.write_text("\n".join(["id,image", *(f"{i},{name}" for i, name in enumerate(names)), ""]))
    done = run("predict", tmp_path / "run", "--file", table, "--out", tmp_path / "out.csv")
    assert done.code == 0, done.err
    lines = (tmp_path / "out.csv").read_text().splitlines()
    assert lines[0] == "id,image,predicted_label,predicted_score"
    assert lines[1].startswith(f"0,{names[0]},bright,")


def test_names_that_are_no_unicode(run: Run, vit: Path, pictures: Path, tmp_path: Path) -> None:
    for picture in list((pictures / "dark").iterdir()):
        picture.rename(picture.with_name(os.fsdecode(b"caf\xe9\x1b[31m") + picture.name))
    done = run(*command(vit, pictures, tmp_path / "run", "--no-verify", "--set", "validation=0.5"))
    assert done.code == 0, done.err
    assert "no examples" not in done.err
    assert "caf\\udce9" in (tmp_path / "run" / "insights.json").read_text().replace("\\\\", "\\")
    for more in (("--json",), ()):
        found = run("predict", tmp_path / "run", pictures, *more)
        assert found.code == 0, found.err
        assert "\x1b[31m" not in found.out
    assert run(*command(vit, pictures, tmp_path / "run", "--preview", 3)).code == 0
    (pictures / "dark").rename(os.fsdecode(os.fsencode(pictures) + b"/d\xe4rk"))
    refused = run(*command(vit, pictures, tmp_path / "other"))
    assert refused.code == 2
    assert "its name is no UTF-8" in refused.err
