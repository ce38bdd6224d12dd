"""What codes of 8 and 4 bits do to a language model's loss on text that it has not seen.

`python benchmarks/quantization_loss.py [--steps 400]`: a LLaMA of 6 layers, width 256, is trained here from
random weights on nine tenths of the movie snippets (a byte-pair vocabulary of 4,000 made from them), as no
pretrained one can be fetched everywhere; then the rest is read token by token through decode steps, exact and
in each form. So small and short-trained a model is robust: a large, well-trained one loses more.
"""

from __future__ import annotations

import argparse
import csv
import math
import os
import tempfile
from pathlib import Path
from typing import Any

os.environ.setdefault("OMP_WAIT_POLICY", "passive")

import torch

ROOT = Path(__file__).resolve().parents[1]
LENGTH = 64
FORMS = {"exact": None, "fast": "", "int8": "int8", "int4": "int4"}


def texts() -> list[str]:
    """The snippets."""
    with (ROOT / ".cache" / "real" / "movie-snippets.csv").open(encoding="utf-8") as lines:
        return [row["text"] for row in csv.DictReader(lines)]


def trained(ids: torch.Tensor, steps: int, folder: Path) -> None:
    """A small LLaMA at `folder`."""
    import transformers

    torch.manual_seed(0)
    config = transformers.LlamaConfig(
        hidden_size=256, intermediate_size=768, num_hidden_layers=6, num_attention_heads=4,
        num_key_value_heads=2, vocab_size=4000, max_position_embeddings=LENGTH,
    )  # fmt: skip
    model = transformers.LlamaForCausalLM(config)
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3, fused=True, weight_decay=0.1)
    for step in range(steps):
        rows = ids[torch.randint(0, len(ids), (16,))]
        loss = model(input_ids=rows, labels=rows).loss
        loss.backward()
        for group in optimizer.param_groups:
            group["lr"] = 1e-3 * min(1.0, (step + 1) / 40) * (1 - step / steps)
        optimizer.step()
        optimizer.zero_grad()
        if step % 100 == 0:
            print(f"step {step}: loss {loss.item():.3f}", flush=True)
    model.save_pretrained(folder)


@torch.inference_mode()
def loss_of(model: Any, rows: torch.Tensor, form: str | None) -> float:
    """Nats a token, by decode steps after a prompt of one token."""
    from biject.nn.decode import Decoding
    from biject.nn.native.decoding import native_decoding

    total = count = 0.0
    for batch in rows.split(16):
        made = {"batch": len(batch), "length": LENGTH}
        if form is None:
            run: Any = Decoding(model, **made)
        else:
            run = native_decoding(model, form or None, real_BS=None, first_B=None, **made)  # type: ignore[arg-type]
        for at in range(batch.shape[1] - 1):
            positions = torch.full((len(batch), 1), at)
            logits = run(batch[:, at : at + 1], positions).float()
            total += torch.nn.functional.cross_entropy(logits, batch[:, at + 1], reduction="sum").item()
            count += len(batch)
    return total / count


def main() -> None:
    """Print a line a form."""
    from tokenizers import ByteLevelBPETokenizer

    from biject.pretrained import load

    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--steps", type=int, default=400)
    given = parser.parse_args()
    lines = texts()
    cut = len(lines) * 9 // 10
    tokenizer = ByteLevelBPETokenizer()
    tokenizer.train_from_iterator(lines[:cut], vocab_size=4000, show_progress=False)

    def rows(part: list[str]) -> torch.Tensor:
        flat = [token for text in part for token in tokenizer.encode(text + "\n").ids]
        return torch.tensor(flat[: len(flat) // LENGTH * LENGTH]).view(-1, LENGTH)

    with tempfile.TemporaryDirectory() as folder:
        trained(rows(lines[:cut]), given.steps, Path(folder))
        model, unseen = load(folder), rows(lines[cut:])[:256]
        exact = loss_of(model, unseen, None)
        for name, form in FORMS.items():
            loss = exact if form is None else loss_of(model, unseen, form)
            change = math.exp(loss - exact) - 1
            print(
                f"{name}: perplexity {math.exp(loss):.3f} ({change:+.2%}), {unseen.numel()} tokens",
                flush=True,
            )


if __name__ == "__main__":
    main()
