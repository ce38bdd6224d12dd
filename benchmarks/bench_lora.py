"""LoRA against PEFT on transformers: a training step of an encoder on texts of mixed lengths; QLoRA's memory.

`python benchmarks/bench_lora.py [--repeats 5] [--threads 1] [--size base|minilm]`: the same batches, adapters
of rank 8 on every linear, dropout on, AdamW (fused) over the adapter and the head; both sides in one process,
in turn. `--qlora`: one step of a LLaMA of 1.1 billion parameters in nf4, each side in a process of its own,
with its peak of memory (`VmHWM`).
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
import time
import warnings
from pathlib import Path
from typing import Any

os.environ.setdefault("OMP_WAIT_POLICY", "passive")

import torch
from bench_packed import EQUAL, MIXED, SIZES, batch, compare

from biject.config.adapter import LoraConfig
from biject.pretrained import load

RANK, ALPHA, DROPOUT = 8, 16, 0.1
LLAMA = {
    "vocab_size": 32000,
    "hidden_size": 2048,
    "intermediate_size": 5632,
    "num_hidden_layers": 22,
    "num_attention_heads": 32,
    "num_key_value_heads": 4,
}
"""TinyLlama's sizes."""
TOKENS = (2, 128)


def both(folder: Path) -> tuple[Any, Any]:
    """PEFT on HF's model, and ours."""
    import peft
    import transformers

    theirs = transformers.BertForSequenceClassification.from_pretrained(folder)
    linear = ["query", "key", "value", "dense"]
    config = peft.LoraConfig(
        r=RANK, lora_alpha=ALPHA, lora_dropout=DROPOUT, target_modules=linear, task_type="SEQ_CLS"
    )
    ours = load(folder)
    ours.add_adapter(LoraConfig(r=RANK, lora_alpha=ALPHA, lora_dropout=DROPOUT, target_modules=tuple(linear)))
    return peft.get_peft_model(theirs, config), ours


def steps(model: Any, batches: list[dict[str, torch.Tensor]]) -> Any:
    """Whole steps over what the adapter trains."""
    optimizer = torch.optim.AdamW([p for p in model.parameters() if p.requires_grad], lr=1e-4, fused=True)

    def run() -> None:
        model.train()
        for inputs in batches:
            model(**inputs).loss.backward()
            optimizer.step()
            optimizer.zero_grad()

    return run


def encoder(given: argparse.Namespace) -> None:
    """Ratios on mixed and on equal lengths."""
    import transformers

    torch.manual_seed(0)
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary) / "m"
        transformers.BertForSequenceClassification(
            transformers.BertConfig(**SIZES[given.size])
        ).save_pretrained(folder)
        for name, lengths in (("mixed", MIXED), ("equal", EQUAL)):
            batches = [batch(lengths, seed) for seed in range(given.batches)]
            ratio = len(lengths) * max(lengths) / sum(lengths)
            theirs, ours = both(folder)
            label = f"LoRA step, {name}, padded/real {ratio:.2f}"
            compare(label, steps(theirs, batches), steps(ours, batches), given.repeats)


def qlora_side(side: str, folder: Path) -> None:
    """One process: load in nf4, add an adapter, two steps; prints seconds of the second and the peak."""
    torch.manual_seed(0)
    if side == "biject":
        model: Any = load(folder, quantization="nf4", dtype=torch.float32)
        model.add_adapter(LoraConfig(r=RANK, lora_alpha=ALPHA, target_modules="all-linear"))
        model.gradient_checkpointing_enable()
    else:
        import peft
        import transformers

        config = transformers.BitsAndBytesConfig(
            load_in_4bit=True,
            bnb_4bit_quant_type="nf4",
            bnb_4bit_use_double_quant=True,
            bnb_4bit_compute_dtype=torch.float32,
        )
        base = transformers.AutoModelForCausalLM.from_pretrained(
            folder, quantization_config=config, dtype=torch.float32
        )
        base = peft.prepare_model_for_kbit_training(base)
        model = peft.get_peft_model(
            base,
            peft.LoraConfig(r=RANK, lora_alpha=ALPHA, target_modules="all-linear", task_type="CAUSAL_LM"),
        )
    loaded = _peak()
    ids = torch.randint(0, LLAMA["vocab_size"], TOKENS)
    run = steps(model, [{"input_ids": ids, "labels": ids}])
    run()
    started = time.perf_counter()
    run()
    seconds = time.perf_counter() - started
    print(
        f"QLoRA {side:<12} peak {loaded:.2f} GiB when loaded, {_peak():.2f} GiB after two steps of "
        f"{TOKENS[0]} × {TOKENS[1]} tokens, {seconds:.1f} s a step",
        flush=True,
    )


def _peak() -> float:
    """The process's largest resident set so far, in GiB."""
    text = Path("/proc/self/status").read_text(encoding="ascii")
    line = next(line for line in text.splitlines() if line.startswith("VmHWM"))
    return int(line.split()[1]) / 2**20


def qlora() -> None:
    """Both sides, one after the other."""
    import transformers

    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary) / "m"
        with torch.device("cpu"):
            torch.set_default_dtype(torch.bfloat16)
            model = transformers.LlamaForCausalLM(transformers.LlamaConfig(**LLAMA))
            torch.set_default_dtype(torch.float32)
        print(f"{sum(p.numel() for p in model.parameters()):,} parameters", flush=True)
        model.save_pretrained(folder)
        del model
        for side in ("biject", "peft"):
            subprocess.run([sys.executable, __file__, "--side", side, "--folder", str(folder)], check=True)


def main() -> None:
    """Print one line a case."""
    import transformers

    warnings.simplefilter("ignore")
    transformers.logging.set_verbosity_error()
    transformers.logging.disable_progress_bar()
    parser = argparse.ArgumentParser()
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--size", choices=SIZES, default="base")
    parser.add_argument("--batches", type=int, default=2)
    parser.add_argument("--qlora", action="store_true")
    parser.add_argument("--side", choices=("biject", "peft"), help=argparse.SUPPRESS)
    parser.add_argument("--folder", type=Path, help=argparse.SUPPRESS)
    given = parser.parse_args()
    torch.set_num_threads(given.threads)
    if given.side is not None:
        qlora_side(given.side, given.folder)
    elif given.qlora:
        qlora()
    else:
        encoder(given)


if __name__ == "__main__":
    main()
