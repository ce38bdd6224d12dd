"""FLOPs and kept activations of models of pictures, against torch's counter and autograd."""

from __future__ import annotations

import pytest
import torch
from tests.flops import counter_of_products
from torch import Tensor
from torch.nn.attention import SDPBackend, sdpa_kernel

from biject.config.flops import TextBatch, forward_flops, training_flops
from biject.config.model import ModelConfig
from biject.families import families
from biject.nn.batch import Batch, HeadRequest
from biject.nn.patches import PatchEmbeddings
from biject.nn.transformer import Transformer
from biject.plan.activations import Kept, activation_bytes

COUNT = 5
NAMES = [name for name, known in families().items() if known.reads_pictures]
SIZES = {
    "hidden_size": 128,
    "num_hidden_layers": 3,
    "num_attention_heads": 4,
    "image_size": 64,
    "patch_size": 8,
}


def made(name: str, **overrides: object) -> tuple[ModelConfig, Transformer, Batch, TextBatch]:
    known = families()[name]
    config = known.build(known.config.read({**known.tiny, **SIZES, **overrides}), "imgcls")
    model = Transformer(config).to_empty(device="cpu")
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.normal_(0, 0.02, generator=torch.Generator().manual_seed(0))
    patches = config.embedding.patches
    assert patches is not None
    assert isinstance(model.embed, PatchEmbeddings)
    pixels = torch.randn(COUNT, patches.num_channels, *patches.image_size)
    batch = model.embed.with_pictures(Batch(), pixels, interpolate=False)
    sizes = TextBatch(lengths=(batch.num_rows,) * COUNT, packed=True)
    return config, model.train(), batch, sizes


@pytest.mark.parametrize("name", NAMES)
def test_flops_are_those_that_torch_counts(name: str) -> None:
    config, model, batch, sizes = made(name)
    labels = torch.zeros(COUNT, dtype=torch.long)
    counters = [counter_of_products() for _ in range(2)]
    with sdpa_kernel(SDPBackend.MATH):
        with counters[0], torch.no_grad():
            model(batch, HeadRequest())
        with counters[1]:
            model(batch, HeadRequest(labels=labels)).loss.backward()
    assert forward_flops(config, sizes) == counters[0].get_total_flops()
    assert training_flops(config, sizes) == counters[1].get_total_flops()


@pytest.mark.parametrize("name", NAMES)
def test_kept_activations_are_autograds(name: str) -> None:
    config, model, batch, sizes = made(name)
    own = {parameter.untyped_storage().data_ptr() for parameter in model.parameters()}
    seen: dict[int, int] = {}
    alive: list[Tensor] = []

    def pack(tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in own:
            seen[storage.data_ptr()] = storage.nbytes()
            alive.append(tensor)
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        model(batch, HeadRequest(labels=torch.zeros(COUNT, dtype=torch.long)))
    assert activation_bytes(config, sizes, Kept()) == pytest.approx(sum(seen.values()), rel=0.1)
