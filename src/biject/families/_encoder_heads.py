"""Heads of encoders: HF's classes, the names that each adds to the base model's, and how they are built."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from biject.config.common import num_labels
from biject.config.heads import (
    BaseHeadConfig,
    DenseConfig,
    HeadConfig,
    PooledHeadConfig,
    SpanHeadConfig,
    TokenHeadConfig,
    VocabHeadConfig,
)
from biject.config.layers import NormConfig
from biject.errors import ConfigError
from biject.families._family import Head
from biject.weights.rules import ParamSpecs, head, join, linear, optional

Values = Mapping[str, Any]
Names = Callable[[Values], ParamSpecs]


def encoder_heads(
    stem: str,
    backbone: Names,
    *,
    mlm: Names,
    seqcls: ParamSpecs | None = None,
    dense: Names = lambda _: (),
    pooler: str | None = None,
    qa: str = "qa_outputs",
    also_mlm: tuple[str, ...] = (),
) -> dict[str, Head]:
    """HF's classes of one family.

    Args:
        stem: what their names begin with.
        backbone: the transformer's names.
        mlm: what the masked-LM head adds.
        seqcls: what sequence classification adds, where that is not just `classifier`.
        dense: what all heads but masked LM add before their outputs.
        pooler: what the pooler is called in the base model, where there is one.
        qa: what question answering calls its output.
        also_mlm: other classes whose files the masked-LM head reads.
    """
    pooled = () if pooler is None else linear("head.pooler", pooler)
    classify = linear("head.out", "classifier") if seqcls is None else seqcls
    # Where sequence classification has a dense layer of its own, it does not use the base model's pooler.
    own_dense = any(spec.memory.startswith("head.dense.") for spec in classify)

    def output(*rules: ParamSpecs) -> Names:
        return lambda v: join(backbone(v), *rules[:-1], dense(v), head(rules[-1]))

    return {
        "base": Head(hf_class=f"{stem}Model", specs=lambda v: join(backbone(v), optional(pooled))),
        "seqcls": Head(
            hf_class=f"{stem}ForSequenceClassification", specs=output(() if own_dense else pooled, classify)
        ),
        "tokcls": Head(
            hf_class=f"{stem}ForTokenClassification", specs=output(linear("head.out", "classifier"))
        ),
        "qa": Head(hf_class=f"{stem}ForQuestionAnswering", specs=output(linear("head.out", qa))),
        "mlm": Head(hf_class=f"{stem}ForMaskedLM", specs=lambda v: join(backbone(v), mlm(v)), also=also_mlm),
    }


def encoder_head(
    v: Values,
    name: str,
    *,
    dropout: float,
    mlm: VocabHeadConfig,
    pooler: bool = False,
    qa_dropout: float = 0.0,
    row_dense: DenseConfig | None = None,
    **seqcls: Any,
) -> HeadConfig:
    """The head called `name`.

    Args:
        v: the config's values.
        name: of the head.
        dropout: before the outputs of token classification, and of sequence classification where `seqcls`
            does not say otherwise.
        mlm: the masked-LM head.
        pooler: the base model has a pooler, and sequence classification reads it.
        qa_dropout: before the outputs of question answering.
        row_dense: what token classification and question answering have before their outputs.
        seqcls: further fields of sequence classification.
    """
    match name:
        case "seqcls":
            given = {"dropout": dropout, "pooler": pooler, "problem_type": v["problem_type"], **seqcls}
            return PooledHeadConfig(num_labels=num_labels(v), **given)
        case "tokcls":
            return TokenHeadConfig(num_labels=num_labels(v), dropout=dropout, dense=row_dense)
        case "qa":
            return SpanHeadConfig(num_labels=span_labels(v), dropout=qa_dropout, dense=row_dense)
        case "mlm":
            return mlm
    return BaseHeadConfig(pooler=pooler)


def mlm_head(v: Values, *, size: int, act: str, **options: Any) -> VocabHeadConfig:
    """Masked LM: dense, activation, layer norm, output."""
    dense = DenseConfig(size=size, act=act, norm=NormConfig(kind="layer", eps=v["norm_eps"]))
    return VocabHeadConfig(num_labels=v["vocab_size"], dense=dense, **options)


def span_labels(v: Values) -> int:
    """Two, start and end.

    Raises:
        ConfigError: the config says otherwise.
    """
    if num_labels(v) != 2:
        raise ConfigError(
            f"config.json: question answering needs 2 labels (start, end), found {num_labels(v)}."
        )
    return 2


def first_set(*values: float | None) -> float:
    """The first value that is not null, as HF falls back from `classifier_dropout` to the hidden
    dropout.
    """
    return float(next(value for value in values if value is not None))
