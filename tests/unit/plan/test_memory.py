"""Memory by the formula: what each method, optimizer and quantisation takes, in numbers checked by hand."""

from __future__ import annotations

from typing import Any

import pytest

from biject.config.flops import TextBatch
from biject.config.model import ModelConfig
from biject.families import family
from biject.plan.activations import Kept
from biject.plan.memory import Setup, training_memory

BATCH = TextBatch(lengths=(16, 16))
MATRICES = 12 * (4 * 768 * 768 + 2 * 768 * 3072)
"""Of BERT-base's layers."""
NUMBERS = 109_483_778
"""Of BertForSequenceClassification."""


@pytest.fixture(scope="module")
def bert() -> ModelConfig:
    known = family("bert")
    return known.build(known.config.read({"model_type": "bert", **known.base}), "seqcls")


def memory(config: ModelConfig, **options: Any) -> Any:
    return training_memory(config, BATCH, Setup(**{"kept": Kept(), **options}))


def test_full_fine_tuning_holds_four_numbers_a_parameter(bert: ModelConfig) -> None:
    found = memory(bert)
    assert (found.weights, found.gradients, found.optimizer) == (4 * NUMBERS, 4 * NUMBERS, 8 * NUMBERS)
    assert found.peak == sum(found.parts().values())


@pytest.mark.parametrize(
    ("optimizer", "momentum", "states"),
    [("adamw", False, 2), ("sgd", False, 0), ("sgd", True, 1), ("rmsprop", True, 2), ("adagrad", False, 1)],
)
def test_optimizers(bert: ModelConfig, optimizer: str, momentum: bool, states: int) -> None:
    assert memory(bert, optimizer=optimizer, momentum=momentum).optimizer == 4 * states * NUMBERS


def test_adafactor_keeps_rows_and_columns(bert: ModelConfig) -> None:
    assert 0 < memory(bert, optimizer="adafactor").optimizer < 0.01 * memory(bert).optimizer


@pytest.mark.parametrize(
    ("quantization", "double", "bytes_a_number"),
    [("nf4", False, 0.5 + 4 / 64), ("nf4", True, 0.5 + (1 + 4 / 256) / 64), ("int8", False, 1.0)],
)
def test_quantised_bases(bert: ModelConfig, quantization: str, double: bool, bytes_a_number: float) -> None:
    found = memory(bert, quantization=quantization, double_quant=double)
    rest = 4 * (NUMBERS - MATRICES)
    rows = 12 * 4 * (5 * 768 + 3072) if quantization == "int8" else 0
    assert found.weights == pytest.approx(rest + MATRICES * bytes_a_number + rows, abs=2)


def test_an_adapter_takes_its_own_numbers_alone(bert: ModelConfig) -> None:
    kept = Kept(
        trained=lambda name: name == "head.out", rank=lambda name: 8 if name.endswith("q_proj") else 0
    )
    found = memory(bert, kept=kept)
    numbers = 12 * 8 * (768 + 768) + 2 * 768 + 2
    assert found.gradients == 4 * numbers
    assert found.optimizer == 8 * numbers
    assert found.weights == 4 * NUMBERS + 4 * 12 * 8 * (768 + 768)
    assert found.activations < memory(bert).activations


def test_the_largest_of_what_comes_and_goes_counts(bert: ModelConfig) -> None:
    plain, stored, proved = (
        memory(bert),
        memory(bert, checkpoint=True),
        memory(bert, checkpoint=True, proof=True),
    )
    assert stored.peak - plain.peak == 2 * stored.optimizer - plain.workspace
    assert proved.peak == stored.peak  # the proof comes after the last checkpoint


def test_a_tied_output_is_counted_once() -> None:
    known = family("gpt2")
    values = known.config.read({"model_type": "gpt2", **known.base})
    tied, loose = (
        known.build(values, "causal"),
        known.build({**values, "tie_word_embeddings": False}, "causal"),
    )
    batch = TextBatch(lengths=(16,), labelled=16)
    sizes = [training_memory(each, batch, Setup(kept=Kept())).weights for each in (loose, tied)]
    assert sizes[0] - sizes[1] == 4 * 50257 * 768
