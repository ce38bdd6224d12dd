"""A small LLaMA learns instructions from real sentences: the loss falls, and what HF says from the export is
ours, token for token.
"""

from __future__ import annotations

import csv
import json
from pathlib import Path

import pytest
import torch

from biject.config.recipe import FinetuneRecipe, TrainConfig
from biject.pretrained import load
from biject.runs.finetune import finetune
from biject.tokenization.chatml import chat_template
from biject.tokenization.tokenizer import load_tokenizer
from parity.real import CACHE, real_folder

SNIPPETS = CACHE / "movie-snippets.csv"


@pytest.fixture(scope="module")
def llama(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two layers, random weights, the real GPT-2 tokenizer."""
    import transformers

    tokenizer = transformers.GPT2TokenizerFast.from_pretrained(real_folder("gpt2-bpe"))
    config = transformers.LlamaConfig(
        vocab_size=len(tokenizer),
        hidden_size=64,
        intermediate_size=128,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        max_position_embeddings=256,
        bos_token_id=tokenizer.eos_token_id,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=None,
        tie_word_embeddings=True,
    )
    folder = tmp_path_factory.mktemp("instruct") / "llama"
    torch.manual_seed(0)
    transformers.LlamaForCausalLM(config).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


def test_instructions(llama: Path, tmp_path: Path) -> None:
    if not SNIPPETS.is_file():
        pytest.skip("scripts/fetch_data.py has not been run")
    with SNIPPETS.open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))[:96]
    data = tmp_path / "chat.jsonl"
    data.write_text(
        "".join(
            json.dumps({"prompt": f"Is this praise? {row['text']}", "response": row["label"]}) + "\n"
            for row in rows
        )
    )
    recipe = FinetuneRecipe(
        model=str(llama),
        data=str(data),
        task="causal",
        max_length=128,
        train=TrainConfig(max_steps=60, batch_size=8, lr=1e-2),
    )
    done = finetune(recipe, out=tmp_path / "run")
    assert done.passed, done.report.lines() if done.report else None
    losses = done.fit.losses
    assert sum(losses[-5:]) < 0.5 * sum(losses[:5])
    _same_words(tmp_path / "run" / "model", [row["text"] for row in rows[:4]])


def _same_words(folder: Path, texts: list[str]) -> None:
    """HF's greedy continuation of prompts in the chat's form, and ours."""
    import transformers

    theirs = transformers.AutoModelForCausalLM.from_pretrained(folder)
    reader = transformers.AutoTokenizer.from_pretrained(folder)
    ours, tokenizer = load(folder), load_tokenizer(folder)
    assert chat_template(tokenizer).own, "the export carries the template that it was trained with"
    for text in texts:
        turn = [{"role": "user", "content": f"Is this praise? {text}"}]
        prompt = reader.apply_chat_template(turn, tokenize=False, add_generation_prompt=True)
        ids = reader(prompt, return_tensors="pt").input_ids
        expected = theirs.generate(ids, max_new_tokens=12, do_sample=False, pad_token_id=0)
        found = ours.generate(ids, max_new_tokens=12, do_sample=False, pad_token_id=0)
        assert torch.equal(found, expected)
