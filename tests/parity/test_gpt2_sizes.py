"""GPT-2 in its four published sizes: a file laid out as the published one is mapped, not read."""

from __future__ import annotations

import json
import resource
from pathlib import Path

import pytest

from biject.pretrained import load

# n_embd, n_layer, n_head, parameters, bytes of the published model.safetensors.
SIZES = {
    "small": (768, 12, 12, 124_439_808, 548_105_171),
    "medium": (1024, 24, 16, 354_823_168, 1_519_984_962),
    "large": (1280, 36, 20, 774_030_080, 3_247_159_078),
    "xl": (1600, 48, 25, 1_557_611_200, 6_431_829_964),
}


def published(folder: Path, width: int, layers: int, heads: int) -> tuple[Path, int]:
    """A folder whose weights are one hole in a sparse file, named and shaped as OpenAI's were converted: no
    prefix, the causal mask stored as `attn.bias`. Gives the file and the bytes of its header.
    """
    shapes: dict[str, tuple[int, ...]] = {"wte.weight": (50257, width), "wpe.weight": (1024, width)}
    for i in range(layers):
        layer = {
            "ln_1.weight": (width,),
            "ln_1.bias": (width,),
            "attn.bias": (1, 1, 1024, 1024),
            "attn.c_attn.weight": (width, 3 * width),
            "attn.c_attn.bias": (3 * width,),
            "attn.c_proj.weight": (width, width),
            "attn.c_proj.bias": (width,),
            "ln_2.weight": (width,),
            "ln_2.bias": (width,),
            "mlp.c_fc.weight": (width, 4 * width),
            "mlp.c_fc.bias": (4 * width,),
            "mlp.c_proj.weight": (4 * width, width),
            "mlp.c_proj.bias": (width,),
        }
        shapes |= {f"h.{i}.{name}": shape for name, shape in layer.items()}
    shapes |= {"ln_f.weight": (width,), "ln_f.bias": (width,)}
    header, at = {}, 0
    for name, shape in shapes.items():
        size = 4
        for dim in shape:
            size *= dim
        header[name] = {"dtype": "F32", "shape": list(shape), "data_offsets": [at, at + size]}
        at += size
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    folder.mkdir()
    path = folder / "model.safetensors"
    with path.open("wb") as file:
        file.write(len(text).to_bytes(8, "little") + text)
        file.truncate(8 + len(text) + at)
    config = {"model_type": "gpt2", "architectures": ["GPT2LMHeadModel"], "vocab_size": 50257}
    sizes = {"n_embd": width, "n_layer": layers, "n_head": heads, "n_positions": 1024}
    (folder / "config.json").write_text(json.dumps(config | sizes))
    return path, 8 + len(text)


@pytest.mark.parametrize("size", SIZES)
def test_published_files_are_mapped(size: str, tmp_path: Path) -> None:
    width, layers, heads, parameters, published_bytes = SIZES[size]
    path, header = published(tmp_path / size, width, layers, heads)
    own = path.stat().st_size - header
    assert 0 < published_bytes - own < 2048 * (layers + 1), "tensors' bytes, but for a header"
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    model = load(tmp_path / size)
    assert model.head_name == "causal"
    assert sum(parameter.numel() for parameter in model.parameters()) == parameters
    assert len(model.provenance.plan.passthrough) == layers
    grown = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) * 1024
    assert grown < 64 * 2**20 < own
