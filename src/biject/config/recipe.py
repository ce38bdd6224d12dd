"""`TrainConfig`: everything that decides how a model is trained; `FinetuneRecipe`: a whole run. No torch."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal, Self

from biject.config.adapter import USUAL, LoraConfig
from biject.config.augment import PLAIN, AugmentConfig
from biject.config.embed import USUAL_EMBED, EmbedConfig, embed_faults
from biject.config.model import ProblemType
from biject.config.preference import USUAL_PREFERENCE, PreferenceConfig, faults_of
from biject.config.settings import check_names, not_among, not_positive, refuse
from biject.config.sync import ALIKE, SyncConfig
from biject.config.tasks import head_of

Schedule = Literal["linear", "cosine", "constant"]
Precision = Literal["fp32", "bf16", "f16"]
FinetuneTask = Literal[
    "seqcls", "tokcls", "qa", "mlm", "causal", "imgcls", "dpo", "reward", "embed", "rerank"
]
TagScheme = Literal["IOB1", "IOB2", "IOE1", "IOE2", "IOBES", "BILOU"]
OptimizerName = Literal[
    "adamw",
    "adamw_torch",
    "adamw_torch_fused",
    "adafactor",
    "adagrad",
    "adam",
    "nadam",
    "radam",
    "rmsprop",
    "sgd",
    "adamw_8bit",
    "adamw_bnb_8bit",
    "lion_8bit",
    "lion_32bit",
    "paged_adamw_8bit",
    "paged_adamw_32bit",
    "paged_lion_8bit",
    "paged_lion_32bit",
]
Numerics = Literal["exact", "fast"]
Method = Literal["full", "lora", "qlora"]
Backend = Literal["biject", "hf"]
TextUnit = Literal["line", "paragraph", "document"]


@dataclass(frozen=True, kw_only=True)
class TrainConfig:
    """How to train.

    Attributes:
        batch_size: Samples a device computes at once.
        max_tokens: Instead of `batch_size`: as many samples as fit, padding counted.
        accumulate: Batches a device adds up before each optimizer step.
        epochs: Passes over the data; ignored where `max_steps` is given.
        max_steps: Optimizer steps.
        optimizer: Of torch.optim, by its name or HF's; `adamw` is the fused one, `adamw_torch` the other.
            Those in 8 bits and the paged ones are bitsandbytes' (`biject[quant]`).
        lr: Peak learning rate.
        schedule: What follows the warm-up.
        warmup: Steps, or below 1 a share of all steps.
        weight_decay: Not on norms and biases.
        momentum: Of `sgd` and `rmsprop`.
        beta1: First moment of AdamW, Adam, NAdam and RAdam.
        beta2: Second moment of the same.
        eps: Their epsilon, and that of `adagrad` and `rmsprop`.
        class_weights: What each class weighs in the loss: `balanced` (by how rare it is in the training
            data), a weight a class, or a table of some by name; of several labels a text, what a present one
            weighs.
        label_smoothing: The share of each label that all classes have alike: HF's `label_smoothing_factor`.
        clip_norm: Largest norm of all gradients together; None for no clipping.
        layer_decay: Learning rate of each layer relative to the one above it.
        freeze: Names (or beginnings of names) of parameters that stay as they are, e.g. `embed`, `layers.0`.
        precision: `bf16` and `f16` compute under autocast; masters stay as they are loaded.
        seed: Of the order of the data and of dropout.
        deterministic: Refuse operations without a deterministic implementation.
        gradient_checkpointing: Recompute layers in the backward pass instead of keeping their values.
        compile: `torch.compile` the model.
        evaluate_every: Optimizer steps between evaluations; 0 for once an epoch.
        checkpoint_every: Optimizer steps between checkpoints; 0 for none but that of the best evaluation.
        checkpoint_async: Write checkpoints while training goes on; takes the memory of weights and moments
            once more, on the CPU.
        keep: Checkpoints kept, the latest among them; the best stays as well.
        metric: What decides which evaluation is best; a leading `-` means smaller is better, as it is of
            losses, `perplexity` and `mse` without one.
        patience: Evaluations without a better one before stopping; 0 for never.
        load_best: End with the weights of the best evaluation; False ends with the last step's.
    """

    batch_size: int = 32
    max_tokens: int | None = None
    accumulate: int = 1
    epochs: int = 3
    max_steps: int | None = None
    optimizer: OptimizerName = "adamw"
    lr: float = 5e-5
    schedule: Schedule = "linear"
    warmup: float = 0.0
    weight_decay: float = 0.01
    momentum: float = 0.0
    beta1: float = 0.9
    beta2: float = 0.999
    eps: float = 1e-8
    class_weights: Literal["balanced"] | tuple[float, ...] | dict[str, float] | None = None
    label_smoothing: float = 0.0
    clip_norm: float | None = 1.0
    layer_decay: float = 1.0
    freeze: tuple[str, ...] = ()
    precision: Precision = "fp32"
    seed: int = 0
    deterministic: bool = False
    gradient_checkpointing: bool = False
    compile: bool = False
    evaluate_every: int = 0
    checkpoint_every: int = 0
    checkpoint_async: bool = False
    keep: int = 2
    metric: str = "-loss"
    patience: int = 0
    load_best: bool = True

    def __post_init__(self) -> None:
        """Raise `ConfigError` for values that cannot be trained with, all in one message."""
        at_least = {
            "batch_size": 1, "accumulate": 1, "epochs": 1, "keep": 0, "patience": 0, "evaluate_every": 0,
            "checkpoint_every": 0, "seed": 0,
        }  # fmt: skip
        faults = [
            f"`{name}` should be at least {low}, found {getattr(self, name)}"
            for name, low in at_least.items()
            if getattr(self, name) < low
        ]
        positive = ("lr", "eps", "layer_decay", "max_tokens", "max_steps", "clip_norm")
        faults += not_positive(self, positive)
        kinds = {"optimizer": OptimizerName, "schedule": Schedule, "precision": Precision}
        faults += not_among(self, kinds)
        if not 0 <= self.label_smoothing < 1:
            faults.append(f"`label_smoothing` should be at least 0 and below 1, found {self.label_smoothing}")
        given: Any = self.class_weights
        if isinstance(given, list):
            object.__setattr__(self, "class_weights", tuple(given))
        if _bad_weights(self.class_weights):
            faults.append(
                "`class_weights` should be balanced, a weight above 0 for each class, or a table of such by "
                f"name; found {self.class_weights!r}"
            )
        if not 0 <= self.momentum < 1:
            faults.append(f"`momentum` should be at least 0 and below 1, found {self.momentum}")
        if not self.warmup >= 0:
            faults.append(f"`warmup` should not be negative, found {self.warmup}")
        refuse(faults)

    @classmethod
    def of(cls, values: dict[str, Any]) -> Self:
        """From plain values.

        Raises:
            ConfigError: a name that is no setting.
        """
        check_names(cls, values)
        return cls(**values)


def _bad_weights(given: Any) -> bool:
    if given is None or given == "balanced":
        return False
    values = list(given.values()) if isinstance(given, dict) else given
    if isinstance(values, str) or not values:
        return True
    return not all(isinstance(v, int | float) and 0 < v < float("inf") for v in values)


@dataclass(frozen=True, kw_only=True)
class FinetuneRecipe:
    """A fine-tuning run: what `run.toml` says.

    Attributes:
        model: Checkpoint folder, or repository on the Hub.
        data: A file of rows, or a data set of the Hub.
        task: The head to train.
        revision: Of the model's repository.
        eval_data: Rows to evaluate on; left out, a part of `data` is held back.
        validation: That part; 0 for no evaluation.
        data_split: Of a Hub data set.
        eval_split: Of a Hub data set.
        data_subset: Of a Hub data set that has several.
        text_column: One column, or two for pairs; prompts, where `label_column` names responses (causal).
        label_column: One column; for several outputs, several.
        image_column: Where pictures stand, as paths from the file's folder or as bytes (imgcls); left out,
            the first of the usual names.
        outside_files: Read pictures outside of the data's folder, too: full paths, `..`, links (imgcls).
        check_pictures: Read every picture before training, so that none fails later (imgcls); False looks at
            their headers only.
        messages_column: Where conversations stand as lists of messages (causal).
        system_column: Where the system's texts stand beside prompts (causal).
        sample_by: What is one row of a .txt file; paragraphs have blank lines between them.
        delimiter: Between the columns of a .csv file; left out, what it plainly has.
        skip_bad_rows: Leave out rows that cannot be used, and say how many; False refuses the file.
        labels: Names of the classes in their order; left out, the model's own or those found in the data.
        problem_type: Of a text classifier; left out, found by the labels.
        label_separator: Between several labels in one text.
        tag_scheme: How labels spell entities, to count only what the scheme's rules allow (tokcls); left out,
            any tag that cannot continue an entity begins one, as in conlleval.
        label_all: Label all sub-words of a word, not just the first (tokcls).
        stride: Tokens that windows of one context share (qa; left out, 128 or what fits), or pieces of one
            text (causal; left out, 1).
        packing: Put texts together in blocks of `max_length` tokens, apart from each other (causal).
        pieces: Read texts over `max_length` in several samples; False cuts them (causal, plain text).
        end_of_text: Put the end-of-text token behind every text (causal, plain text).
        mask_share: Of the tokens (mlm).
        whole_words: Mask whole words (mlm).
        new_head: Start with a new head even if the model has one.
        max_length: In tokens; left out, what model and tokenizer take.
        truncate: False refuses longer texts.
        dtype: Of the exported weights; they are trained in float32.
        numerics: `exact` leaves out only what keeps HF's bits, `fast` also what changes rounding; left out,
            exact on the CPU and fast elsewhere.
        device: `auto` is a GPU where there is one.
        train: How to train.
        sync: How processes under torchrun share the work.
        method: `full` trains every parameter; `lora` an adapter beside them; `qlora` the same on a base
            held in few bits.
        quantization: How `qlora` holds the base.
        double_quant: The scales of nf4 and fp4 are quantised, too.
        merge: Also write `model/`, the base with the adapter in it.
        backend: `biject` computes with its own classes; `hf` with those of transformers, for any of its
            architectures, without some of our gains.
        adapter: The adapter's settings.
        augment: Random changes of pictures (imgcls).
        preference: What is learned from pairs of texts (dpo, reward).
        embed: How embedders and rerankers learn (embed, rerank).
    """

    model: str
    data: str
    task: FinetuneTask
    revision: str | None = None
    eval_data: str | None = None
    validation: float = 0.1
    data_split: str = "train"
    eval_split: str = "validation"
    data_subset: str | None = None
    text_column: str | tuple[str, ...] | None = None
    label_column: str | tuple[str, ...] | None = None
    image_column: str | None = None
    outside_files: bool = False
    check_pictures: bool = True
    messages_column: str | None = None
    system_column: str | None = None
    sample_by: TextUnit = "line"
    delimiter: str | None = None
    skip_bad_rows: bool = False
    labels: tuple[str, ...] = ()
    problem_type: ProblemType | None = None
    label_separator: str | None = None
    tag_scheme: TagScheme | None = None
    label_all: bool = False
    stride: int | None = None
    packing: bool = False
    pieces: bool = True
    end_of_text: bool = True
    mask_share: float = 0.15
    whole_words: bool = False
    new_head: bool = False
    max_length: int | None = None
    truncate: bool = True
    dtype: Literal["float32", "float16", "bfloat16"] = "float32"
    numerics: Numerics | None = None
    device: str = "auto"
    train: TrainConfig = TrainConfig()
    sync: SyncConfig = ALIKE
    method: Method = "full"
    quantization: Literal["nf4", "fp4", "int8"] = "nf4"
    double_quant: bool = True
    merge: bool = False
    backend: Backend = "biject"
    adapter: LoraConfig = USUAL
    augment: AugmentConfig = PLAIN
    preference: PreferenceConfig = USUAL_PREFERENCE
    embed: EmbedConfig = USUAL_EMBED

    def __post_init__(self) -> None:
        """Raise `ConfigError` for values that cannot be used, all in one message."""
        faults = [f"`{name}` is empty" for name in ("model", "data") if not getattr(self, name)]
        if not 0 <= self.validation < 1:
            faults.append(f"`validation` should be at least 0 and below 1, found {self.validation}")
        if not 0 < self.mask_share < 1:
            faults.append(f"`mask_share` should be between 0 and 1, found {self.mask_share}")
        if self.max_length is not None and self.max_length < 3:
            faults.append(f"`max_length` should be at least 3, found {self.max_length}")
        if self.stride is not None and self.stride < 0:
            faults.append(f"`stride` should not be negative, found {self.stride}")
        if self.method == "full" and (self.adapter != USUAL or self.merge):
            faults.append("`adapter` and `merge` are for `method` lora or qlora, found full")
        faults += faults_of(
            self.task,
            self.preference,
            reweighted=self.train.class_weights is not None or self.train.label_smoothing > 0,
            shard=self.sync.shard,
            new_head=self.new_head,
        )
        faults += embed_faults(self.task, self.embed)
        if self.method == "qlora" and self.merge:
            faults.append(
                "`merge` is not for `method` qlora: `biject merge` compares what it can be merged into"
            )
        if self.method != "full" and self.train.freeze:
            faults.append("`train.freeze` is for `method` full: with an adapter nothing else trains")
        if self.method == "qlora" and self.sync.shard:
            faults.append("`sync.shard` is for `method` full or lora: codes of few bits are not spread")
        if self.train.precision != "fp32" and self.sync.shard:
            faults.append("`sync.shard` computes in `sync.shard_dtype`: leave `train.precision` at fp32")
        faults += self._beyond_hf() if self.backend == "hf" else []
        faults += self._for_other_tasks()
        refuse(faults)

    @property
    def head(self) -> str:
        """The head that the task trains."""
        return head_of(self.task)

    def _for_other_tasks(self) -> list[str]:
        faults = ["`labels` names one twice"] if len(set(self.labels)) < len(self.labels) else []
        if self.task != "imgcls":
            given = {
                "augment": self.augment != PLAIN,
                "image_column": self.image_column is not None,
                "outside_files": self.outside_files,
                "check_pictures": not self.check_pictures,
            }
            faults += [
                f"`{name}` is for the task imgcls, found {self.task}"
                for name, is_set in given.items()
                if is_set
            ]
        return faults

    def _beyond_hf(self) -> list[str]:
        """Settings that have no meaning, or are not tried, with transformers' classes."""
        refused = {
            "method": self.method == "qlora",
            "numerics": self.numerics is not None,
            "packing": self.packing,
            "sync.shard": self.sync.shard,
            "sync.mode": self.sync.mode != "step",
        }
        return [f"`{name}` is not for `backend` hf: leave it out" for name, found in refused.items() if found]
