"""No weight is ever random in silence: a lacking head is an error, a new one is said and recorded."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

import biject
from biject.errors import ConfigError, WeightsError
from biject.families import text_families
from biject.model import Model
from biject.nn.addresses import align
from biject.pretrained import load
from biject.record import RECORD
from biject.save import save_model
from biject.verify import verify_export
from parity.harness import language_head

Make = Callable[..., Path]
LABELS = {"labels": ["no", "yes", "maybe"]}


HEADS = [
    (name, head)
    for head in ("seqcls", "tokcls", "qa", "lm")
    for name, known in text_families().items()
    if head in (*known.heads, "lm")
]


@pytest.mark.parametrize(("model_type", "head"), HEADS)
def test_a_lacking_head_is_an_error(model_type: str, head: str, reference: Make) -> None:
    head = language_head(model_type) if head == "lm" else head
    untied = {"tie_word_embeddings": False} if head == "causal" else {}  # tied, it lacks nothing
    folder = reference(model_type, "base", overrides=untied)
    with pytest.raises(WeightsError, match="`head") as caught:
        load(folder, head=head)
    needed = text_families()[model_type].heads[head].specs(_values(model_type))
    names = [spec.disk for spec in needed if not spec.base and not spec.tied_to and not spec.alias]
    assert all(f"`{name}`" in str(caught.value) for name in names)
    assert "new_head" in str(caught.value)


def _values(model_type: str) -> dict[str, object]:
    known = text_families()[model_type]
    values = known.config.read(known.tiny)
    return dict(known.resolve(values, frozenset(), "base", None)) if known.resolve else values


@pytest.mark.parametrize(("model_type", "head"), HEADS)
@pytest.mark.parametrize("source", ["base", "lm"])
def test_a_new_head_is_said_and_recorded(
    model_type: str, head: str, source: str, reference: Make, tmp_path: Path
) -> None:
    import transformers

    untied = {"tie_word_embeddings": False} if "causal" in text_families()[model_type].heads else {}
    source, head = (language_head(model_type) if one == "lm" else one for one in (source, head))
    folder = reference(model_type, source, overrides=untied)
    (folder / "README.md").write_text("the old model's card")
    torch.manual_seed(1)
    with pytest.warns(UserWarning, match="New, randomly initialised parameters: .*`head"):
        model = load(folder, head=head, new_head=LABELS if head in ("seqcls", "tokcls") else {})
    saved = save_model(model, tmp_path / "export")
    record = json.loads((tmp_path / "export" / RECORD).read_text())
    made = {name for binding in model.provenance.plan.initialized for name in binding.disk}
    assert made
    assert set(record["new_parameters"]) == made
    assert {f"new, random: {name}" for name in made} <= set(saved.changes)
    assert not (tmp_path / "export" / "README.md").exists()
    cls = getattr(transformers, text_families()[model_type].heads[head].hf_class)
    theirs, info = cls.from_pretrained(tmp_path / "export", output_loading_info=True)
    assert not info["missing_keys"]
    assert not info["unexpected_keys"]
    assert not info["mismatched_keys"]
    assert theirs.config.architectures == [cls.__name__]
    ids = torch.tensor([[5, 6, 7, 8]])
    align(model)
    align(theirs)
    ours, hf = model(ids), theirs.eval()(input_ids=ids)
    key = "start_logits" if head == "qa" else "logits"
    assert torch.equal(ours[key], hf[key])
    if source != head:
        report = verify_export(tmp_path / "export", source=folder, levels=["names", "bytes", "reload"])
        assert report.passed, report.lines()
    if head in ("seqcls", "tokcls"):
        assert theirs.config.id2label == {0: "no", 1: "yes", 2: "maybe"} == model.id2label


def test_a_new_head_replaces_another_size(reference: Make) -> None:
    folder = reference("bert", "seqcls")
    with pytest.warns(UserWarning, match="head.out.weight"):
        model = load(folder, head="seqcls", new_head=LABELS)
    assert model(torch.tensor([[5, 6]])).logits.shape == (1, 3)


def test_seeded(reference: Make) -> None:
    folder = reference("bert", "base")

    def new() -> Model:
        torch.manual_seed(7)
        with pytest.warns(UserWarning, match="New"):
            return load(folder, head="tokcls", new_head=LABELS)

    assert torch.equal(new().get_parameter("head.out.weight"), new().get_parameter("head.out.weight"))


@pytest.mark.parametrize("labels", [[], ["a", "a"], [1, 2], 3])
def test_bad_labels(labels: object, reference: Make) -> None:
    folder = reference("bert", "base")
    with pytest.raises(ConfigError, match="labels"):
        load(folder, head="seqcls", new_head={"labels": labels})
    with pytest.raises(ConfigError, match="colour"):
        load(folder, head="seqcls", new_head={"colour": 1})


def test_a_change_of_head_lists_what_it_leaves_out(reference: Make, tmp_path: Path) -> None:
    folder = reference("bert", "seqcls")
    saved = save_model(biject.AutoModel.from_pretrained(folder), tmp_path / "export")
    assert "left out: classifier.weight" in saved.changes
    assert 'config.json: architectures = ["BertModel"]' in saved.changes


def test_auto_classes(reference: Make) -> None:
    cases = {
        "base": biject.AutoModel,
        "seqcls": biject.AutoModelForSequenceClassification,
        "tokcls": biject.AutoModelForTokenClassification,
        "qa": biject.AutoModelForQuestionAnswering,
        "mlm": biject.AutoModelForMaskedLM,
    }
    for head, cls in cases.items():
        model = cls.from_pretrained(reference("distilbert", head, name=head))
        assert model.head_name == head
        assert not model.training
    causal = biject.AutoModelForCausalLM.from_pretrained(reference("gpt2", "causal", name="causal"))
    assert causal.head_name == "causal"
    with pytest.raises(TypeError, match="from_pretrained"):
        biject.AutoModel()
