from __future__ import annotations

import pytest

from biject.errors import WeightsError
from biject.families import families
from biject.weights.plan import Plan, make_plan, spellings
from biject.weights.rules import (
    ParamSpecs,
    embed,
    head,
    join,
    linear,
    norm,
    optional,
    output_bias,
    output_matrix,
)

SLOTS = join(
    embed("embed.tokens", "embeddings.words"),
    norm("embed_norm", "embeddings.LayerNorm"),
    optional(linear("head.pooler", "pooler.dense")),
    head(linear("head.dense", "lm.dense")),
    output_matrix("head.decoder.weight", "lm.decoder.weight", tied_to="embed.tokens.weight"),
    output_bias("head.decoder.bias", "lm.decoder.bias", alias="lm.bias"),
)
FILE = (
    "m.embeddings.words.weight", "m.embeddings.LayerNorm.weight", "m.embeddings.LayerNorm.bias",
    "m.pooler.dense.weight", "m.pooler.dense.bias", "lm.dense.weight", "lm.dense.bias", "lm.bias",
)  # fmt: skip


def plan(
    names: tuple[str, ...] = FILE, *, tied: bool = True, same: bool = True, new_head: bool = False
) -> Plan:
    return make_plan(
        SLOTS, names, prefix="m", tied=tied, same=lambda a, b: same, new_head=new_head, where="here"
    )


def disk(made: Plan) -> dict[str, tuple[str, ...]]:
    return {binding.memory: binding.disk for binding in made.bindings}


@pytest.mark.parametrize("spelling", spellings("m"))
def test_every_spelling_is_a_bijection(spelling: object) -> None:
    assert hasattr(spelling, "name")
    names = tuple(spelling.name(spec) for spec in SLOTS if not spec.tied_to)
    made = plan(names)
    assert made.spelling == spelling
    assert made.passthrough == ()
    assert sorted(name for names in disk(made).values() for name in names) == sorted(names)


def test_a_missing_tensor_is_named_with_its_nearest_relative() -> None:
    names = tuple(name.replace("words", "word") for name in FILE)
    with pytest.raises(WeightsError) as caught:
        plan(names)
    assert "here lacks 1 tensor" in str(caught.value)
    assert "`embed.tokens.weight` needs `m.embeddings.words.weight`" in str(caught.value)
    assert "nearest unused: `m.embeddings.word.weight`" in str(caught.value)


@pytest.mark.parametrize("wrapper", ["module.", "_orig_mod.", "base_model.model."])
def test_a_wrapper_is_recognised(wrapper: str) -> None:
    with pytest.raises(WeightsError, match=f"prefix `{wrapper}`"):
        plan(tuple(wrapper + name for name in FILE))


@pytest.mark.parametrize(
    "name",
    [
        "m.layers.0.lora_A.weight",
        "m.layers.0.base_layer.weight",
        "m.x.qweight",
        "m.x.weight.absmax",
        "m.x.parametrizations.weight.original0",
    ],
)
def test_foreign_maths_is_refused(name: str) -> None:
    with pytest.raises(WeightsError, match=name):
        plan((*FILE, name))


def test_optional_parts_may_be_absent() -> None:
    made = plan(tuple(name for name in FILE if "pooler" not in name))
    assert made.absent == ("head.pooler.weight", "head.pooler.bias")


def test_twins() -> None:
    both = (*FILE, "lm.decoder.weight", "lm.decoder.bias")
    assert disk(plan())["head.decoder.bias"] == ("lm.bias",)
    assert plan().tied_output
    shared = plan(both)
    assert disk(shared)["embed.tokens.weight"] == ("m.embeddings.words.weight", "lm.decoder.weight")
    assert disk(shared)["head.decoder.bias"] == ("lm.decoder.bias", "lm.bias")
    differ = plan(both, same=False)
    assert disk(differ)["head.decoder.weight"] == ("lm.decoder.weight",)
    assert not differ.tied_output
    assert differ.passthrough == ("lm.bias",)


def test_untied_needs_its_own_matrix_and_bias() -> None:
    with pytest.raises(WeightsError) as caught:
        plan(tied=False)
    assert "`lm.decoder.weight`" in str(caught.value)
    assert "`lm.decoder.bias`" in str(caught.value)
    made = plan((*FILE, "lm.decoder.weight", "lm.decoder.bias"), tied=False)
    assert not made.tied_output
    assert made.passthrough == ("lm.bias",)


def test_a_new_head_has_a_new_output_and_keeps_what_the_file_has_before_it() -> None:
    made = plan(new_head=True)
    assert [b.memory for b in made.initialized] == ["head.decoder.bias"]
    assert made.initialized[-1].disk == ("lm.bias",)
    assert disk(made)["head.dense.weight"] == ("lm.dense.weight",)
    assert made.passthrough == ("lm.bias",)
    assert made.tied_output
    lacking = plan(tuple(name for name in FILE if "lm.dense" not in name), new_head=True)
    assert [b.memory for b in lacking.initialized] == [
        "head.dense.weight",
        "head.dense.bias",
        "head.decoder.bias",
    ]


@pytest.mark.parametrize("model_type", list(families()))
def test_expanded_names_never_meet(model_type: str) -> None:
    """No two specs of a head share a name, on either side, under any spelling."""
    known = families()[model_type]
    for name, one in known.heads.items():
        values = known.config.read(known.tiny)
        resolved = known.resolve(values, frozenset(), name, None) if known.resolve else values
        specs: ParamSpecs = one.specs(resolved)
        assert len({spec.memory for spec in specs}) == len(specs)
        for spelling in spellings(known.prefix):
            assert len({spelling.name(spec) for spec in specs}) == len(specs)
