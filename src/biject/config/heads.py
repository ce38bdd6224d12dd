"""Heads: what sits on the transformer. Each config type has its module in `nn/heads/`."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Literal

from biject.config.layers import NormConfig
from biject.config.sizes import Parts, linear, norm

ProblemType = Literal["regression", "single_label_classification", "multi_label_classification"]
Routers = Literal["unseen", "reported", "balanced"]
Rows = Literal["all", "first", "labelled", "texts", "grid"]
"""Rows of a batch: its tokens', each text's first, those with a label, one a text, HF's grid with padding."""


@dataclass(frozen=True, kw_only=True)
class HeadConfig:
    """What every head has."""

    computes: ClassVar[Rows] = "all"
    """What its products run over."""
    loss_reads_padding: ClassVar[bool] = False
    """Its loss needs the whole grid of rows."""
    routers: ClassVar[Routers] = "unseen"
    """What is done with the logits of experts' routers: also given, and also part of the loss."""

    num_labels: int = 0
    """Outputs; 0 for the base model."""
    dropout: float = 0.0
    """Before the output."""
    dropout_in: float = 0.0
    """Before the dense layer (or the output, where there is none)."""
    problem_type: ProblemType | None = None
    infer_problem: Literal["dtype", "shape"] = "dtype"
    """How an unset `problem_type` is inferred: from the labels' dtype (most families) or shape (DeBERTa)."""

    @property
    def reads(self) -> Rows:
        """The last layer's rows that it needs."""
        return "all"

    def parts(self, hidden_size: int, vocab_size: int) -> Parts:
        """Its parts by name, with their parameters' shapes; none for a head that does not say.

        Args:
            hidden_size: columns of the rows that it reads.
            vocab_size: rows of the token table.
        """
        del hidden_size, vocab_size
        return iter(())


@dataclass(frozen=True, kw_only=True)
class DenseConfig:
    """A linear, an activation and a norm (which may be the identity) before a head's output."""

    size: int
    act: str
    bias: bool = True
    norm: NormConfig = NormConfig(kind="none")  # noqa: RUF009

    def parts(self, inputs: int) -> Parts:
        """The linear and the norm after it."""
        yield "dense", linear(inputs, self.size, bias=self.bias)
        yield "norm", norm(self.norm, self.size)


@dataclass(frozen=True, kw_only=True)
class BaseHeadConfig(HeadConfig):
    """No head: hidden states, and the first row's where the model has a pooler."""

    computes: ClassVar[Rows] = "texts"
    routers: ClassVar[Routers] = "reported"
    pooler: bool = False
    """An activated linear over the first row, as part of the transformer (BERT)."""
    pooler_size: int | None = None
    """Its outputs; None for the hidden size."""
    pooler_act: str = "tanh"
    first_row: bool = False
    """Without a pooler, the first row itself is the pooled output (DINOv2)."""

    def parts(self, hidden_size: int, vocab_size: int) -> Parts:
        """The pooler."""
        del vocab_size
        return _pooler(hidden_size, present=self.pooler, size=self.pooler_size)


@dataclass(frozen=True, kw_only=True)
class PooledHeadConfig(HeadConfig):
    """One row of logits a text, from its first token or from the mean of its tokens."""

    computes: ClassVar[Rows] = "texts"
    pooling: Literal["first", "mean"] = "first"
    pooler: bool = False
    dense: DenseConfig | None = None

    @property
    def reads(self) -> Rows:
        """The first, or all where their mean is taken."""
        return "first" if self.pooling == "first" else "all"

    def parts(self, hidden_size: int, vocab_size: int) -> Parts:
        """Pooler, dense layer, output."""
        del vocab_size
        yield from _pooler(hidden_size, present=self.pooler)
        yield from _output("out", hidden_size, self.num_labels, dense=self.dense)


@dataclass(frozen=True, kw_only=True)
class PatchMeanHeadConfig(HeadConfig):
    """One row of logits a picture, from its first row and the mean of its patches, side by side (DINOv2)."""

    computes: ClassVar[Rows] = "texts"
    skipped: int = 1
    """Rows before the patches."""

    def parts(self, hidden_size: int, vocab_size: int) -> Parts:
        """The output."""
        del vocab_size
        return _output("out", 2 * hidden_size, self.num_labels)


@dataclass(frozen=True, kw_only=True)
class DistilledHeadConfig(HeadConfig):
    """Two rows of logits a picture, from its first row and its second, and their mean (DeiT); no loss."""

    computes: ClassVar[Rows] = "texts"

    def parts(self, hidden_size: int, vocab_size: int) -> Parts:
        """The two outputs."""
        del vocab_size
        yield from _output("out", hidden_size, self.num_labels)
        yield from _output("distillation_out", hidden_size, self.num_labels)


@dataclass(frozen=True, kw_only=True)
class LastHeadConfig(HeadConfig):
    """One row of logits a text, that of its last token."""

    computes: ClassVar[Rows] = "grid"
    """All rows of HF's, as the bits of so few outputs depend on their number."""

    def parts(self, hidden_size: int, vocab_size: int) -> Parts:
        """The output."""
        del vocab_size
        return _output("out", hidden_size, self.num_labels, bias=False)


@dataclass(frozen=True, kw_only=True)
class RowHeadConfig(HeadConfig):
    """A few logits for every token."""

    dense: DenseConfig | None = None
    out_bias: bool = True

    def parts(self, hidden_size: int, vocab_size: int) -> Parts:
        """Dense layer, output."""
        del vocab_size
        return _output("out", hidden_size, self.num_labels, dense=self.dense, bias=self.out_bias)


@dataclass(frozen=True, kw_only=True)
class TokenHeadConfig(RowHeadConfig):
    """Token classification."""

    float32_loss: bool = False
    """The loss is computed in float32 whatever the logits are in."""


@dataclass(frozen=True, kw_only=True)
class SpanHeadConfig(RowHeadConfig):
    """Extractive question answering: start and end."""

    loss_reads_padding: ClassVar[bool] = True
    """It is a softmax over all columns."""


@dataclass(frozen=True, kw_only=True)
class DetectionHeadConfig(RowHeadConfig):
    """Replaced-token detection: one number a token (ELECTRA)."""


@dataclass(frozen=True, kw_only=True)
class VocabHeadConfig(HeadConfig):
    """A language model's output over the vocabulary."""

    computes: ClassVar[Rows] = "labelled"
    routers: ClassVar[Routers] = "balanced"
    dense: DenseConfig | None = None
    out_bias: bool = True
    bias_added: bool = False
    """The bias is added after the product, not fused into it; the last bit can differ."""
    causal: bool = False
    """Each token predicts the next one."""
    float32_loss: bool = False
    softcap: float | None = None
    """Logits are kept within ± this, by a tanh (Gemma 2)."""

    @property
    def reads(self) -> Rows:
        """Those with a label, where there are labels."""
        return "labelled"

    def parts(self, hidden_size: int, vocab_size: int) -> Parts:
        """Dense layer, output."""
        return _output("decoder", hidden_size, vocab_size, dense=self.dense, bias=self.out_bias)


def _pooler(width: int, *, present: bool, size: int | None = None) -> Parts:
    if present:
        yield "pooler", linear(width, size or width)


def _output(
    name: str, inputs: int, outputs: int, *, dense: DenseConfig | None = None, bias: bool = True
) -> Parts:
    if dense is not None:
        yield from dense.parts(inputs)
        inputs = dense.size
    yield name, linear(inputs, outputs, bias=bias)
