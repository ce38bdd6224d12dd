"""Try `backend="hf"` on tiny models of many architectures, and write the table in docs/fallback.md.

Each head that transformers has is trained for two steps, exported and proved; one of them with LoRA, too.
"""

from __future__ import annotations

import contextlib
import io
import sys
import tempfile
import warnings
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT))

import transformers  # noqa: E402
from tests.conftest import _write  # noqa: E402
from tests.fallback.tiny import SMALL, make, pictures  # noqa: E402

import biject  # noqa: E402
from biject.config.recipe import FinetuneRecipe, TrainConfig  # noqa: E402
from biject.errors import BijectError  # noqa: E402
from biject.fallback.classes import class_names  # noqa: E402

PAGE = ROOT / "docs" / "fallback.md"
BEGIN, END = "<!-- tried:begin -->\n", "<!-- tried:end -->"
HEADS = ("seqcls", "tokcls", "qa", "mlm", "causal", "imgcls")
OFFSET = {"pad_token_id": 1, "max_position_embeddings": 66}
SIZES = {"pad_token_id": 0, "bos_token_id": 2, "eos_token_id": 3, "vocab_size": 80}
LAYERS = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2}
GROUPS = [f"{part}_groups" for part in ("q", "k", "v", "intermediate", "output")]
PATCHES = LAYERS | {"intermediate_size": 36, "image_size": 32, "patch_size": 8}
KEYS: dict[str, dict[str, Any]] = {
    "mpnet": {}, "roformer": {}, "t5": {}, "gpt_neox": {},
    "deberta": SMALL | {"relative_attention": True, "pos_att_type": ["c2p", "p2c"]},
    "longformer": SMALL | OFFSET | {"attention_window": [8, 8], "sep_token_id": 3},
    "big_bird": SMALL, "ernie": SMALL, "megatron-bert": SMALL, "yoso": SMALL,
    "convbert": SMALL | {"embedding_size": 32, "head_ratio": 1},
    "mobilebert": SMALL | {"embedding_size": 32, "intra_bottleneck_size": 32, "true_hidden_size": 32},
    "squeezebert": SMALL | {"embedding_size": 32, "intermediate_size": 36, **dict.fromkeys(GROUPS, 2)},
    "nystromformer": SMALL | {"num_landmarks": 8, "segment_means_seq_len": 8, "conv_kernel_size": 3},
    "fnet": SMALL, "canine": {}, "ibert": SMALL | OFFSET, "data2vec-text": SMALL | OFFSET,
    "luke": SMALL | OFFSET | {"entity_vocab_size": 10, "entity_emb_size": 16},
    "esm": SMALL | OFFSET | {"mask_token_id": 4},
    "xlnet": SIZES | {"d_model": 32, "n_layer": 2, "n_head": 2, "d_inner": 36},
    "funnel": {
        "vocab_size": 80, "d_model": 32, "n_head": 2, "d_head": 16, "d_inner": 36, "block_sizes": [1, 1],
        "num_decoder_layers": 1, "pad_token_id": 0,
    },
    "xlm": {
        "vocab_size": 80, "emb_dim": 32, "n_layers": 2, "n_heads": 2, "max_position_embeddings": 64,
        "pad_index": 0, "eos_index": 3, "bos_index": 2,
    },
    "bart": SIZES | {
        "d_model": 32, "encoder_layers": 2, "decoder_layers": 2, "encoder_attention_heads": 2,
        "decoder_attention_heads": 2, "encoder_ffn_dim": 36, "decoder_ffn_dim": 36,
        "max_position_embeddings": 64, "decoder_start_token_id": 2, "pad_token_id": 1,
    },
    "bloom": SIZES | {"hidden_size": 32, "n_layer": 2, "n_head": 2},
    "opt": SMALL | {"ffn_dim": 36, "word_embed_proj_dim": 32, "pad_token_id": 1},
    "gpt_neo": SIZES | {
        "hidden_size": 32, "num_layers": 2, "num_heads": 2, "attention_types": [[["global", "local"], 1]],
        "max_position_embeddings": 64,
    },
    "gptj": SIZES | {"n_embd": 32, "n_layer": 2, "n_head": 2, "n_positions": 64, "rotary_dim": 8},
    "falcon": SIZES | LAYERS, "mamba": SIZES | {"hidden_size": 32, "num_hidden_layers": 2, "state_size": 4},
    "phi3": SMALL, "gemma2": SMALL | {"num_key_value_heads": 1, "head_dim": 16}, "olmo2": SMALL,
    "mixtral": SMALL | {
        "intermediate_size": 32, "num_key_value_heads": 2, "num_local_experts": 4, "num_experts_per_tok": 2,
    },
    "reformer": SIZES | {
        "hidden_size": 32, "attention_head_size": 16, "num_attention_heads": 2,
        "attn_layers": ["local", "lsh"], "feed_forward_size": 36, "axial_pos_embds": False,
        "max_position_embeddings": 64, "local_attn_chunk_length": 8, "lsh_attn_chunk_length": 8,
        "num_buckets": 4, "is_decoder": True, "hash_seed": 0,
    },
    "vit_msn": PATCHES, "swin": {}, "beit": PATCHES, "resnet": {},
    "convnext": {"hidden_sizes": [8, 8, 16, 16], "depths": [1, 1, 1, 1], "image_size": 32},
}  # fmt: skip


def tried(model_type: str, place: Path) -> tuple[list[str], list[str]]:
    """A row of the table, and notes on what did not pass."""
    cells, notes, lora = [], [], "–"
    for head in HEADS:
        names = class_names(model_type, head)
        if not names:
            cells.append("–")
            continue
        word, note = one(model_type, head, names[0], place, method="full")
        cells.append(word)
        notes += [f"`{model_type}`, {head}: {note}"] if note else []
        if lora == "–" and word == "pass":
            lora, note = one(model_type, head, names[0], place, method="lora")
            notes += [f"`{model_type}`, {head} with LoRA: {note}"] if note else []
    return [f"`{model_type}`", *cells, lora], notes


def one(model_type: str, head: str, class_name: str, place: Path, *, method: str) -> tuple[str, str]:
    """One run; `pass`, or what came of it with a note."""
    base = class_name if head in ("mlm", "causal") else class_names(model_type, "base")[0]
    folder, out = (place / f"{kind}-{model_type}-{head}-{method}" for kind in ("model", "run"))
    kind = "mlm" if head == "causal" else head
    data = pictures(folder.with_suffix(".pictures")) if head == "imgcls" else _write(place / head, kind)
    try:
        make(folder, model_type, base, **KEYS[model_type])
    except Exception as error:
        return "not made", _short(error)
    recipe = FinetuneRecipe(
        model=str(folder), data=str(data), task=head, backend="hf", method=method,
        train=TrainConfig(batch_size=8, max_steps=2, lr=1e-3),
    )  # type: ignore[arg-type]  # fmt: skip
    try:
        done = biject.finetune(recipe, out=out)
    except BijectError as error:
        return "refused", _short(error).replace(f"{folder}: ", "")
    failed = [line for line in done.to_json()["verified"] if line.startswith("FAIL")]
    return ("FAIL", failed[0]) if failed else ("pass", "")


def _short(error: Exception) -> str:
    text = " ".join(str(error).split())
    return text if len(text) < 300 else f"{text[:300]}…"


def main() -> None:
    """Try all, or those that are named, and write the page where all were."""
    chosen = sys.argv[1:] or list(KEYS)
    rows, notes = [], []
    transformers.utils.logging.set_verbosity_error()
    with tempfile.TemporaryDirectory() as temporary, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for model_type in chosen:
            with contextlib.redirect_stderr(io.StringIO()):
                row, more = tried(model_type, Path(temporary))
            rows.append(f"| {' | '.join(row)} |")
            notes += more
            print(rows[-1], *more, sep="\n", flush=True)
    if sys.argv[1:]:
        return
    head = f"| architecture | {' | '.join(HEADS)} | LoRA |\n| {' | '.join(['---'] * (len(HEADS) + 2))} |\n"
    table = head + "\n".join(rows) + "\n\n" + "\n".join(f"* {note}" for note in notes) + "\n"
    before, _, rest = PAGE.read_text(encoding="utf-8").partition(BEGIN)
    PAGE.write_text(f"{before}{BEGIN}{table}{END}{rest.partition(END)[2]}", encoding="utf-8")


if __name__ == "__main__":
    main()
