"""What one process and two do alike: each case trains something and says what came of it, as plain data."""

from __future__ import annotations

import random
import time
from collections.abc import Callable
from hashlib import sha256
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from biject.checkpoint.bytes import tensor_bytes
from biject.config.sync import SyncConfig
from biject.errors import BijectError
from biject.pretrained import load
from biject.tasks.metrics import metrics_for
from biject.train import checkpoints, ranks
from biject.train.trainer import Trainer

Result = dict[str, Any]
GLOBAL_BATCH = 8


def share() -> int:
    """A rank's part of the global batch."""
    return GLOBAL_BATCH // ranks.count()


def digest(model: nn.Module) -> str:
    whole = sha256()
    for name, tensor in sorted(model.state_dict().items()):
        whole.update(name.encode() + bytes(tensor_bytes(tensor.detach())))
    return whole.hexdigest()


def weights(model: nn.Module) -> list[float]:
    return torch.cat([p.detach().reshape(-1) for p in model.parameters()]).tolist()


class Tokens:
    """Texts of 3 to 12 tokens with labels, of which a third is -100 and some texts have none."""

    def __init__(self, count: int) -> None:
        draw = torch.Generator().manual_seed(1)
        self.lengths = [3 + int(n) for n in torch.randint(0, 10, (count,), generator=draw)]
        self.items = []
        for index, length in enumerate(self.lengths):
            ids = torch.randint(5, 90, (length,), generator=draw)
            ignored = torch.rand(length, generator=draw) < (1.0 if index % 7 == 0 else 0.33)
            self.items.append({"index": index, "ids": ids, "labels": (ids % 2).masked_fill(ignored, -100)})

    def __len__(self) -> int:
        return len(self.items)

    def __getitem__(self, index: int) -> dict[str, Any]:
        return self.items[index]


class Collate:
    """Pads; remembers which samples it saw."""

    def __init__(self) -> None:
        self.seen: list[int] = []

    def __call__(self, samples: list[dict[str, Any]]) -> dict[str, Tensor]:
        self.seen += [sample["index"] for sample in samples]
        pad = nn.utils.rnn.pad_sequence
        ids = pad([sample["ids"] for sample in samples], batch_first=True)
        labels = pad([sample["labels"] for sample in samples], batch_first=True, padding_value=-100)
        return {"input_ids": ids, "attention_mask": (ids != 0).long(), "labels": labels}


def curve(folder: Path, out: Path, shares: Any = "measured", steps: int = 104) -> Result:
    """Over 201 samples: the 26th step of an epoch has 1, so that the second rank has none."""
    model, collate = load(folder), Collate()
    shares = shares if ranks.count() > 1 else "measured"
    trainer = Trainer(model, collate=collate, lr=1e-3, sync=SyncConfig(shares=shares))
    session = trainer.setup(Tokens(201), batch_size=share(), max_steps=steps)
    losses, epochs, overlapped = [], [], 0
    for window in session.windows():
        if session.state.step_in_epoch == 0:
            epochs.append(len(collate.seen) - sum(len(b["labels"]) for b in window))
        losses.append(session.step(window).loss)
        if session.epoch_ended:
            epochs[-1] = collate.seen[epochs[-1] :]
        if session.engine.sums is not None:
            overlapped += session.engine.sums.overlapped
    return {
        "losses": losses,
        "epochs": [epoch for epoch in epochs if isinstance(epoch, list)],
        "weights": weights(model),
        "digest": digest(model),
        "overlapped": overlapped,
    }


def followed(folder: Path, out: Path) -> Result:
    """The second rank takes a third of the first one's time a sample, and from step 12 three times it."""
    done = 0

    def slow(model: nn.Module, batch: Any) -> Tensor:
        pace = 3e-3 if ranks.rank() == 0 else 1e-3 if done < 12 else 9e-3
        time.sleep(pace * len(batch[1]))
        return mean_step(model, batch)

    trainer = Trainer(MLP(), step=slow, lr=1e-2)
    session = trainer.setup(numbers(640), batch_size=32 // ranks.count(), max_steps=20)
    shares, losses = [], []
    for window in session.windows():
        result = session.step(window)
        done += 1
        losses.append(result.loss)
        shares.append([rank.tokens for rank in result.by_rank])
    return {"shares": shares, "losses": losses, "digest": digest(trainer.model)}


def token_budget(folder: Path, out: Path) -> Result:
    model, collate = load(folder), Collate()
    trainer = Trainer(model, collate=collate, lr=1e-3, max_tokens=40, accumulate=2 // ranks.count())
    return {"losses": trainer.fit(Tokens(90), epochs=1).losses, "seen": collate.seen, "digest": digest(model)}


def rounds(folder: Path, out: Path, mode: str, **settings: Any) -> Result:
    """Three epochs of ranks that step by themselves."""
    model, collate = load(folder), Collate()
    sync = SyncConfig(mode=mode, anchor=2, max_anchor=4, **settings) if ranks.count() > 1 else SyncConfig()
    trainer = Trainer(model, collate=collate, lr=1e-3, sync=sync, checkpoint_every=30)
    session = trainer.setup(Tokens(201), batch_size=share(), epochs=3)
    done: list[Any] = []
    trainer.on_step = lambda step, result: done.append({"step": step, **result.to_json()})
    place = out / "-".join((mode, *settings))
    result = trainer.run(session, eval_dataset=Tokens(20), out=place)
    return {
        "losses": result.losses,
        "evaluation": [found["loss"] for found in result.history],
        "events": done,
        "seen": collate.seen,
        "steps": [result.steps, session.total_steps],
        "digest": digest(model),
        "checkpoints": [step for step, _ in checkpoints.existing(place / "checkpoints")],
    }


class Logits:
    """Somebody's own metrics, which cannot be merged."""

    def __init__(self) -> None:
        self.rows = 0

    def update(self, outputs: Any, batch: Any) -> None:
        self.rows += len(outputs.logits)

    def result(self) -> dict[str, float]:
        return {"rows": float(self.rows)}


def evaluation(folder: Path, out: Path) -> Result:
    """The same batches, whoever computes them."""
    names = ("O", "B-X", "I-X")[: load(folder).config.head.num_labels]
    found = {}
    for name, metrics in (("ours", lambda: metrics_for("tokcls", labels=names)), ("own", Logits)):
        collate = Collate()
        trainer = Trainer(load(folder), collate=collate, metrics=metrics)
        found[name] = trainer.evaluate(Tokens(50), batch_size=4)
        found[f"{name} seen"] = len(collate.seen)
    model = MLP()
    for parameter in model.parameters():
        nn.init.constant_(parameter, 0.1)
    found["loss"] = Trainer(model, step=sum_step).evaluate(numbers(37), batch_size=5)
    return {**found, "digest": digest(model)}


class MLP(nn.Module):
    """Somebody's own: a norm with buffers, and a layer that is never used."""

    def __init__(self) -> None:
        super().__init__()
        self.body = nn.Sequential(nn.Linear(6, 16), nn.ReLU(), nn.Linear(16, 3))
        self.unused = nn.Linear(4, 4)

    def forward(self, x: Tensor) -> Tensor:
        return self.body(x)


def numbers(count: int) -> list[tuple[Tensor, int]]:
    draw = torch.Generator().manual_seed(2)
    return [(torch.randn(6, generator=draw), index % 3) for index in range(count)]


def mean_step(model: nn.Module, batch: Any) -> Tensor:
    return nn.functional.cross_entropy(model(batch[0]), batch[1])


def sum_step(model: nn.Module, batch: Any) -> tuple[Tensor, int]:
    return nn.functional.cross_entropy(model(batch[0]), batch[1], reduction="sum"), len(batch[1])


def own_module(step: Callable[..., Any]) -> Result:
    torch.manual_seed(ranks.rank())  # rank 0's weights are everybody's
    model = MLP()
    torch.manual_seed(0)
    start = {name: tensor.clone() for name, tensor in MLP().state_dict().items()}
    trainer = Trainer(model, step=step, lr=1e-2, weight_decay=0.1)
    losses = trainer.fit(numbers(37), batch_size=share(), epochs=4).losses
    return {
        "losses": losses,
        "digest": digest(model),
        "unused_stayed": torch.equal(model.unused.weight, start["unused.weight"]),
        "moved": not torch.equal(model.body[0].weight, start["body.0.weight"]),
    }


def batch_norm(folder: Path, out: Path) -> Result:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(6, 8), nn.BatchNorm1d(8), nn.Linear(8, 3))
    Trainer(model, step=mean_step, lr=1e-2).fit(numbers(48), batch_size=share(), epochs=2)
    return {"digest": digest(model)}


def hugging_face(folder: Path, out: Path) -> Result:
    from transformers import BertForTokenClassification

    model = BertForTokenClassification.from_pretrained(folder)
    trainer = Trainer(model, collate=Collate(), lr=1e-3)
    return {"losses": trainer.fit(Tokens(45), batch_size=share(), epochs=2).losses, "digest": digest(model)}


def stream(folder: Path, out: Path) -> Result:
    """Seven ready batches: with two ranks the fourth step has one for the first rank only."""
    model, collate, data = load(folder), Collate(), Tokens(28)
    batches = [collate([data[i] for i in range(at, at + 4)]) for at in range(0, 28, 4)]
    trainer = Trainer(model, lr=1e-3, accumulate=2 // ranks.count())
    return {"losses": trainer.fit(batches_of(batches), max_steps=8).losses, "digest": digest(model)}


class batches_of:
    """An iterable without a length."""

    def __init__(self, batches: list[Any]) -> None:
        self.batches = batches

    def __iter__(self) -> Any:
        return iter(self.batches)


def resume(folder: Path, out: Path) -> Result:
    """Dropout on and a collator that draws from every generator: 12 steps, and 12 that stopped at 6."""

    def drawing(samples: list[dict[str, Any]]) -> dict[str, Tensor]:
        batch = Collate()(samples)
        ids = batch["input_ids"]
        for drawn in (random.random(), float(np.random.rand()), float(torch.rand(()))):
            ids[0, int(drawn * ids.shape[1])] = 7
        return batch

    def make() -> tuple[Any, Trainer]:
        model = load(folder)
        for module in model.modules():
            if isinstance(module, nn.Dropout):
                module.p = 0.1
        settings = {
            "sync": SyncConfig(shares="equal"),
            "collate": drawing,
            "lr": 1e-3,
            "checkpoint_every": 6,
            "batch_size": share(),
        }
        return model, Trainer(model, **settings)

    written: list[str] = []
    writer = checkpoints.writer

    def counting(model: nn.Module, **options: Any) -> checkpoints.Write:
        write = writer(model, **options)
        return lambda path, files, seal: [written.append(path.name), write(path, files, seal)]

    checkpoints.writer = counting
    whole, trainer = make()
    losses = trainer.fit(Tokens(60), max_steps=12, out=out / "run").losses
    checkpoints.writer = writer
    _ = torch.rand(5), random.random(), np.random.rand()  # resuming must not depend on what was drawn since
    again, trainer = make()
    start = out / "run" / "checkpoints" / "step-000006"
    later = trainer.fit(Tokens(60), max_steps=12, out=out / "again", resume=start).losses
    ranks.on_first(lambda: whole.save_pretrained(out / "export"))
    return {
        "losses": losses,
        "later": later,
        "digest": digest(whole),
        "resumed": digest(again),
        "written": written,
        "folders": sorted(path.name for path in (out / "run" / "checkpoints").iterdir()),
    }


def refusal(folder: Path, out: Path) -> Result:
    """The run's folder is a file: rank 0 cannot write, and nobody waits for ever."""
    ranks.on_first(lambda: (out / "in-the-way").write_text("a file"))
    trainer = Trainer(MLP(), step=mean_step, checkpoint_every=1)
    try:
        trainer.fit(numbers(16), batch_size=share(), max_steps=2, out=out / "in-the-way")
    except BijectError as error:
        return {"error": str(error)}
    return {"error": None}


CASES: dict[str, Callable[[Path, Path], Result]] = {
    "curve": curve,
    "unequal": lambda folder, out: curve(folder, out, shares=(5.0, 2.0), steps=100),
    "followed": followed,
    "cadence": lambda folder, out: rounds(folder, out, "cadence"),
    "async": lambda folder, out: rounds(folder, out, "async"),
    "outer": lambda folder, out: rounds(
        folder, out, "cadence", outer="nesterov", outer_momentum=0.3, average_moments=True
    ),
    "evaluation": evaluation,
    "token_budget": token_budget,
    "mean_step": lambda folder, out: own_module(mean_step),
    "sum_step": lambda folder, out: own_module(sum_step),
    "batch_norm": batch_norm,
    "hugging_face": hugging_face,
    "stream": stream,
    "resume": resume,
    "refusal": refusal,
}
