"""TRL's trainers on a model of our own making: what they compute of one batch is the oracle."""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch

from biject.pretrained import PretrainedModel
from biject.verify.compare import hf_names

NO_DROPOUT: Mapping[str, dict[str, float]] = {
    "gpt2": {"attn_pdrop": 0.0, "resid_pdrop": 0.0, "embd_pdrop": 0.0},
    "bert": {"hidden_dropout_prob": 0.0, "attention_probs_dropout_prob": 0.0},
}
"""TRL switches off modules of dropout alone, not the attention's own rate: so it is off in the config."""

Rows = Sequence[Mapping[str, Any]]


def no_dropout(model_type: str) -> dict[str, float]:
    """Config keys without dropout."""
    return dict(NO_DROPOUT.get(model_type, {"attention_dropout": 0.0}))


def _arguments(folder: Path, count: int) -> dict[str, Any]:
    return {
        "output_dir": str(folder / "trl"),
        "report_to": [],
        "bf16": False,
        "use_cpu": True,
        "gradient_checkpointing": False,
        "per_device_train_batch_size": count,
        "disable_tqdm": True,
    }


def dpo_trainer(folder: Path, rows: Rows, *, peft_config: Any = None, **settings: Any) -> Any:
    """TRL's trainer of the checkpoint in a folder, which is its reference, too."""
    import transformers
    from datasets import Dataset
    from trl import DPOConfig, DPOTrainer

    return DPOTrainer(
        model=transformers.AutoModelForCausalLM.from_pretrained(folder),
        args=DPOConfig(**_arguments(folder, len(rows)), **settings),
        train_dataset=Dataset.from_list([dict(row) for row in rows]),
        processing_class=transformers.AutoTokenizer.from_pretrained(folder),
        peft_config=peft_config,
    )


def reward_trainer(folder: Path, rows: Rows, **settings: Any) -> Any:
    """The same for reward models."""
    import transformers
    from datasets import Dataset
    from trl import RewardConfig, RewardTrainer

    return RewardTrainer(
        model=transformers.AutoModelForSequenceClassification.from_pretrained(folder),
        args=RewardConfig(**_arguments(folder, len(rows)), **settings),
        train_dataset=Dataset.from_list([dict(row) for row in rows]),
        processing_class=transformers.AutoTokenizer.from_pretrained(folder),
    )


def prepared(trainer: Any, rows: Rows, limit: int | None) -> Any:
    """What its trainer makes of other rows."""
    from datasets import Dataset

    args = copy.copy(trainer.args)
    args.max_length = limit
    dataset = Dataset.from_list([dict(row) for row in rows])
    return trainer._prepare_dataset(dataset, trainer.processing_class, args, "other")


def batch_of(trainer: Any) -> dict[str, Any]:
    """All of its rows as one batch."""
    return trainer.data_collator([trainer.train_dataset[i] for i in range(len(trainer.train_dataset))])


def metrics_of(trainer: Any) -> dict[str, float]:
    """What it logged of its last batch."""
    return {name: values[-1] for name, values in trainer._metrics["train"].items()}


def moved(trainer: Any, *, by: float = 0.02) -> None:
    """Move what is trained away from where it began, so that it differs from the reference."""
    draw = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for parameter in trainer.model.parameters():
            if parameter.requires_grad:
                parameter.add_(by * torch.randn(parameter.shape, generator=draw))


def take_weights(ours: PretrainedModel, theirs: Any) -> dict[str, torch.nn.Parameter]:
    """Give our model the values of HF's, and find HF's parameter for each of ours."""
    names, parameters = hf_names(ours, theirs), dict(theirs.named_parameters(remove_duplicate=False))
    found = {name: parameters[names[name][0]] for name, _ in ours.named_parameters()}
    with torch.no_grad():
        for name, parameter in ours.named_parameters():
            parameter.copy_(found[name])
    return found
