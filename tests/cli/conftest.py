"""Runs the command line in this process, and makes small folders for it without torch."""

from __future__ import annotations

import json
import struct
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import pytest

from biject.cli.main import main
from biject.config.shapes import parameter_shapes
from biject.families import family
from biject.weights.plan import Spelling


@dataclass(frozen=True)
class Outcome:
    code: int
    out: str
    err: str


@pytest.fixture
def run(capsys: pytest.CaptureFixture[str]) -> Callable[..., Outcome]:
    def call(*arguments: object) -> Outcome:
        capsys.readouterr()
        code = main([str(argument) for argument in arguments])
        captured = capsys.readouterr()
        return Outcome(code, captured.out, captured.err)

    return call


@pytest.fixture(scope="module")
def one_thread() -> Iterator[None]:
    """Bits, and other tests' time, depend on the number of threads."""
    import torch

    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny BERT without a head."""
    from biject.verify.reference import make_reference

    return make_reference("bert", "base", tmp_path_factory.mktemp("base") / "model")


def write_safetensors(path: Path, shapes: Mapping[str, tuple[int, ...]], *, metadata: bool = True) -> None:
    """A safetensors file of zeros in F32."""
    header: dict[str, object] = {"__metadata__": {"format": "pt"}} if metadata else {}
    end = 0
    for name, shape in shapes.items():
        num_bytes = 4
        for size in shape:
            num_bytes *= size
        header[name] = {"dtype": "F32", "shape": list(shape), "data_offsets": [end, end + num_bytes]}
        end += num_bytes
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    path.write_bytes(struct.pack("<Q", len(text)) + text + bytes(end))


@pytest.fixture
def tiny(tmp_path: Path) -> Path:
    """A folder with the names and shapes of a tiny BERT classifier."""
    folder = tmp_path / "tiny"
    folder.mkdir()
    bert = family("bert")
    config = {"model_type": "bert", "architectures": ["BertForSequenceClassification"], **bert.tiny}
    (folder / "config.json").write_text(json.dumps(config, indent=2))
    words = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *(f"word{index}" for index in range(94))]
    (folder / "vocab.txt").write_text("\n".join(words) + "\n")
    spelling = Spelling(prefix="bert.", old_norms=False)
    values = bert.config.read(config)
    shapes = parameter_shapes(bert.build(values, "seqcls"))
    specs = bert.heads["seqcls"].specs(values)
    write_safetensors(
        folder / "model.safetensors", {spelling.name(spec): shapes[spec.memory] for spec in specs}
    )
    return folder
