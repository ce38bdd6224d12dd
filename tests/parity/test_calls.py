"""Ways of calling: attention weights, threads, half precision, losses by hand, odd masks. Bits against HF."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from biject.families import text_families
from biject.pretrained import load
from biject.verify.inputs import Case, probe_cases, training_case
from parity.harness import compare_forward, compare_gradients, differences, hf_model, pair

TAGGERS = [name for name, known in text_families().items() if "tokcls" in known.heads]
CELLS = [(model_type, head) for model_type, known in text_families().items() for head in known.heads]
Make = Callable[..., Path]


def config_of(folder: Path) -> dict[str, object]:
    loaded = json.loads((folder / "config.json").read_text())
    assert isinstance(loaded, dict)
    return loaded


@pytest.mark.parametrize("model_type", list(text_families()))
def test_attentions_equal_eager(model_type: str, reference: Make) -> None:
    folder = reference(model_type, "base")
    ours = load(folder)
    theirs = hf_model(folder, ours, attention="eager")
    for case in probe_cases(config_of(folder), max_length=40):
        with torch.no_grad():
            a = ours(**case.inputs, output_attentions=True)
            b = theirs(**case.inputs, output_attentions=True)
        assert differences(a, b) == [], case.name


@pytest.mark.parametrize(
    "model_type", [name for name, known in text_families().items() if "tokcls" in known.heads]
)
def test_config_asks_for_hidden_states(model_type: str, reference: Make) -> None:
    folder = reference(model_type, "tokcls")
    path = folder / "config.json"
    path.write_text(json.dumps(config_of(folder) | {"output_hidden_states": True}))
    ours, theirs = pair(folder)
    ids = torch.tensor([[5, 6, 7, 8]])
    assert differences(ours(ids), theirs(input_ids=ids)) == []
    assert ours(ids).hidden_states is not None
    assert ours(ids, output_hidden_states=False).hidden_states is None


@pytest.mark.parametrize(("model_type", "head"), CELLS)
def test_two_threads(model_type: str, head: str, reference: Make) -> None:
    torch.set_num_threads(2)
    folder = reference(model_type, head)
    ours, theirs = pair(folder)
    for case in probe_cases(config_of(folder), length=37, max_length=64):
        assert compare_forward(ours, theirs, case) == [], case.name
    case = training_case(config_of(folder), head, length=37)
    for train in (False, True):
        assert compare_gradients(ours, theirs, case, train=train) == [], f"train={train}"


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float64])
@pytest.mark.parametrize(("model_type", "head"), CELLS)
def test_other_dtypes(model_type: str, head: str, dtype: torch.dtype, reference: Make) -> None:
    """bf16, f16 and f64 follow HF's order of operations, and are bit-equal, too."""
    folder = reference(model_type, head, dtype=dtype)
    ours, theirs = pair(folder)
    if dtype is torch.float64 and ours.family.slices:  # torch's `grouped_mm`, and so HF, takes no float64
        with pytest.raises(RuntimeError, match="Expected mat_a to be Float32"):
            theirs(torch.tensor([[5, 6]]))
        return
    for case in probe_cases(config_of(folder), max_length=40):
        inputs = {k: v.to(dtype) if v.is_floating_point() else v for k, v in case.inputs.items()}
        assert compare_forward(ours, theirs, Case(name=case.name, inputs=inputs)) == [], case.name


@pytest.mark.parametrize("model_type", list(text_families()))
def test_loaded_in_another_dtype(model_type: str, reference: Make) -> None:
    folder = reference(model_type, "seqcls")
    ours = load(folder, dtype="bfloat16")
    theirs = hf_model(folder, ours, dtype=torch.bfloat16)
    ids = torch.tensor([[5, 6, 7, 8]])
    assert differences(ours(ids), theirs(input_ids=ids)) == []


PROBLEMS = {
    "regression-1": ({"num_labels": 1}, torch.randn(3)),
    "regression-1-column": ({"num_labels": 1, "problem_type": "regression"}, torch.randn(3, 1)),
    "regression-3": ({"num_labels": 3, "problem_type": "regression"}, torch.randn(3, 3)),
    "single": ({"num_labels": 3}, torch.tensor([0, 2, 1])),
    "single-int32": ({"num_labels": 3}, torch.tensor([0, 2, 1])),
    "multi": (
        {"num_labels": 3, "problem_type": "multi_label_classification"},
        torch.tensor([[1.0, 0, 1]] * 3),
    ),
    "multi-inferred": ({"num_labels": 3}, torch.tensor([[1.0, 0, 1]] * 3)),
    "ignored": ({"num_labels": 3, "problem_type": "single_label_classification"}, torch.tensor([0, -100, 1])),
}


@pytest.mark.parametrize("problem", list(PROBLEMS))
@pytest.mark.parametrize("model_type", list(text_families()))
def test_sequence_losses(model_type: str, problem: str, reference: Make) -> None:
    overrides, labels = PROBLEMS[problem]
    folder = reference(model_type, "seqcls", overrides=overrides)
    ours, theirs = pair(folder)
    ids = torch.randint(5, 90, (3, 11), generator=torch.Generator().manual_seed(0))
    a, b = ours(ids, labels=labels), theirs(input_ids=ids, labels=labels)
    assert differences(a, b) == []


def test_deberta_leaves_out_negative_classes(reference: Make) -> None:
    ours, theirs = pair(reference("deberta-v2", "seqcls", overrides={"num_labels": 3}))
    ids = torch.randint(5, 90, (3, 11), generator=torch.Generator().manual_seed(0))
    for labels in (torch.tensor([0, -1, 2]), torch.tensor([-1, -1, -1])):
        assert torch.equal(ours(ids, labels=labels).loss, theirs(input_ids=ids, labels=labels)["loss"])


@pytest.mark.parametrize("model_type", list(text_families()))
def test_a_row_without_any_token(model_type: str, reference: Make) -> None:
    ours, theirs = pair(reference(model_type, "base"))
    ids = torch.randint(5, 90, (2, 9), generator=torch.Generator().manual_seed(0))
    mask = torch.tensor([[1] * 9, [0] * 9])
    assert (
        compare_forward(ours, theirs, Case(name="empty", inputs={"input_ids": ids, "attention_mask": mask}))
        == []
    )


@pytest.mark.parametrize("model_type", list(text_families()))
@pytest.mark.parametrize("dtype", [torch.bool, torch.int32, torch.float32])
def test_mask_dtypes(model_type: str, dtype: torch.dtype, reference: Make) -> None:
    ours, theirs = pair(reference(model_type, "base"))
    ids = torch.randint(5, 90, (2, 9), generator=torch.Generator().manual_seed(0))
    mask = torch.tensor([[1] * 9, [1] * 4 + [0] * 5]).to(dtype)
    with torch.no_grad():
        a, b = ours(ids, attention_mask=mask), theirs(input_ids=ids, attention_mask=mask)
    assert differences(a, b) == []
