"""GPT-2 small at its real size, with its real tokenizer and random weights: exported, verified, continued."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
import torch

TOKENIZER = Path(__file__).parents[2] / ".cache" / "real" / "gpt2-bpe"
PROMPT = "The naïve fox said: 日本語 – and"


@pytest.mark.slow
def test_export_verify_generate(run, tmp_path: Path) -> None:
    transformers = pytest.importorskip("transformers")
    if not TOKENIZER.is_dir():
        pytest.skip("gpt2-bpe is not there; fetch it with `python scripts/fetch_real.py gpt2-bpe`")
    from biject.verify.hf import quiet

    source, out = tmp_path / "gpt2", tmp_path / "export"
    source.mkdir()
    for name in ("vocab.json", "merges.txt"):
        shutil.copy(TOKENIZER / name, source / name)
    torch.manual_seed(0)
    with quiet():
        transformers.GPT2LMHeadModel(transformers.GPT2Config()).save_pretrained(source)
    assert run("export", "--hub", source, "--out", out).code == 0
    proved = run("verify-export", out, "--source", source, "--prompt", PROMPT)
    assert proved.code == 0, proved.out + proved.err

    flags = ("--max-new-tokens", 24, "--json")
    greedy = run("generate", out, PROMPT, *flags, "--greedy", "--repetition-penalty", 1.3)
    drawn = run("generate", out, PROMPT, *flags, "--seed", 5, "--temperature", 0.8, "--top-k", 40)
    assert (greedy.code, drawn.code) == (0, 0), greedy.err + drawn.err
    with quiet():
        tokenizer = transformers.AutoTokenizer.from_pretrained(out)
        model = transformers.AutoModelForCausalLM.from_pretrained(out)
        inputs = tokenizer(PROMPT, return_tensors="pt")
        length = inputs["input_ids"].shape[1]
        one = model.generate(**inputs, max_new_tokens=24, do_sample=False, repetition_penalty=1.3)
        torch.manual_seed(5)
        other = model.generate(**inputs, max_new_tokens=24, do_sample=True, temperature=0.8, top_k=40)
    for mine, theirs in ((greedy, one), (drawn, other)):
        result = json.loads(mine.out)["results"][0]
        assert result["tokens"] == theirs[0, length:].tolist()
        assert result["num_prompt_tokens"] == length
        assert result["text"] == tokenizer.decode(theirs[0, length:], skip_special_tokens=True)
    plain = run("generate", out, PROMPT, "--max-new-tokens", 24, "--greedy", "--repetition-penalty", 1.3)
    assert plain.out == PROMPT + json.loads(greedy.out)["results"][0]["text"] + "\n"
