"""A no-op round trip is byte-identical, file by file: every cell, and a dozen odd folders of each kind."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from biject.events import Notice, Progress, listening
from biject.families import families
from biject.pretrained import load
from biject.record import RECORD
from biject.save import Saved, save_model
from parity.harness import language_head

CELLS = [(model_type, head) for model_type, known in families().items() for head in known.heads]
Make = Callable[..., Path]


class Silent:
    """Collects notices instead of warning."""

    def __init__(self) -> None:
        self.codes: list[str] = []

    def notice(self, event: Notice) -> None:
        self.codes.append(event.code)

    def progress(self, event: Progress) -> None:
        pass


def sums(folder: Path) -> dict[str, str]:
    return {
        str(p.relative_to(folder)): hashlib.sha256(p.read_bytes()).hexdigest()
        for p in folder.rglob("*")
        if p.is_file()
    }


def export(folder: Path, **options: object) -> tuple[Path, Saved]:
    with listening(Silent()):
        out = folder.with_name("export")
        return out, save_model(load(folder, **options), out)


def assert_identical(folder: Path) -> None:
    out, saved = export(folder)
    assert sums(out) == sums(folder)
    assert saved.changes == ()


def rewrite(folder: Path, change: Callable[[dict[str, torch.Tensor]], dict[str, torch.Tensor]]) -> None:
    path = folder / "model.safetensors"
    save_file(change(load_file(path)), path, metadata={"format": "pt"})


def edit_config(folder: Path, **keys: object) -> None:
    path = folder / "config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | keys, indent=2) + "\n")


@pytest.mark.parametrize(("model_type", "head"), CELLS)
def test_every_cell(model_type: str, head: str, reference: Make) -> None:
    assert_identical(reference(model_type, head))


@pytest.mark.parametrize("model_type", list(families()))
def test_sharded(model_type: str, reference: Make) -> None:
    import transformers

    head = language_head(model_type)
    folder = reference(model_type, head)
    out = folder.with_name("sharded")
    cls = getattr(transformers, families()[model_type].heads[head].hf_class)
    cls.from_pretrained(folder).save_pretrained(out, max_shard_size="20KB")
    assert len(list(out.glob("model-*.safetensors"))) > 2
    assert_identical(out)


@pytest.mark.parametrize("model_type", ["bert", "roberta", "albert", "electra", "deberta-v2"])
@pytest.mark.parametrize("head", ["base", "mlm", "seqcls"])
def test_gamma_and_beta(model_type: str, head: str, reference: Make) -> None:
    folder = reference(model_type, head)
    rewrite(
        folder,
        lambda tensors: {
            name.replace("LayerNorm.weight", "LayerNorm.gamma").replace("LayerNorm.bias", "LayerNorm.beta"): t
            for name, t in tensors.items()
        },
    )
    assert any(name.endswith("gamma") for name in load_file(folder / "model.safetensors"))
    assert_identical(folder)


@pytest.mark.parametrize(("model_type", "head"), CELLS)
def test_prefix_the_other_way(model_type: str, head: str, reference: Make) -> None:
    """Base files with the prefix, head files without it."""
    prefix = families()[model_type].prefix_of(head) + "."
    folder = reference(model_type, head)

    def swap(tensors: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
        if head == "base":
            return {prefix + name: t for name, t in tensors.items()}
        return {name.removeprefix(prefix): t for name, t in tensors.items()}

    rewrite(folder, swap)
    assert_identical(folder)


@pytest.mark.parametrize("model_type", list(families()))
def test_old_buffers(model_type: str, reference: Make) -> None:
    folder = reference(model_type, "base")
    known = families()[model_type]
    names = known.all_passthrough(known.config.read(known.tiny))
    rewrite(folder, lambda t: t | {name: torch.arange(64)[None] for name in names})
    with listening(silent := Silent()):
        load(folder)
    assert silent.codes == []
    assert_identical(folder)


TWINS = {
    "bert": ("bert.embeddings.word_embeddings.weight", "cls.predictions.decoder.weight"),
    "roberta": ("roberta.embeddings.word_embeddings.weight", "lm_head.decoder.weight"),
    "xlm-roberta": ("roberta.embeddings.word_embeddings.weight", "lm_head.decoder.weight"),
    "distilbert": ("distilbert.embeddings.word_embeddings.weight", "vocab_projector.weight"),
    "albert": ("albert.embeddings.word_embeddings.weight", "predictions.decoder.weight"),
    "camembert": ("roberta.embeddings.word_embeddings.weight", "lm_head.decoder.weight"),
    "electra": ("electra.embeddings.word_embeddings.weight", "generator_lm_head.weight"),
    "deberta-v2": ("deberta.embeddings.word_embeddings.weight", "cls.predictions.decoder.weight"),
    "gpt2": ("transformer.wte.weight", "lm_head.weight"),
    "llama": ("model.embed_tokens.weight", "lm_head.weight"),
    "mistral": ("model.embed_tokens.weight", "lm_head.weight"),
    "qwen2": ("model.embed_tokens.weight", "lm_head.weight"),
    "qwen3": ("model.embed_tokens.weight", "lm_head.weight"),
    "smollm3": ("model.embed_tokens.weight", "lm_head.weight"),
    "phi3": ("model.embed_tokens.weight", "lm_head.weight"),
    "gemma2": ("model.embed_tokens.weight", "lm_head.weight"),
    "gemma3_text": ("model.embed_tokens.weight", "lm_head.weight"),
    "olmo2": ("model.embed_tokens.weight", "lm_head.weight"),
}


def tied_reference(reference: Make, model_type: str) -> Path:
    return reference(model_type, language_head(model_type), overrides={"tie_word_embeddings": True})


@pytest.mark.parametrize("model_type", list(TWINS))
def test_tied_twin_written(model_type: str, reference: Make) -> None:
    table, output = TWINS[model_type]
    folder = tied_reference(reference, model_type)
    rewrite(folder, lambda t: t | {output: t[table].clone()})
    model = load(folder)
    assert model.provenance.plan.tied_output
    assert "head.decoder.weight" not in dict(model.named_parameters())
    assert_identical(folder)


@pytest.mark.parametrize("model_type", list(TWINS))
def test_twins_that_differ_stay_two(model_type: str, reference: Make) -> None:
    table, output = TWINS[model_type]
    folder = tied_reference(reference, model_type)
    rewrite(folder, lambda t: t | {output: t[table] + 1.0})
    model = load(folder)
    assert not model.provenance.plan.tied_output
    assert torch.equal(model.get_parameter("head.decoder.weight"), model.embed.tokens.weight + 1.0)
    assert_identical(folder)


@pytest.mark.parametrize("model_type", list(TWINS))
def test_only_the_output_matrix_is_stored(model_type: str, reference: Make) -> None:
    table, output = TWINS[model_type]
    folder = tied_reference(reference, model_type)
    rewrite(folder, lambda t: {output if name == table else name: tensor for name, tensor in t.items()})
    assert_identical(folder)


def test_next_sentence_head_is_carried(reference: Make) -> None:
    folder = reference("bert", "mlm")
    rewrite(
        folder,
        lambda t: (
            t
            | {"cls.seq_relationship.weight": torch.randn(2, 32), "cls.seq_relationship.bias": torch.randn(2)}
        ),
    )
    edit_config(folder, architectures=["BertForPreTraining"])
    assert_identical(folder)


@pytest.mark.parametrize(
    ("model_type", "names"),
    [
        ("bert", ("bert.pooler.dense.weight", "bert.pooler.dense.bias")),
        ("roberta", ("roberta.pooler.dense.weight", "roberta.pooler.dense.bias")),
        ("albert", ("albert.pooler.weight", "albert.pooler.bias")),
    ],
)
@pytest.mark.parametrize("head", ["tokcls", "qa", "mlm"])
def test_extra_pooler_is_carried(model_type: str, names: tuple[str, str], head: str, reference: Make) -> None:
    folder = reference(model_type, head)
    rewrite(folder, lambda t: t | {names[0]: torch.randn(32, 32), names[1]: torch.randn(32)})
    with listening(silent := Silent()):
        load(folder)
    assert silent.codes == []
    assert_identical(folder)


@pytest.mark.parametrize("model_type", ["bert", "roberta", "albert"])
def test_missing_pooler_is_left_out(model_type: str, reference: Make) -> None:
    folder = reference(model_type, "base")
    rewrite(folder, lambda t: {name: tensor for name, tensor in t.items() if "pooler" not in name})
    assert load(folder)(torch.tensor([[5, 6, 7]])).pooler_output is None
    assert_identical(folder)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
@pytest.mark.parametrize("model_type", list(families()))
def test_dtypes(model_type: str, dtype: torch.dtype, reference: Make) -> None:
    folder = reference(model_type, language_head(model_type), dtype=dtype)
    assert load(folder).dtype == dtype
    assert_identical(folder)


def test_mixed_dtypes(reference: Make) -> None:
    folder = reference("bert", "seqcls")
    rewrite(folder, lambda t: {n: x if "LayerNorm" in n else x.bfloat16() for n, x in t.items()})
    with listening(silent := Silent()):
        assert load(folder).embed.tokens.weight.dtype == torch.float32
    assert silent.codes == ["mixed-dtypes"]
    assert_identical(folder)


def test_unknown_config_key_is_kept_and_named(reference: Make) -> None:
    folder = reference("bert", "seqcls")
    edit_config(folder, my_own_key={"a": [1, 2.50]}, another=None)
    with pytest.warns(UserWarning, match="`my_own_key`, `another`"):
        load(folder)
    assert_identical(folder)


@pytest.mark.parametrize("style", [{"separators": (",", ":")}, {"indent": 4}, {"ensure_ascii": False}, {}])
def test_config_in_any_style(style: dict[str, object], reference: Make) -> None:
    folder = reference("distilbert", "seqcls")
    path = folder / "config.json"
    config = json.loads(path.read_text()) | {"id2label": {"0": "schön", "1": "無"}}
    path.write_text(json.dumps(config, **style), encoding="utf-8")
    assert_identical(folder)


def test_no_metadata(reference: Make) -> None:
    folder = reference("albert", "qa")
    path = folder / "model.safetensors"
    save_file(load_file(path), path)
    assert_identical(folder)


def test_subfolders_links_and_other_weights(reference: Make) -> None:
    folder = reference("bert", "base")
    (folder / "1_Pooling").mkdir()
    (folder / "1_Pooling" / "config.json").write_text("{}")
    (folder / "onnx").mkdir()
    (folder / "onnx" / "model.onnx").write_bytes(b"\x08\x01")
    (folder / "README.md").write_text("# a card")
    (folder / "empty.txt").write_bytes(b"")
    (folder / "linked.txt").symlink_to(folder / "README.md")
    assert_identical(folder)


def test_what_a_trainer_goes_on_from_is_left_out_and_named(reference: Make) -> None:
    folder = reference("bert", "seqcls")
    before = sums(folder)
    for name in (
        "optimizer.pt",
        "training_args.bin",
        "checkpoint-500/model.safetensors",
        "checkpoint-500/a.pt",
    ):
        (folder / name).parent.mkdir(exist_ok=True)
        (folder / name).write_bytes(b"x")
    out, saved = export(folder)
    written = sums(out)
    assert set(json.loads((out / RECORD).read_text())["files"]) == set(sums(folder)) - set(before)
    assert {name: digest for name, digest in written.items() if name != RECORD} == before
    assert saved.changes == tuple(
        f"left out: {name} (of a training run)"
        for name in ("checkpoint-500", "optimizer.pt", "training_args.bin")
    )


def test_unknown_tensors_are_carried_and_named(reference: Make) -> None:
    folder = reference("roberta", "tokcls")
    rewrite(folder, lambda t: t | {"loss_fct.weight": torch.ones(2)})
    with pytest.warns(UserWarning, match=r"`loss_fct\.weight`"):
        load(folder)
    assert_identical(folder)


@pytest.mark.parametrize("zipped", [True, False])
def test_bin_becomes_safetensors(zipped: bool, reference: Make) -> None:
    folder = reference("albert", "mlm")
    tensors = load_file(folder / "model.safetensors")
    (folder / "model.safetensors").unlink()
    torch.save(tensors, folder / "pytorch_model.bin", _use_new_zipfile_serialization=zipped)
    out, saved = export(folder)
    written = load_file(out / "model.safetensors")
    assert set(written) == set(tensors)
    for name, tensor in tensors.items():
        assert torch.equal(written[name].view(torch.uint8), tensor.view(torch.uint8)), name
    assert not (out / "pytorch_model.bin").exists()
    assert saved.changes == ("weights: pytorch_model.bin written as safetensors",)
    same = {name: digest for name, digest in sums(folder).items() if name != "pytorch_model.bin"}
    assert {name: digest for name, digest in sums(out).items() if name != "model.safetensors"} == same
