"""FLOPs by config against torch's counter, for every family and head, packed and padded; backward, too."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from tests.flops import counter_of_products
from torch import Tensor
from torch.nn.attention import SDPBackend, sdpa_kernel

from biject.config.flops import TextBatch, forward_flops, training_flops
from biject.config.model import ModelConfig
from biject.families import family, text_families
from biject.nn.batch import Batch, HeadRequest
from biject.nn.transformer import Transformer

LENGTHS = (7, 20, 33, 48)
LABELLED = 11
SOME = ("albert", "deberta-v2", "gpt2", "qwen3")
CELLS = [(name, head) for name, known in text_families().items() for head in known.heads]


def tiny(name: str, head: str, **overrides: object) -> ModelConfig:
    known = family(name)
    values = known.config.read({"model_type": name, **known.tiny, **overrides})
    if known.resolve is not None:
        values = known.resolve(values, frozenset(), head, None)
    return known.build(values, head)


def make(config: ModelConfig) -> Transformer:
    """A model with random values: nothing is counted that depends on them."""
    model = Transformer(config).to_empty(device="cpu")
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.normal_(0, 0.02, generator=generator)
    model.tie_weights()
    model.planner.numerics = "fast"
    return model.train()


def inputs(config: ModelConfig, head: str, *, labels: bool) -> tuple[Batch, HeadRequest]:
    columns_L = torch.arange(max(LENGTHS))
    mask_BL = columns_L < torch.tensor(LENGTHS)[:, None]
    ids_BL = torch.where(mask_BL, 5 + columns_L % 7, config.pad_token_id or 0)
    batch = Batch(
        input_ids=ids_BL,
        inputs_embeds=None,
        attention_mask=mask_BL.long(),
        token_type_ids=None,
        position_ids=None,
    )
    given: dict[str, Tensor] = {}
    size = len(LENGTHS)
    if labels and head == "qa":
        given = {"start_positions": torch.ones(size).long(), "end_positions": torch.ones(size).long()}
    elif labels and head == "seqcls":
        given = {"labels": torch.zeros(size).long()}
    elif labels and head in ("tokcls", "rtd"):
        given = {"labels": torch.where(mask_BL, 1, -100)}
    elif labels and head in ("mlm", "causal"):
        labels_BL = torch.full(mask_BL.shape, -100)
        labels_BL[3, 1 : 1 + LABELLED] = 3
        given = {"labels": labels_BL}
    return batch, HeadRequest(**{"labels": None, "start_positions": None, "end_positions": None, **given})


def counted(model: Transformer, batch: Batch, request: HeadRequest, *, backward: bool = False) -> int:
    counter = counter_of_products()
    with sdpa_kernel(SDPBackend.MATH), counter:  # it does not know torch's fused kernel on the CPU
        out = model(batch, request)
        if backward:
            out.loss.backward()
    return int(counter.get_total_flops())


def sizes(head: str, *, labels: bool, packed: bool = True) -> TextBatch:
    labelled = LABELLED if labels and head in ("mlm", "causal") else None
    return TextBatch(lengths=LENGTHS, labelled=labelled, loss=labels, packed=packed)


@pytest.mark.parametrize(("name", "head"), CELLS)
def test_forward(name: str, head: str) -> None:
    config = tiny(name, head)
    model = make(config)
    for packed, labels in ((True, head != "base"), (False, False), *((True, False),) * (name in SOME)):
        model.planner.layout = "packed" if packed else "padded"
        with torch.set_grad_enabled(labels):
            found = counted(model, *inputs(config, head, labels=labels))
        batch = sizes(head, labels=labels, packed=packed)
        assert forward_flops(config, batch) == found, (packed, labels)


@pytest.mark.parametrize(("name", "head"), [(n, h) for n, h in CELLS if h != "base"])
def test_backward(name: str, head: str) -> None:
    """To the operation, packed and padded."""
    config = tiny(name, head)
    for packed in (True, False):
        model = make(config)
        model.planner.layout = "packed" if packed else "padded"
        found = counted(model, *inputs(config, head, labels=True), backward=True)
        assert training_flops(config, sizes(head, labels=True, packed=packed)) == found, packed


@pytest.mark.parametrize("buckets", [64, -1])
def test_a_position_table_that_texts_do_not_reach_the_ends_of(buckets: int) -> None:
    """Packed, products have the rows that are looked at; in HF's grid all 128."""
    config = tiny("deberta-v2", "seqcls", position_buckets=buckets, max_relative_positions=64)
    for packed in (True, False):
        model = make(config)
        model.planner.layout = "packed" if packed else "padded"
        found = counted(model, *inputs(config, "seqcls", labels=True), backward=True)
        assert training_flops(config, sizes("seqcls", labels=True, packed=packed)) == found, packed


def test_a_frozen_base_has_no_gradients_of_matrices() -> None:
    config = tiny("bert", "seqcls")
    model = make(config)
    for parameter in model.layers.parameters():
        parameter.requires_grad_(False)
    found = counted(model, *inputs(config, "seqcls", labels=True), backward=True)
    wanted = training_flops(
        config, sizes("seqcls", labels=True), trained=lambda name: not name.startswith("layers.")
    )
    assert wanted == found
    assert wanted < 0.8 * training_flops(config, sizes("seqcls", labels=True))


def test_recomputed_layers_are_counted_twice() -> None:
    config = tiny("bert", "seqcls")
    model = make(config)
    model.gradient_checkpointing = True
    found = counted(model, *inputs(config, "seqcls", labels=True), backward=True)
    assert training_flops(config, sizes("seqcls", labels=True), recomputed=True) == found


def test_a_wrong_size_is_seen() -> None:
    """The gate can fail: one layer too few, one too wide, padding counted as text."""
    config = tiny("bert", "mlm")
    found = counted(make(config), *inputs(config, "mlm", labels=True))
    right = sizes("mlm", labels=True)
    wide = replace(
        config,
        layers=tuple(replace(one, mlp=replace(one.mlp, intermediate_size=80)) for one in config.layers),
    )
    for other, batch in (
        (replace(config, layer_order=config.layer_order[1:]), right),
        (wide, right),
        (config, replace(right, packed=False)),
        (config, replace(right, labelled=None)),
    ):
        assert forward_flops(other, batch) != pytest.approx(found, rel=0.01)
