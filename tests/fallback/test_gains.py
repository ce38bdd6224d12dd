"""The table of gains: each line is true, as seen from outside."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Any

import pytest
import torch

import biject
from biject.cli.main import main
from biject.fallback import saving
from biject.fallback.gains import lines
from biject.fallback.model import FallbackModel
from biject.verify.reference import make_reference

pytestmark = pytest.mark.filterwarnings("ignore::biject.errors.BijectWarning")


@pytest.fixture(scope="module")
def bert(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A family of ours, which both back ends can load."""
    folder = tmp_path_factory.mktemp("bert") / "bert"
    make_reference("bert", "mlm", folder)
    return folder


def table(model: FallbackModel) -> dict[str, Any]:
    return {gain.name: gain for gain in model.gains()}


def rows_of_linears(model: torch.nn.Module, **inputs: torch.Tensor) -> set[int]:
    """How many rows the linears of the layers were given."""
    found: set[int] = set()

    def look(module: Any, arguments: Any) -> None:
        found.add(arguments[0].numel() // arguments[0].shape[-1])

    hooks = [m.register_forward_pre_hook(look) for m in model.modules() if isinstance(m, torch.nn.Linear)]
    with torch.no_grad():
        model(**inputs)
    for hook in hooks:
        hook.remove()
    return found


def test_padding_is_computed(bert: Path) -> None:
    ids = torch.full((4, 40), 5)
    mask = (torch.arange(40) < torch.tensor([[40], [4], [4], [4]])).long()
    theirs = biject.AutoModel.from_pretrained(bert, backend="hf")
    ours = biject.AutoModel.from_pretrained(bert)
    assert not table(theirs)["packing"].on
    assert max(rows_of_linears(theirs, input_ids=ids, attention_mask=mask)) == 160
    assert max(rows_of_linears(ours, input_ids=ids, attention_mask=mask)) < 160


def test_attention_is_named(checkpoint: Any) -> None:
    for name, attention in (("mpnet", "eager"), ("gpt_neox", "sdpa")):
        model = biject.AutoModel.from_pretrained(checkpoint(name), backend="hf")
        assert model.hf.config._attn_implementation == attention
        assert table(model)["probed kernels"].words.endswith(f"attention by {attention}")


def in_file(model: torch.nn.Module, folder: Path) -> bool:
    """Whether a parameter's memory is a mapped file of the folder."""
    maps = [line.split() for line in Path("/proc/self/maps").read_text().splitlines()]
    spans = [
        tuple(int(end, 16) for end in parts[0].split("-"))
        for parts in maps
        if len(parts) > 5 and parts[5].startswith(str(folder))
    ]
    return any(a <= p.data_ptr() < b for p in model.parameters() for a, b in spans)


def test_weights_are_copies(bert: Path) -> None:
    theirs = biject.AutoModelForMaskedLM.from_pretrained(bert, backend="hf")
    assert not table(theirs)["mapped weights"].on
    assert not in_file(theirs, bert)
    assert in_file(biject.AutoModelForMaskedLM.from_pretrained(bert), bert)


def test_the_disk_holds_them_twice(checkpoint: Any, tmp_path: Path, monkeypatch: Any) -> None:
    seen: list[int] = []
    write = saving.write_folder

    def looking(out: Path, **options: Any) -> Any:
        seen.extend(path.stat().st_size for path in tmp_path.rglob("*.safetensors"))
        return write(out, **options)

    monkeypatch.setattr(saving, "write_folder", looking)
    model = biject.AutoModel.from_pretrained(checkpoint("mpnet"), backend="hf")
    model.save_pretrained(tmp_path / "out")
    assert len(seen) == 1
    assert [path.name for path in tmp_path.iterdir()] == ["out"]  # and nothing is left
    assert not table(model)["streamed export"].on


def test_logits_of_every_token_are_held(bert: Path) -> None:
    labels = torch.full((2, 9), -100)
    labels[:, 3] = 7
    ids = torch.full((2, 9), 5)
    theirs = biject.AutoModelForMaskedLM.from_pretrained(bert, backend="hf")
    assert theirs(input_ids=ids, labels=labels).logits.shape == (2, 9, theirs.config.vocab_size)
    ours = biject.AutoModelForMaskedLM.from_pretrained(bert)
    assert ours(input_ids=ids, labels=labels).logits is None
    assert f"{theirs.config.vocab_size:,} numbers" in table(theirs)["loss in parts"].words
    assert "loss in parts" not in table(biject.AutoModel.from_pretrained(bert, backend="hf"))


def test_tensors_that_are_left_out_are_counted(checkpoint: Any, tmp_path: Path) -> None:
    whole = biject.AutoModelForMaskedLM.from_pretrained(checkpoint("roformer"), backend="hf")
    assert table(whole)["kept tensors"].on
    tagger = biject.AutoModelForTokenClassification.from_pretrained(
        checkpoint("roformer"), backend="hf", num_labels=3
    )
    tagger.save_pretrained(tmp_path / "out")
    before = {name for name in tagger.source.tensors if name.startswith("cls.")}
    assert set(tagger.left_out) == before
    assert table(tagger)["kept tensors"].words.startswith(f"{len(before)} tensors")
    assert not table(tagger)["kept tensors"].on


def test_other_commands_know_our_families(bert: Path, checkpoint: Any, tmp_path: Path, capsys: Any) -> None:
    name = "export, generate, merge"
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        assert table(biject.AutoModel.from_pretrained(bert, backend="hf"))[name].on
        assert not table(biject.AutoModel.from_pretrained(checkpoint("mpnet"), backend="hf"))[name].on
    assert main(["export", "--hub", str(bert), "--out", str(tmp_path / "a")]) == 0
    assert main(["export", "--hub", str(checkpoint("mpnet")), "--out", str(tmp_path / "b")]) == 2
    assert main(["generate", str(checkpoint("gpt_neox")), "the"]) == 2
    assert "--backend hf" in capsys.readouterr().err


def test_the_printed_table(checkpoint: Any) -> None:
    printed = lines(biject.AutoModelForMaskedLM.from_pretrained(checkpoint("roformer"), backend="hf"))
    assert printed[0].startswith("BACKEND hf: RoFormerForMaskedLM of transformers 5.")
    states = [line.split()[0] for line in printed[1:]]
    assert states == sorted(states)  # off before on
    assert {"OFF", "ON"} == set(states)
    assert all(len(line) < 130 for line in printed)
