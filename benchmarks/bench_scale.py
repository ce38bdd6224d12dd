"""Loading and exporting checkpoints of 0.1 GB and more: seconds and memory, beside transformers.

Files are made on the spot, in shards, bfloat16, of a LLaMA's shape with random numbers. Each measurement is
a process of its own; sides take turns. `load`: `from_pretrained`; `first`: that and the logits of one token,
which touches every weight; `save`: a model just loaded, to another folder; `export`: `biject export`'s call,
beside loading and saving by transformers. Memory is the peak of the process beyond what it had after its
imports: all of it, and the part that is its own (`RssAnon`: not the file's pages, which the system may drop).
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path
from typing import Any

os.environ.setdefault("OMP_WAIT_POLICY", "passive")

SIDES = ("biject", "transformers")
WORKS = ("load", "first", "save", "export")
SHARDS = 4
WIDTH, INNER, VOCABULARY = 2048, 5632, 32000
LAYER = 4 * WIDTH * WIDTH + 3 * WIDTH * INNER


def make(folder: Path, gigabytes: float) -> int:
    """A checkpoint of about so many gigabytes in four shards; how many bytes its weights have."""
    import torch
    from safetensors.torch import save_file

    width = WIDTH if gigabytes > 0.5 else WIDTH // 4
    layer = LAYER * width * width // WIDTH**2
    layers = max(1, round((gigabytes * 1e9 / 2 - 2 * VOCABULARY * width) / layer))
    inner = INNER * width // WIDTH
    config = {
        "architectures": ["LlamaForCausalLM"], "model_type": "llama", "hidden_size": width,
        "intermediate_size": inner, "num_hidden_layers": layers, "num_attention_heads": 16,
        "num_key_value_heads": 16, "vocab_size": VOCABULARY, "torch_dtype": "bfloat16",
        "tie_word_embeddings": False, "rms_norm_eps": 1e-5, "max_position_embeddings": 2048,
    }  # fmt: skip
    shapes = {"model.embed_tokens.weight": (VOCABULARY, width), "lm_head.weight": (VOCABULARY, width)}
    shapes["model.norm.weight"] = (width,)
    for index in range(layers):
        at = f"model.layers.{index}"
        shapes |= {f"{at}.self_attn.{n}_proj.weight": (width, width) for n in "qkvo"}
        shapes |= {f"{at}.mlp.{n}_proj.weight": (inner, width) for n in ("gate", "up")}
        shapes[f"{at}.mlp.down_proj.weight"] = (width, inner)
        shapes |= {f"{at}.{n}_layernorm.weight": (width,) for n in ("input", "post_attention")}
    draw, where, total = torch.Generator().manual_seed(0), {}, 0
    names = list(shapes)
    each = -(-len(names) // SHARDS)
    for number in range(SHARDS):
        file = f"model-{number + 1:05}-of-{SHARDS:05}.safetensors"
        tensors = {}
        for name in names[number * each : (number + 1) * each]:
            bits = torch.randint(-64, 64, shapes[name], generator=draw, dtype=torch.int8)
            tensors[name] = bits.to(torch.bfloat16).div_(2048)
            where[name], total = file, total + tensors[name].nbytes
        save_file(tensors, folder / file, metadata={"format": "pt"})
    index = {"metadata": {"total_size": total}, "weight_map": where}
    (folder / "model.safetensors.index.json").write_text(json.dumps(index))
    (folder / "config.json").write_text(json.dumps(config, indent=2))
    return total


def status(name: str) -> int:
    """Bytes, of /proc/self/status."""
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith(name + ":"):
            return int(line.split()[1]) * 1024
    return 0


class Watched:
    """Seconds of a block and its peaks of memory beyond what was there before."""

    def __enter__(self) -> Watched:
        Path("/proc/self/clear_refs").write_text("5")  # the peak is the present
        self.before, self.own = (status("VmRSS"), status("RssAnon")), 0
        self.done = threading.Event()
        self.thread = threading.Thread(target=self.look, daemon=True)
        self.thread.start()
        self.started = time.perf_counter()
        return self

    def look(self) -> None:
        while not self.done.wait(0.005):
            self.own = max(self.own, status("RssAnon"))

    def __exit__(self, *_: object) -> None:
        self.seconds = time.perf_counter() - self.started
        self.done.set()
        self.thread.join()
        self.peak = status("VmHWM") - self.before[0]
        self.own = max(self.own, status("RssAnon")) - self.before[1]


def work(side: str, what: str, folder: Path, out: Path) -> dict[str, float]:
    """One measurement, in this process."""
    import torch

    model: Any
    if side == "biject":
        import biject
        import biject.export
        import biject.save

        load: Any = biject.AutoModelForCausalLM.from_pretrained
    else:
        from transformers import LlamaForCausalLM
        from transformers.utils import logging

        logging.set_verbosity_error()
        logging.disable_progress_bar()
        load = LlamaForCausalLM.from_pretrained
    given = {} if side == "biject" else {"dtype": "auto"}
    model = load(folder, **given) if what == "save" else None
    with Watched() as watched:
        if what == "export" and side == "biject":
            biject.export_checkpoint(folder, out=out)
        elif what == "save":
            model.save_pretrained(out)
        else:
            model = load(folder, **given)
            if what == "export":
                model.save_pretrained(out)
            if what == "first":
                with torch.inference_mode():
                    model(input_ids=torch.tensor([[1]]))
    return {"seconds": watched.seconds, "peak": watched.peak, "own": watched.own}


def measured(side: str, what: str, folder: Path, place: Path) -> dict[str, float]:
    """The same in a process of its own; what it writes is removed."""
    with tempfile.TemporaryDirectory(dir=place) as out:
        arguments = [sys.executable, __file__, "--worker", side, what, str(folder), f"{out}/model"]
        done = subprocess.run(arguments, capture_output=True, text=True, check=True)
    found: dict[str, float] = json.loads(done.stdout.splitlines()[-1])
    return found


def main() -> int:
    """Print a line for each size and work: medians of both sides, ratio with its range, peaks."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--gigabytes", type=float, nargs="+", default=[0.1, 1.0, 4.0])
    parser.add_argument("--works", nargs="+", default=list(WORKS), choices=WORKS)
    parser.add_argument("--pairs", type=int, default=5)
    parser.add_argument("--place", type=Path, default=None, help="where files are made")
    parser.add_argument("--worker", nargs=4)
    given = parser.parse_args()
    if given.worker:
        side, what, folder, out = given.worker
        print(json.dumps(work(side, what, Path(folder), Path(out))))
        return 0
    for size in given.gigabytes:
        with tempfile.TemporaryDirectory(dir=given.place) as place:
            folder = Path(place) / "model"
            folder.mkdir()
            total = make(folder, size)
            for what in given.works:
                pairs = []
                for number in range(given.pairs):
                    sides = SIDES if number % 2 == 0 else SIDES[::-1]
                    one = {side: measured(side, what, folder, Path(place)) for side in sides}
                    pairs.append(tuple(one[side] for side in SIDES))
                report(total, what, pairs)
    return 0


def report(total: int, what: str, pairs: list[tuple[dict[str, float], ...]]) -> None:
    """One line of figures."""
    ratios = [theirs["seconds"] / ours["seconds"] for ours, theirs in pairs]
    cells = []
    for side, ones in zip(SIDES, zip(*pairs, strict=True), strict=True):
        seconds, peak, own = (statistics.median(o[key] for o in ones) for key in ("seconds", "peak", "own"))
        cells.append(f"{side} {seconds:.3f} s, peak {peak / 1e6:.0f} MB, own {own / 1e6:.0f} MB")
    spread = f"{statistics.median(ratios):.2f} ({min(ratios):.2f}–{max(ratios):.2f})"
    print(f"{total / 1e9:.2f} GB {what}: {'; '.join(cells)}; ratio {spread}", flush=True)


if __name__ == "__main__":
    sys.exit(main())
