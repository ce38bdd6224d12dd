"""A checkpoint is resumed only if it is what was written, and only with what the run was made from."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

import biject
from biject.checkpoint.run_files import JSON_FILE, MANIFEST, TENSOR_FILE
from biject.errors import BijectError, BijectWarning, CheckpointError
from biject.train.depends import data_digest
from biject.train.trainer import Trainer
from biject.verify.reference import make_reference

pytestmark = pytest.mark.attack("checkpoints of a run, damaged")
ROWS = [{"input_ids": torch.tensor([5, 6, 7 + i]), "labels": torch.tensor(i % 2)} for i in range(8)]
WEIGHTS = "model.safetensors"


def fit(source: Path, out: Path, **options: Any) -> Any:
    model = biject.AutoModelForSequenceClassification.from_pretrained(source)
    given = {"eval_dataset": ROWS[:4], "resume": False, "max_steps": 4} | options
    data = given.pop("data", ROWS)
    Trainer(model, batch_size=4, checkpoint_every=2, keep=5, load_best=False).fit(data, out=out, **given)
    return model


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("depends")
    make_reference("bert", "seqcls", root / "source")
    fit(root / "source", root / "run")
    return root


@pytest.fixture
def place(made: Path, tmp_path: Path) -> Path:
    """A source, and its run that was stopped after step 2."""
    shutil.copytree(made, tmp_path / "all")
    shutil.rmtree(tmp_path / "all" / "run" / "checkpoints" / "step-000004")
    return tmp_path / "all"


def checkpoint(place: Path) -> Path:
    return place / "run" / "checkpoints" / "step-000002"


def flip(path: Path, at: float = 0.9) -> None:
    """Turn one bit."""
    data = bytearray(path.read_bytes())
    data[int(len(data) * at)] ^= 4
    path.write_bytes(data)


def edit(path: Path, **values: Any) -> None:
    path.write_text(json.dumps({**json.loads(path.read_text()), **values}))


def test_an_untouched_run_goes_on_to_the_bit(made: Path, place: Path) -> None:
    resumed = fit(place / "source", place / "run", resume=True)
    for whole, again in zip(
        fit(made / "source", place / "other").parameters(), resumed.parameters(), strict=True
    ):
        assert torch.equal(whole, again)
    last = [folder / "checkpoints" / "step-000004" / WEIGHTS for folder in (made / "run", place / "run")]
    assert last[0].read_bytes() == last[1].read_bytes()


def moments_of_another_step(place: Path) -> None:
    later = place / "later"
    fit(place / "source", later)
    shutil.copy(later / "checkpoints" / "step-000004" / TENSOR_FILE, checkpoint(place) / TENSOR_FILE)


def weights_of_another_step(place: Path) -> None:
    later = place / "later"
    fit(place / "source", later)
    shutil.copy(later / "checkpoints" / "step-000004" / WEIGHTS, checkpoint(place) / WEIGHTS)


CHANGES: dict[str, Callable[[Path], object]] = {
    "weights": lambda place: flip(checkpoint(place) / WEIGHTS),
    "first weight": lambda place: flip(checkpoint(place) / WEIGHTS, 0.5),
    "moments": lambda place: flip(checkpoint(place) / TENSOR_FILE),
    "moments' middle": lambda place: flip(checkpoint(place) / TENSOR_FILE, 0.6),
    "state": lambda place: edit(checkpoint(place) / JSON_FILE, config={}),
    "config": lambda place: edit(checkpoint(place) / "config.json", layer_norm_eps=1e-3),
    "tokenizer": lambda place: edit(checkpoint(place) / "tokenizer_config.json", do_lower_case=False),
    "moments of another step": moments_of_another_step,
    "weights of another step": weights_of_another_step,
    "no manifest": lambda place: (checkpoint(place) / MANIFEST).unlink(),
    "manifest cut": lambda place: (checkpoint(place) / MANIFEST).write_text('{"version": 1'),
    "manifest of another version": lambda place: edit(checkpoint(place) / MANIFEST, version=9),
    "manifest without files": lambda place: edit(checkpoint(place) / MANIFEST, files=[]),
    "manifest that leaves the folder": lambda place: edit(checkpoint(place) / MANIFEST, files={"../x": "0"}),
    "a file gone": lambda place: (checkpoint(place) / "tokenizer.json").unlink(),
    "a file more": lambda place: (checkpoint(place) / "model.safetensors.index.json").write_text("{}"),
    "source's config": lambda place: edit(place / "source" / "config.json", layer_norm_eps=1e-3),
    "source's weights": lambda place: flip(place / "source" / WEIGHTS),
    "source's tokenizer": lambda place: edit(place / "source" / "tokenizer.json", truncation=None, x=1),
}


@pytest.mark.parametrize("name", CHANGES)
def test_what_changed_is_named(place: Path, name: str) -> None:
    CHANGES[name](place)
    before = checkpoint(place).stat()
    with pytest.raises(BijectError) as caught:
        fit(place / "source", place / "run", resume=True)
    assert "\n" not in str(caught.value)
    assert str(place) in str(caught.value)
    assert checkpoint(place).stat().st_mtime_ns == before.st_mtime_ns
    assert not (checkpoint(place).parent / "step-000004").exists()


OTHER = [{**ROWS[0], "labels": torch.tensor(1)}, *ROWS[1:]]


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"data": OTHER}, "training data changed"),
        ({"data": [*ROWS[1:], ROWS[0]]}, "training data changed"),
        ({"eval_dataset": OTHER[:4]}, "evaluation data changed"),
        ({"eval_dataset": ROWS[:5]}, "evaluation data changed"),
    ],
)
def test_other_data_are_refused(place: Path, options: dict[str, Any], says: str) -> None:
    with pytest.raises(CheckpointError, match=says):
        fit(place / "source", place / "run", resume=True, **options)


def test_a_moved_source_and_the_checkpoint_as_source_are_fine(place: Path) -> None:
    moved = shutil.copytree(place / "source", place / "elsewhere")
    shutil.copytree(place / "run", place / "second")
    fit(moved, place / "run", resume=True)
    again = place / "second" / "checkpoints" / "step-000002"
    fit(again, place / "second", resume=True)


def test_an_older_checkpoint_is_taken_with_a_word(place: Path) -> None:
    (checkpoint(place) / MANIFEST).unlink()
    state = json.loads((checkpoint(place) / JSON_FILE).read_text())
    del state["sealed"]
    (checkpoint(place) / JSON_FILE).write_text(json.dumps(state))
    with pytest.warns(BijectWarning, match="without digests"):
        fit(place / "source", place / "run", resume=True)


def test_a_damaged_best_state_is_not_taken(place: Path) -> None:
    """The checkpoint of the best evaluation is read again at the end."""
    from biject.train.best import BestState

    model = biject.AutoModelForSequenceClassification.from_pretrained(place / "source")
    before = [parameter.clone() for parameter in model.parameters()]
    flip(checkpoint(place) / WEIGHTS)
    with pytest.raises(CheckpointError, match="not what the run wrote"):
        BestState(model, [checkpoint(place).parent]).load(2)
    assert all(torch.equal(a, b) for a, b in zip(before, model.parameters(), strict=True))


def test_digests_of_data() -> None:
    """Equal for equal samples; every difference shows; None where samples are made on the way."""
    assert data_digest(ROWS) == data_digest([dict(row) for row in ROWS])
    values = [
        ["a", "b"],
        ["ab"],
        [["a"], "b"],
        [1],
        [1.0],
        ["1"],
        [True],
        [None],
        [{"a": 1}],
        [("a", 1)],
        [b"1"],
    ]
    values += [[torch.tensor([1])], [torch.tensor([1.0])], [torch.tensor([[1]])], [torch.tensor([1, 0])]]
    found = [data_digest(value) for value in values]
    assert None not in found
    assert len(set(found)) == len(found)
    assert data_digest([object()]) is None
    assert data_digest(iter(ROWS)) is None


def test_other_modules_have_digests_too(tmp_path: Path) -> None:
    data = [(torch.ones(2), torch.zeros(())) for _ in range(8)]

    def step(model: nn.Module, batch: Any) -> torch.Tensor:
        return (model(batch[0]).squeeze(-1) - batch[1]).square().mean()

    Trainer(nn.Linear(2, 1), step=step, checkpoint_every=2).fit(data, batch_size=4, max_steps=4, out=tmp_path)
    shutil.rmtree(tmp_path / "checkpoints" / "step-000004", ignore_errors=True)
    flip(tmp_path / "checkpoints" / "step-000002" / WEIGHTS, 0.99)
    with pytest.raises(CheckpointError, match="not what the run wrote"):
        Trainer(nn.Linear(2, 1), step=step, checkpoint_every=2).fit(
            data, batch_size=4, max_steps=4, out=tmp_path, resume=True
        )
