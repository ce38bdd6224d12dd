from __future__ import annotations

from typing import Any

import pytest
import torch

from biject.families import HEADS, text_families
from biject.verify.inputs import limits, num_labels, probe_cases, training_case
from biject.verify.reference import reference_config

NAMES = {
    *("alone", "right-padded", "left-padded", "holes", "all-ones", "segments"),
    *("length-1", "max-length", "position-ids", "inputs-embeds"),
}


def config(model_type: str, **overrides: Any) -> dict[str, Any]:
    return {"model_type": model_type, **reference_config(model_type, overrides=overrides)}


@pytest.mark.parametrize("model_type", text_families())
def test_inputs_stay_inside_the_limits(model_type: str) -> None:
    length = text_families()[model_type].config.keys["max_position_embeddings"].name
    values = config(model_type, pad_token_id=5, **{length: 40})
    bound = limits(values)
    cases = {case.name: case.inputs for case in probe_cases(values)}
    assert set(cases) == NAMES - (set() if bound.takes_segments else {"segments"})
    for name, inputs in cases.items():
        ids = inputs.get("input_ids")
        if ids is not None:
            assert 0 <= int(ids.min()) <= int(ids.max()) < bound.vocab_size
            real = ids[inputs["attention_mask"] == 1] if "attention_mask" in inputs else ids
            assert not bool((real == 5).any()), name  # the pad id is padding only
    assert cases["max-length"]["input_ids"].shape == (1, 40 - bound.first_position)
    assert cases["length-1"]["input_ids"].shape == (2, 1)
    assert int(cases["position-ids"]["position_ids"].max()) < 40
    assert cases["left-padded"]["attention_mask"][1, 0] == 0
    assert cases["holes"]["attention_mask"][2, 0] == 0  # HF pools column 0 even when it is masked


@pytest.mark.parametrize("model_type", text_families())
def test_the_same_every_time(model_type: str) -> None:
    one, other = (probe_cases(config(model_type)) for _ in range(2))
    for a, b in zip(one, other, strict=True):
        assert all(torch.equal(a.inputs[name], b.inputs[name]) for name in a.inputs)


def test_lengths_fit_the_feed_forward_chunks() -> None:
    for case in probe_cases(config("bert", chunk_size_feed_forward=4)):
        value = case.inputs.get("input_ids", case.inputs.get("inputs_embeds"))
        assert value is not None
        assert value.shape[1] % 4 == 0


@pytest.mark.parametrize("head", HEADS)
def test_labels_fit_the_head(head: str) -> None:
    inputs = training_case(config("bert", num_labels=3), head).inputs
    given = set(inputs) - {"input_ids", "attention_mask", "token_type_ids"}
    assert given == {"base": set(), "qa": {"start_positions", "end_positions"}}.get(head, {"labels"})
    if head in ("tokcls", "mlm"):
        assert bool((inputs["labels"][inputs["attention_mask"] == 0] == -100).all())
        assert bool((inputs["labels"] >= 0).any())


@pytest.mark.parametrize(
    ("overrides", "dtype", "shape"),
    [
        ({"num_labels": 1}, torch.float32, (3,)),
        ({"num_labels": 3, "problem_type": "regression"}, torch.float32, (3, 3)),
        ({"num_labels": 3, "problem_type": "multi_label_classification"}, torch.float32, (3, 3)),
        ({"num_labels": 3}, torch.int64, (3,)),
    ],
)
def test_labels_fit_the_problem(
    overrides: dict[str, Any], dtype: torch.dtype, shape: tuple[int, ...]
) -> None:
    labels = training_case(config("bert", **overrides), "seqcls").inputs["labels"]
    assert labels.dtype == dtype
    assert labels.shape == shape


def test_num_labels_is_hfs_rule() -> None:
    assert num_labels({}) == 2
    assert num_labels({"num_labels": 4}) == 4
    assert num_labels({"num_labels": 4, "id2label": {"0": "a", "1": "b", "2": "c"}}) == 3
