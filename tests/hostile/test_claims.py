"""Sizes that a file cannot hold are refused before transformers builds by them, whichever key has them."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from safetensors.numpy import load_file

from biject.checkpoint.source import open_source
from biject.errors import ConfigError
from biject.families import families
from biject.verify.claims import check_claims
from biject.verify.reference import make_reference
from hostile.folders import entry, write_header

pytestmark = pytest.mark.attack("hostile folders: the verifier's time and memory")
MILLION = 10**6

CLAIMS: dict[str, tuple[str, dict[str, Any], str]] = {
    "patches": ("vit", {"image_size": 65536, "patch_size": 1}, "patch"),
    "patches of a pair": ("vit", {"image_size": [65536, 65536], "patch_size": [1, 1]}, "patch"),
    "one patch": ("vit", {"image_size": 65536, "patch_size": 65536}, "patch_size"),
    "channels": ("vit", {"num_channels": MILLION}, "num_channels"),
    "mlp": ("dinov2", {"mlp_ratio": MILLION}, "mlp_ratio"),
    "registers": ("dinov2_with_registers", {"num_register_tokens": MILLION}, "num_register_tokens"),
    "experts": ("llama", {"num_experts": 10 * MILLION}, "num_experts"),
    "wide experts": ("llama", {"num_experts": 1000, "moe_intermediate_size": 60000}, "moe_intermediate_size"),
    "matrices": ("bert", {"hidden_size": 60000}, "hidden_size"),
    "kernels": ("deberta-v2", {"conv_kernel_size": 60001}, "conv_kernel_size"),
}


@pytest.fixture(scope="module")
def good(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    held: dict[str, Path] = {}

    def make(name: str) -> Path:
        if name not in held:
            held[name] = make_reference(name, "base", tmp_path_factory.mktemp("claims") / name)
        return held[name]

    return make


@pytest.mark.parametrize("name", list(families()))
def test_good_ones_claim_nothing_wrong(name: str, good: Callable[[str], Path]) -> None:
    check_claims(open_source(good(name)))


@pytest.mark.parametrize("what", list(CLAIMS))
def test_too_much_is_refused(what: str, good: Callable[[str], Path], tmp_path: Path) -> None:
    name, keys, word = CLAIMS[what]
    folder = shutil.copytree(good(name), tmp_path / "bad")
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**config, **keys}))
    with pytest.raises(ConfigError, match=word):
        check_claims(open_source(folder))


def test_what_loading_refuses_is_refused_first(good: Callable[[str], Path], tmp_path: Path) -> None:
    folder = shutil.copytree(good("bert"), tmp_path / "bad")
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**config, "hidden_size": 2**21}))
    with pytest.raises(ConfigError, match="all tensors of the file together"):
        check_claims(open_source(folder))


def test_a_tensor_without_elements_vouches_for_nothing(good: Callable[[str], Path], tmp_path: Path) -> None:
    folder = shutil.copytree(good("bert"), tmp_path / "bad")
    weights = load_file(folder / "model.safetensors")
    data = b"".join(weights[name].tobytes() for name in weights)
    header: dict[str, Any] = {"__metadata__": {"format": "pt"}}
    place = 0
    for name, array in weights.items():
        header[name] = entry(shape=array.shape, offsets=(place, place + array.nbytes))
        place += array.nbytes
    header["empty"] = entry(shape=(2**40, 0), offsets=(place, place))
    write_header(folder, header, data=data)
    config = json.loads((folder / "config.json").read_text())
    claim = {"num_labels": 2**40, "id2label": None, "label2id": None}
    (folder / "config.json").write_text(json.dumps({**config, **claim}))
    with pytest.raises(ConfigError, match="num_labels"):
        check_claims(open_source(folder))
