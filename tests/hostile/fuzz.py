"""Fuzzing: seeds of every kind, many mutations of each, and a table of how they ended.

Each input is made from (kind, number) alone, so that a finding can be made again.
"""

from __future__ import annotations

import json
import random
import shutil
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

from . import mutate
from .folders import config_of, good, tensors
from .mutate import Mutation
from .worker import Outcome, Worker


@dataclass(frozen=True)
class Kind:
    """What is mutated: the folder that is made once, its files, and how each is changed."""

    make: Callable[[Path], object]
    files: dict[str, tuple[Mutation, ...]]


@dataclass
class Tally:
    """What came out for one kind."""

    words: Counter[str] = field(default_factory=Counter)
    seconds: float = 0.0
    megabytes: float = 0.0
    bad: list[tuple[str, int, Outcome]] = field(default_factory=list)

    def add(self, kind: str, number: int, outcome: Outcome) -> None:
        """Count one."""
        self.words[outcome.kind if outcome.word == "error" else outcome.word] += 1
        self.seconds = max(self.seconds, outcome.seconds)
        self.megabytes = max(self.megabytes, outcome.megabytes)
        if not outcome.good:
            self.bad.append((kind, number, outcome))


def _model(model_type: str, head: str) -> Callable[[Path], object]:
    return lambda folder: good(folder, config=config_of(model_type, head), head=head)


def _pickle(folder: Path) -> None:
    import torch

    good(folder)
    (folder / "model.safetensors").unlink()
    held = {name: torch.from_numpy(array) for name, array in tensors().items()}
    torch.save(held, folder / "pytorch_model.bin")


def _old_pickle(folder: Path) -> None:
    import torch

    _pickle(folder)
    path = folder / "pytorch_model.bin"
    held = torch.load(path, weights_only=True)
    torch.save(held, path, _use_new_zipfile_serialization=False)


def _tokenizer(kind: str) -> Callable[[Path], object]:
    """A folder with one kind of tokenizer files, trained on a few words."""

    def make(folder: Path) -> None:
        from tokenizers import Tokenizer, models, pre_tokenizers, trainers

        good(folder)
        texts = [
            "the quick brown fox jumps over the lazy dog",
            "日本語 と emoji 🙂",
            "1984, it was a bright day",
        ] * 3
        special = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
        if kind == "unigram":
            tokenizer = Tokenizer(models.Unigram())
            trainer = trainers.UnigramTrainer(vocab_size=90, special_tokens=special, unk_token="[UNK]")
            tokenizer.pre_tokenizer = pre_tokenizers.Metaspace()
        else:
            tokenizer = Tokenizer(models.BPE())
            tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel()
            trainer = trainers.BpeTrainer(vocab_size=300, special_tokens=special)
        tokenizer.train_from_iterator(texts, trainer)
        (folder / "vocab.txt").unlink()
        if kind == "files":
            config = {
                "tokenizer_class": "RobertaTokenizer",
                "model_max_length": 16,
                "add_prefix_space": False,
            }
            tokenizer.model.save(str(folder))
            added = {"content": "<mask>", "lstrip": True, "special": True, "id": 400}
            (folder / "added_tokens.json").write_text('{"<new>": 300}')
            (folder / "special_tokens_map.json").write_text(
                json.dumps({"mask_token": added, "unk_token": "[UNK]"})
            )
        else:
            config = {
                "tokenizer_class": "PreTrainedTokenizerFast",
                "unk_token": "[UNK]",
                "pad_token": "[PAD]",
            }
            tokenizer.save(str(folder / "tokenizer.json"))
        (folder / "tokenizer_config.json").write_text(json.dumps(config))

    return make


def _sentencepiece(folder: Path) -> None:
    import io

    import sentencepiece

    good(folder)
    (folder / "vocab.txt").unlink()
    stream = io.BytesIO()
    texts = iter(["the quick brown fox jumps over the lazy dog", "1984 was a bright cold day in April"] * 20)
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=texts, model_writer=stream, vocab_size=37, minloglevel=2, num_threads=1
    )
    (folder / "spiece.model").write_bytes(stream.getvalue())
    (folder / "tokenizer_config.json").write_text('{"tokenizer_class": "AlbertTokenizer"}')


TEXT, BYTES = (mutate.json_, mutate.json_, mutate.json_, mutate.bytes_), (mutate.bytes_,)
SETTINGS = {"tokenizer_config.json": TEXT}

KINDS: dict[str, Kind] = {
    "header": Kind(good, {"model.safetensors": (mutate.header,)}),
    "index": Kind(lambda folder: good(folder, shards=3), {"model.safetensors.index.json": TEXT}),
    "config bert": Kind(good, {"config.json": TEXT}),
    "config albert": Kind(_model("albert", "mlm"), {"config.json": TEXT}),
    "config deberta-v2": Kind(_model("deberta-v2", "base"), {"config.json": TEXT}),
    "config distilbert": Kind(_model("distilbert", "qa"), {"config.json": TEXT}),
    "config roberta": Kind(_model("roberta", "tokcls"), {"config.json": TEXT}),
    "pickle": Kind(_pickle, {"pytorch_model.bin": BYTES}),
    "old pickle": Kind(_old_pickle, {"pytorch_model.bin": BYTES}),
    "vocab.txt": Kind(good, {"vocab.txt": (mutate.lines, mutate.bytes_), **SETTINGS}),
    "tokenizer.json bpe": Kind(_tokenizer("bpe"), {"tokenizer.json": TEXT, **SETTINGS}),
    "tokenizer.json unigram": Kind(_tokenizer("unigram"), {"tokenizer.json": TEXT, **SETTINGS}),
    "bpe files": Kind(
        _tokenizer("files"),
        {
            "vocab.json": TEXT,
            "merges.txt": (mutate.lines, mutate.bytes_),
            "special_tokens_map.json": TEXT,
            "added_tokens.json": TEXT,
            **SETTINGS,
        },
    ),
    "sentencepiece": Kind(_sentencepiece, {"spiece.model": BYTES, **SETTINGS}),
}


def inputs(kind: str, seed: Path, place: Path, numbers: range) -> Iterator[tuple[int, Path]]:
    """Spoilt copies of a seed folder, each in the same place as the one before."""
    plans = list(KINDS[kind].files.items())
    for number in numbers:
        shutil.rmtree(place, ignore_errors=True)
        shutil.copytree(seed, place)
        generator = random.Random(f"{kind} {number}")
        file, how = generator.choice(plans)
        mutate.spoil(generator, place / file, how)
        yield number, place


def run(
    counts: dict[str, range], *, keep: Path | None = None, say: Callable[[str], None] | None = None
) -> dict[str, Tally]:
    """Meet the numbers of each kind; bad inputs are kept in `keep`."""
    tallies: dict[str, Tally] = {}
    worker = Worker()
    shared = Path("/dev/shm")
    with tempfile.TemporaryDirectory(
        dir=shared if shared.is_dir() else None, prefix="biject-fuzz-"
    ) as temporary:
        for kind, numbers in counts.items():
            tally, started = tallies.setdefault(kind, Tally()), time.monotonic()
            seed = Path(temporary) / "seeds" / kind.replace(" ", "-")
            KINDS[kind].make(seed)
            first = worker.meet(seed)
            assert first.word == "ok", f"the seed of {kind} is not good: {first}"
            for number, folder in inputs(kind, seed, Path(temporary) / "input", numbers):
                outcome = worker.meet(folder)
                tally.add(kind, number, outcome)
                if keep is not None and not outcome.good:
                    shutil.copytree(folder, keep / f"{kind.replace(' ', '-')}-{number}", dirs_exist_ok=True)
            if say is not None:
                say(_row(kind, tally, time.monotonic() - started))
    worker.close()
    return tallies


def _row(kind: str, tally: Tally, seconds: float) -> str:
    words = ", ".join(f"{word} {count}" for word, count in tally.words.most_common())
    worst = f"max {tally.seconds:.3f} s CPU, {tally.megabytes:.0f} MB"
    count = f"{sum(tally.words.values())} inputs in {seconds:.0f} s"
    return f"{kind}: {count}: {words}; {worst}; {len(tally.bad)} bad"
