"""Our models in the tools of transformers' users: HF's Trainer trains them as its own, bit for bit."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from biject.errors import WeightsError
from biject.pretrained import load
from biject.verify.reference import make_reference
from parity.harness import hf_model


class Texts(torch.utils.data.Dataset[dict[str, Tensor]]):
    """Token ids of three lengths, padded, and labels."""

    def __init__(self, *, every_token: bool = False) -> None:
        self.every_token = every_token

    def __len__(self) -> int:
        return 24

    def __getitem__(self, index: int) -> dict[str, Tensor]:
        draw = torch.Generator().manual_seed(index)
        ids = torch.randint(5, 90, (12,), generator=draw)
        mask = torch.arange(12) < (12, 7, 10)[index % 3]
        labels = torch.where(mask, ids, -100) if self.every_token else torch.tensor(index % 2)
        return {"input_ids": ids * mask, "attention_mask": mask.long(), "labels": labels}


def trained(model: nn.Module, folder: Path, data: Texts) -> tuple[list[Any], dict[str, float], Any]:
    """Losses, an evaluation and predictions."""
    from transformers import Trainer, TrainingArguments

    arguments = TrainingArguments(
        str(folder),
        num_train_epochs=2,
        per_device_train_batch_size=8,
        learning_rate=1e-3,
        logging_steps=1,
        eval_strategy="epoch",
        save_strategy="no" if data.every_token else "epoch",  # it cannot write tied matrices of a stranger
        report_to=[],
        use_cpu=True,
        disable_tqdm=True,
        seed=7,
    )
    trainer = Trainer(model, arguments, train_dataset=data, eval_dataset=data)
    trainer.model_accepts_loss_kwargs = False  # else HF's decoders divide by the labels before the shift
    trainer.train()
    losses = [
        (each["loss"], each["grad_norm"], each["learning_rate"])
        for each in trainer.state.log_history
        if "loss" in each
    ]
    evaluated = trainer.evaluate()
    return losses, evaluated, trainer.predict(data).predictions


@pytest.mark.parametrize("family, head", [("bert", "seqcls"), ("gpt2", "causal"), ("modernbert", "seqcls")])
def test_hfs_trainer_trains_ours_as_its_own(family: str, head: str, tmp_path: Path) -> None:
    folder = make_reference(family, head, tmp_path / "reference")
    ours = load(folder, layout="padded")  # dropout on, and HF's random numbers
    theirs = hf_model(folder, ours)
    data = Texts(every_token=head == "causal")
    losses, evaluated, predicted = trained(ours, tmp_path / "ours", data)
    expected, evaluation, predictions = trained(theirs, tmp_path / "theirs", data)
    assert losses == expected
    assert evaluated["eval_loss"] == evaluation["eval_loss"]
    assert torch.equal(torch.as_tensor(predicted), torch.as_tensor(predictions))
    ours.save_pretrained(tmp_path / "saved")
    again = load(tmp_path / "saved")
    assert all(torch.equal(a, b) for a, b in zip(again.parameters(), ours.parameters(), strict=True))


def test_with_a_tokenizer_and_checkpointing(tmp_path: Path) -> None:
    """HF's Trainer sets the tokenizer's special ids in `model.config`, and looks for its own method names."""
    from transformers import AutoTokenizer, Trainer, TrainingArguments

    folder = make_reference("bert", "seqcls", tmp_path / "reference")
    tokenizer = AutoTokenizer.from_pretrained(folder)
    tokenizer.add_special_tokens({"eos_token": "[SEP]"})
    found = []
    for model in (load(folder, layout="padded"), hf_model(folder, load(folder))):
        arguments = TrainingArguments(
            str(tmp_path / type(model).__name__),
            max_steps=3,
            per_device_train_batch_size=8,
            eval_strategy="steps",
            eval_steps=1,
            save_strategy="steps",
            save_steps=1,
            load_best_model_at_end=True,
            gradient_checkpointing=True,
            logging_steps=1,
            report_to=[],
            use_cpu=True,
            disable_tqdm=True,
            seed=7,
        )
        trainer = Trainer(
            model, arguments, train_dataset=Texts(), eval_dataset=Texts(), processing_class=tokenizer
        )
        trainer.train()
        assert model.config.eos_token_id == tokenizer.eos_token_id
        history = trainer.state.log_history
        found.append(([each.get("loss") for each in history], [each.get("eval_loss") for each in history]))
        found[-1] += (trainer.state.best_metric,)
    assert found[0] == found[1]


def test_peft_trains_ours_and_saving_says_why_it_refuses(tmp_path: Path) -> None:
    import peft

    model = load(make_reference("bert", "seqcls", tmp_path / "reference"))
    adapted = peft.get_peft_model(model, peft.LoraConfig(target_modules=["q_proj", "v_proj"]))
    item = {name: value[None] for name, value in Texts()[0].items()}
    adapted(**item).loss.backward()
    assert all(p.grad is not None for name, p in adapted.named_parameters() if "lora_B" in name)
    with pytest.raises(WeightsError, match="replaced or wrapped"):
        model.save_pretrained(tmp_path / "refused")
    assert not (tmp_path / "refused").exists()
    merged = adapted.merge_and_unload()
    merged.save_pretrained(tmp_path / "merged")
    again = load(tmp_path / "merged")
    assert torch.equal(again(**item).logits, merged.eval()(**item).logits)
