"""Steps in C against the model's own: every causal variant, padded or not, bfloat16, codes; and refusals."""

from __future__ import annotations

import ctypes
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

from biject.errors import InputError
from biject.model import Model
from biject.nn.decode import Decoding
from biject.nn.modules import Linear, TransposedLinear
from biject.nn.native import build
from biject.nn.native.decoding import NativeDecoding, native_decoding
from biject.nn.native.laid_out import laid_out
from biject.nn.native.matrices import dequantised, eight_bits, four_bits, lay_out
from biject.pretrained import load
from parity.variants import VARIANTS

Make = Callable[..., Path]
CAUSAL = [v for v in VARIANTS if "causal" in v.heads and v.name != "window-1"]
WIDE = {"hidden_size": 128, "intermediate_size": 192, "num_attention_heads": 4, "num_key_value_heads": 2}
"""Widths that codes take."""
pytestmark = pytest.mark.skipif(build.compiler() is None, reason="needs a C compiler")


@pytest.fixture(autouse=True)
def forget() -> Iterator[None]:
    """Each test compiles, or finds it compiled, under its own conditions."""
    build.library.cache_clear()
    yield
    build.library.cache_clear()


def ids_of(batch: int, length: int, high: int = 90) -> torch.Tensor:
    return torch.randint(5, high, (batch, length), generator=torch.Generator().manual_seed(1))


@torch.inference_mode()
def logits(
    model: Model, kind: Callable[..., Any], ids: torch.Tensor, mask: torch.Tensor, prompt: int
) -> torch.Tensor:
    """(steps, B, V): the prompt's first columns at once, the rest one by one."""
    batch, length = ids.shape
    real, positions = mask.bool(), (mask.cumsum(-1) - 1).clamp_min(0)
    holes = {} if bool(real.all()) else {"real_BS": real}
    run = kind(model, batch=batch, length=length, **holes)
    found = [run(ids[:, :prompt], positions[:, :prompt]).float()]
    steps = [(ids[:, at : at + 1], positions[:, at : at + 1]) for at in range(prompt, length)]
    found += [run(*step).float().clone() for step in steps]
    return torch.stack(found)


def native(form: Any = None) -> Callable[..., NativeDecoding]:
    def make(model: Model, *, real_BS: torch.Tensor | None = None, **named: Any) -> NativeDecoding:
        first = None if real_BS is None else real_BS.int().argmax(1)
        found = native_decoding(model, form, real_BS=real_BS, first_B=first, **named)
        assert isinstance(found, NativeDecoding)
        return found

    return make


def left_padded(ids: torch.Tensor) -> torch.Tensor:
    return (torch.arange(ids.shape[1]) >= 2 * torch.arange(ids.shape[0])[:, None]).long()


def in_eight_bits(x: torch.Tensor) -> torch.Tensor:
    """Groups of 32 rounded as vectors are."""
    groups = x.view(-1, 32)
    scale = groups.abs().amax(1, keepdim=True) / 127
    return ((groups / scale).round() * scale).flatten()


def difference(mine: torch.Tensor, other: torch.Tensor) -> float:
    """Relative to the logits' spread."""
    return ((mine - other).abs().max() / other.std()).item()


@pytest.mark.parametrize("variant", CAUSAL, ids=lambda v: f"{v.model_type}-{v.name}")
def test_every_variant(variant: Any, reference: Make) -> None:
    """Past windows and original lengths; what steps in C do not know says why, and is nothing but these."""
    model = load(
        reference(variant.model_type, "causal", overrides={**variant.overrides, "eos_token_id": None})
    )
    parts = laid_out(model, None)
    if isinstance(parts, str):
        reasons = (
            "activation", "fused gate", "rotated in part", "scaled", "give is normalised", "experts are none"
        )  # fmt: skip
        assert any(word in parts for word in reasons)
        return
    for ids in (ids_of(1, 24), ids_of(3, 24)):
        mask = torch.ones_like(ids) if len(ids) == 1 else left_padded(ids)
        pair = [logits(model, kind, ids, mask, 11) for kind in (native(), Decoding)]
        assert difference(*pair) < 1e-4


@pytest.mark.parametrize("threads", [1, 2, 3])
def test_threads_share_the_work(threads: int, reference: Make) -> None:
    model = load(reference("llama", "causal", overrides={**WIDE, "vocab_size": 1003}))
    ids = ids_of(2, 12)
    before = torch.get_num_threads()
    try:
        torch.set_num_threads(threads)
        pair = [logits(model, kind, ids, torch.ones_like(ids), 3) for kind in (native(), Decoding)]
    finally:
        torch.set_num_threads(before)
    assert difference(*pair) < 1e-4


def test_a_position_that_is_one_off_is_seen(reference: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    """The planted fault."""
    model = load(reference("qwen3", "causal", overrides=WIDE))
    ids = ids_of(1, 12)
    true = logits(model, Decoding, ids, torch.ones_like(ids), 4)
    plain = NativeDecoding.__call__
    monkeypatch.setattr(
        NativeDecoding, "__call__", lambda run, ids, at: plain(run, ids, at + (ids.shape[1] == 1))
    )
    assert difference(logits(model, native(), ids, torch.ones_like(ids), 4), true) > 1e-3


@pytest.mark.parametrize("model_type", ["gpt2", "llama"])
def test_bfloat16_is_nearer_to_float32_than_torch_is(model_type: str, reference: Make) -> None:
    folder = reference(model_type, "causal", overrides={"vocab_size": 1200})
    model, wide = load(folder, dtype=torch.bfloat16), load(folder, dtype=torch.bfloat16)
    wide = wide.to(torch.float32)
    ids = ids_of(2, 20)
    mask = left_padded(ids)
    true = logits(wide, Decoding, ids, mask, 6)
    mine, torchs = (logits(model, kind, ids, mask, 6) for kind in (native(), Decoding))
    assert difference(mine[1:], true[1:]) < 1.2 * difference(torchs[1:], true[1:])


@pytest.mark.parametrize("form, bound", [("int8", 0.05), ("int4", 0.05)])
@pytest.mark.parametrize("model_type", ["gpt2", "llama"])
def test_codes_compute_what_they_stand_for(model_type: str, form: Any, bound: float, reference: Make) -> None:
    """Against the same model with the matrices that the codes stand for: rounded vectors are all that
    differs, less than what the codes did to the matrices.
    """
    sizes = {"n_embd": 128, "n_head": 4} if model_type == "gpt2" else WIDE
    folder = reference(
        model_type, "causal", overrides={**sizes, "vocab_size": 1200, "tie_word_embeddings": False}
    )
    model, rounded = load(folder), load(folder)
    with torch.no_grad():
        for module in list(rounded.modules()):
            laid = lay_out(module, "int8" if module is rounded.head.output_matrix else form)
            if laid is not None:
                weight, kept = dequantised(laid), module.get_parameter("weight")
                kept.copy_(weight.t() if type(module) is TransposedLinear else weight)
    ids = ids_of(1, 10)
    mask = torch.ones_like(ids)
    run = native(form)
    mine = logits(model, run, ids, mask, 1)[1:]  # a prompt of one token: what it leaves is not rounded
    codes = logits(rounded, Decoding, ids, mask, 1)[1:]
    plain = logits(model, Decoding, ids, mask, 1)[1:]
    assert difference(mine, codes) < bound + difference(codes, plain) / 2
    assert difference(mine, plain) > 1e-4


@pytest.mark.parametrize("kind, bound", [(eight_bits, 1 / 250), (four_bits, 1 / 13)])
def test_codes_round_to_the_nearest(kind: Callable[..., Any], bound: float) -> None:
    linear = Linear(192, 40, bias=False)
    linear.weight = torch.nn.Parameter(torch.randn(40, 192))
    with torch.no_grad():
        linear.weight[3] = 0  # no scale
        linear.weight[4, 7] = 60  # one that is large
    found = dequantised(lay_out(linear, "int8" if kind is eight_bits else "int4"))
    rows = linear.weight.detach()
    most = rows.abs().amax(1, keepdim=True)
    if kind is four_bits:
        most = rows.view(40, -1, 32).abs().amax(-1).repeat_interleave(32, dim=1)
    assert torch.equal(found[3], torch.zeros(192))
    assert bool(((found - rows).abs() <= most * bound * (1 if kind is eight_bits else 3) + 1e-9).all())


def test_without_vector_instructions(
    reference: Make, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """The plain C of the same sums, compiled for any processor of the kind, without OpenMP."""
    monkeypatch.setattr(build, "_TRIES", ((),))
    monkeypatch.setenv("BIJECT_CACHE", str(tmp_path / "other"))
    model = load(reference("llama", "causal", overrides={**WIDE, "vocab_size": 1200}))
    ids = ids_of(2, 10)
    assert (
        difference(*(logits(model, kind, ids, torch.ones_like(ids), 4) for kind in (native(), Decoding)))
        < 1e-4
    )
    plain = build.library()
    monkeypatch.undo()
    build.library.cache_clear()
    vector = build.library()
    assert plain is not None
    assert vector is not None
    assert plain._name != vector._name
    linear = Linear(192, 40, bias=True)
    for form in (None, "int8", "int4"):
        linear.weight = torch.nn.Parameter(torch.randn(40, 192))
        linear.bias = torch.nn.Parameter(torch.randn(40))
        laid, x = lay_out(linear, form), torch.randn(192)
        rounded = x if form is None else in_eight_bits(x)
        expected = dequantised(laid) @ rounded + linear.bias.detach()
        for found in (plain, vector):
            y = torch.empty(40)
            assert found.biject_product(ctypes.byref(laid.whole()), x.data_ptr(), y.data_ptr()) == 0
            # 192 products of about 1 in another order: 192 roundings of sums to about 40, of half a ULP each.
            torch.testing.assert_close(
                y, expected, rtol=0, atol=192 * 40 * torch.finfo(torch.float32).eps / 2
            )


def test_the_same_tokens(reference: Make) -> None:
    model = load(reference("llama", "causal", overrides=WIDE), numerics="fast")
    exact = load(model.source.folder)
    ids = ids_of(3, 9)
    mask = left_padded(ids)
    assert model.generate(ids, mask, max_new_tokens=20).tolist() == (
        exact.generate(ids, mask, max_new_tokens=20).tolist()
    )
    assert exact.generate(ids, mask, max_new_tokens=9, quantization="int4").shape == (3, 18)


def test_changed_parameters_are_laid_out_anew(reference: Make) -> None:
    model = load(reference("gpt2", "causal"))
    ids = ids_of(1, 8)
    mask = torch.ones_like(ids)
    weight = model.layers[0].attn.qkv_proj.weight

    def in_place() -> None:
        with torch.no_grad():
            weight.mul_(2)

    def through_data() -> None:
        weight.data.mul_(2)  # the version counter does not see it

    def through_numpy() -> None:
        weight.detach().numpy()[:] *= 0.5

    for write in (in_place, through_data, through_numpy):
        before = logits(model, native(), ids, mask, 3)
        write()
        after = logits(model, native(), ids, mask, 3)
        assert difference(after, before) > 1e-3
        assert difference(after, logits(model, Decoding, ids, mask, 3)) < 1e-4


def test_what_is_refused(reference: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    model = load(reference("llama", "causal", overrides=WIDE))
    ids = ids_of(2, 6)
    holes = torch.ones_like(ids)
    holes[0, 2] = 0
    with pytest.raises(InputError, match="holes"):
        model.generate(ids, holes, quantization="int8")
    with pytest.raises(InputError, match="`quantization` must be 'int8' or 'int4'"):
        model.generate(ids, quantization="int3")
    with pytest.raises(InputError, match="leave out"):
        model.generate(ids, quantization="int8", numerics="exact")
    half = load(model.source.folder, dtype=torch.float16)
    with pytest.raises(InputError, match="float16"):
        half.generate(ids, quantization="int8")
    monkeypatch.setenv("CC", "no-such-compiler")
    build.library.cache_clear()
    with pytest.raises(InputError, match="no C compiler"):
        model.generate(ids, quantization="int8")
    fast = model.generate(ids, numerics="fast", max_new_tokens=5)
    assert fast.tolist() == model.generate(ids, max_new_tokens=5).tolist()


def test_a_damaged_library_is_compiled_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("BIJECT_CACHE", str(tmp_path / "first"))
    assert build.library() is not None
    (made,) = (tmp_path / "first" / "native").glob("*.so")
    damaged = tmp_path / "second" / "native" / made.name  # of another path: this process has loaded the first
    damaged.parent.mkdir(parents=True, mode=0o700)
    damaged.write_bytes(b"not a library")
    monkeypatch.setenv("BIJECT_CACHE", str(tmp_path / "second"))
    build.library.cache_clear()
    assert build.library() is not None
    assert damaged.read_bytes() == made.read_bytes()


def test_the_process_keeps_its_subnormal_numbers() -> None:
    """Linked with -ffast-math, a library makes its whole process flush them to zero when it is loaded."""
    code = (
        "from biject.nn.native import build; import torch; build.library(); print(torch.tensor(1e-45).item())"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert float(done.stdout) > 0


@pytest.mark.attack("a cache folder that others can write to holds a library")
def test_a_folder_that_others_can_write_is_not_trusted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("BIJECT_CACHE", str(tmp_path))
    assert build.library() is not None
    (kept,) = (tmp_path / "native").glob("*.so")
    kept.unlink()  # the loaded one stays mapped
    kept.write_bytes(b"planted")
    (tmp_path / "native").chmod(0o777)
    build.library.cache_clear()
    assert build.library() is not None
    assert kept.read_bytes() == b"planted"
