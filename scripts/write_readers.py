"""Writes the table of docs/readers.md: `python scripts/write_readers.py [--vllm WHEEL] [--env-dir DIR]`.

Exports some models (a real MiniLM and GPT-2's real vocabulary from `scripts/fetch_real.py`, tiny ones made on
the spot), and runs `biject verify-readers` on each.
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors

from biject.pretrained import load
from biject.verify.reference import make_reference

ROOT = Path(__file__).resolve().parents[1]
PAGE = ROOT / "docs" / "readers.md"
REAL = ROOT / ".cache" / "real"
BEGIN, END = "<!-- readers:begin -->", "<!-- readers:end -->"
SMALL = {"vocab_size": 50257, "bos_token_id": 50256, "eos_token_id": 50256, "pad_token_id": None}


def sources(top: Path) -> dict[str, Path]:
    """Folders by what they are called in the table."""
    found = {"all-MiniLM-L6-v2 (real)": REAL / "all-MiniLM-L6-v2"}
    for model_type in ("gpt2", "llama"):
        folder = make_reference(model_type, "causal", top / model_type, overrides=SMALL)
        give_gpt2_tokenizer(folder)
        found[f"{model_type}, tiny, GPT-2's tokenizer"] = folder
    for model_type, head in (("bert", "seqcls"), ("modernbert", "mlm"), ("vit", "imgcls")):
        found[f"{model_type} {head}, tiny"] = make_reference(model_type, head, top / model_type)
    return found


def give_gpt2_tokenizer(folder: Path) -> None:
    """A vocabulary that llama.cpp's converter knows; and `n_ctx`, which transformers 5 leaves out."""
    tokenizer = Tokenizer(
        models.BPE.from_file(str(REAL / "gpt2-bpe/vocab.json"), str(REAL / "gpt2-bpe/merges.txt"))
    )
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.post_processor = processors.ByteLevel(trim_offsets=False)
    tokenizer.add_special_tokens(["<|endoftext|>"])
    for path in folder.glob("*token*"):
        path.unlink()
    tokenizer.save(str(folder / "tokenizer.json"))
    special = dict.fromkeys(("bos_token", "eos_token", "unk_token"), "<|endoftext|>")
    (folder / "tokenizer_config.json").write_text(json.dumps({"tokenizer_class": "GPT2Tokenizer", **special}))
    config = json.loads((folder / "config.json").read_text())
    if config["model_type"] == "gpt2":
        config["n_ctx"] = config["n_positions"]
        (folder / "config.json").write_text(json.dumps(config, indent=2))


def measure(folder: Path, more: list[str]) -> dict[str, Any]:
    """What the command finds; a reader that differs is part of the result."""
    command = [sys.executable, "-m", "biject", "verify-readers", str(folder), "--llama-cpp", "--json", *more]
    done = subprocess.run(command, stdout=subprocess.PIPE, check=False)
    if done.returncode not in (0, 1):
        raise SystemExit("write_readers: verify-readers did not run; see above")
    found: dict[str, Any] = json.loads(done.stdout)
    return found


def rows(name: str, found: dict[str, Any]) -> list[list[str]]:
    """A row of the table for each reader."""
    kept = [reading for reading in found["readings"] if reading["status"] != "skipped"]
    about = f"{name} ({found['model']['class']})"
    return [[about, r["reader"], r["status"].upper(), r["compared"], r["detail"]] for r in kept]


def main() -> None:
    """Replace what stands between the markers."""
    lines = [["export", "reader", "result", "compared", "how equal, or why not"], ["---"] * 5]
    with tempfile.TemporaryDirectory() as temporary:
        for name, source in sources(Path(temporary) / "sources").items():
            export = Path(temporary) / "exports" / source.name
            load(source).save_pretrained(export)
            lines += rows(name, measure(export, sys.argv[1:]))
            print(name)
    table = "\n".join(f"| {' | '.join(cell.replace('|', ' ') for cell in line)} |" for line in lines)
    before, rest = PAGE.read_text(encoding="utf-8").split(BEGIN)
    _, after = rest.split(END)
    text = f"Written on {time.strftime('%Y-%m-%d')} by `scripts/write_readers.py`.\n\n{table}"
    PAGE.write_text(f"{before}{BEGIN}\n{text}\n{END}{after}", encoding="utf-8")


if __name__ == "__main__":
    main()
