"""Compare our model with HF's, bit for bit, without the verifier: the two must not share their
mistakes.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from biject.families import family
from biject.model import Model
from biject.pretrained import load
from biject.verify.inputs import Case


def language_head(model_type: str) -> str:
    """A head that every family has: masked or causal LM, or the classifier of pictures."""
    heads = family(model_type).heads
    return next(head for head in ("mlm", "causal", "imgcls") if head in heads)


def hf_model(
    folder: Path, ours: Model, *, attention: str | None = None, dtype: torch.dtype | None = None
) -> nn.Module:
    """HF's model of the same head and, for DeBERTa, the same `legacy`."""
    import transformers

    known = family(ours.hf_config["model_type"])
    cls = getattr(transformers, known.heads[ours.head_name].hf_class)
    extra = {"legacy": ours.resolved_config["legacy"]} if "legacy" in ours.resolved_config else {}
    model = cls.from_pretrained(
        folder,
        attn_implementation=attention or known.backend(ours.hf_config),
        dtype=dtype or ours.file_dtype,
        **extra,
    )
    assert isinstance(model, nn.Module)
    return model.eval()


def pair(folder: Path, **options: Any) -> tuple[Model, nn.Module]:
    """Ours and HF's, from one folder."""
    ours = load(folder, **{"layout": "padded", **options})
    return ours, hf_model(folder, ours)


def differences(ours: Any, theirs: Any) -> list[str]:
    """Outputs of which any bit differs (NaN equals NaN), or that only one side has; loss and hidden
    states too.
    """
    found = []
    for key in list(theirs):
        if isinstance(theirs[key], tuple) and not theirs[key]:
            continue  # HF's BERT returns empty cross_attentions
        if not isinstance(theirs[key], tuple | Tensor):
            continue  # HF's decoders return their cache unasked
        if key not in ours:
            found.append(f"{key} is missing")
            continue
        a, b = ours[key], theirs[key]
        many = zip(a, b, strict=True) if isinstance(a, tuple) else [(a, b)]
        found += [f"{key}[{i}] {_distance(x, y)}" for i, (x, y) in enumerate(many) if not equal(x, y)]
    return found + [f"{key} is extra" for key in ours if key not in theirs]


def equal(a: Tensor, b: Tensor) -> bool:
    """Same shape, dtype and values, NaN where NaN."""
    return (
        a.dtype == b.dtype
        and a.shape == b.shape
        and torch.equal(torch.nan_to_num(a, 7.0), torch.nan_to_num(b, 7.0))
    )


def _distance(a: Tensor, b: Tensor) -> str:
    if a.shape != b.shape or a.dtype != b.dtype:
        return f"{a.dtype} {tuple(a.shape)} against {b.dtype} {tuple(b.shape)}"
    return f"differs by {(a - b).abs().max().item():.3g}"


def compare_forward(ours: Model, theirs: nn.Module, case: Case) -> list[str]:
    """One call of both, with every hidden state."""
    with torch.no_grad():
        a = ours(**case.inputs, output_hidden_states=True)
        b = theirs(**case.inputs, output_hidden_states=True)
    return differences(a, b)


def compare_gradients(ours: Model, theirs: nn.Module, case: Case, *, train: bool, seed: int = 3) -> list[str]:
    """One backward of both: the loss and every parameter's gradient."""
    losses = []
    for model in (ours, theirs):
        model.train(train).zero_grad()
        torch.manual_seed(seed)
        losses.append(objective(model(**case.inputs)))
        losses[-1].backward()
        model.eval()
    found = [] if equal(losses[0], losses[1]) else [f"loss {_distance(losses[0], losses[1])}"]
    hf = dict(theirs.named_parameters(remove_duplicate=False))
    for binding in ours.provenance.plan.bindings:
        a, b = ours.get_parameter(binding.memory).grad, hf_gradient(binding.disk[0], hf, ours)
        if (a is None) != (b is None) or (a is not None and b is not None and not equal(a, b)):
            found.append(
                f"gradient of {binding.memory} "
                + (_distance(a, b) if a is not None and b is not None else "is missing")
            )
    return found


def hf_tensor(disk: str, hf: Any, ours: Model) -> Tensor:
    """HF's values of a tensor of the file."""
    stacked = expert_slice(disk, hf)
    if stacked is not None:
        name, where = stacked
        return hf[name][where].detach()
    prefix = ours.family.prefix_of(ours.head_name)
    return hf[hf_name(disk, hf, prefix, ours.family.in_memory)].detach()


def hf_gradient(disk: str, hf: Any, ours: Model) -> Tensor | None:
    """HF's gradient of a tensor of the file."""
    stacked = expert_slice(disk, hf)
    if stacked is not None:
        name, where = stacked
        return None if hf[name].grad is None else hf[name].grad[where]
    prefix = ours.family.prefix_of(ours.head_name)
    return _gradient(hf, _hf_names(disk, hf, prefix, ours.family.in_memory))


def expert_slice(disk: str, hf: Any) -> tuple[str, Any] | None:
    """Where HF has an expert's matrix in memory: the gates stand over the ways up in one tensor."""
    found = re.fullmatch(r"(.*mlp\.experts)\.(\d+)\.(gate|up|down)_proj\.weight", disk)
    if found is None:
        return None
    stem, expert, kind = found[1], int(found[2]), found[3]
    name = f"{stem}.{'down' if kind == 'down' else 'gate_up'}_proj"
    name = next(one for one in hf if one.endswith(name.removeprefix("model.")))
    half = hf[name].shape[1] // 2
    rows = {"gate": slice(None, half), "up": slice(half, None), "down": slice(None)}[kind]
    return name, (expert, rows)


def _hf_names(disk: str, hf: Any, prefix: str, renamed: tuple[tuple[str, str], ...]) -> list[str]:
    """HF's parameters that are one tensor of the file: mostly one."""
    for old, new in renamed:
        if old in disk and "+" in new:
            return [hf_name(disk.replace(old, one), hf, prefix, renamed) for one in new.split("+")]
    return [hf_name(disk, hf, prefix, renamed)]


def _gradient(hf: Any, names: list[str]) -> Tensor | None:
    parts = [hf[name].grad for name in names]
    return None if parts[0] is None else torch.cat(parts) if len(parts) > 1 else parts[0]


def objective(out: Any) -> Tensor:
    """The loss, or for a base model a scalar that reaches every output."""
    if "loss" in out:
        return out["loss"]
    if "last_hidden_state" not in out:
        return out["logits"].float().pow(2).sum()
    total = out["last_hidden_state"].float().pow(2).sum()
    return total + out["pooler_output"].float().sum() if "pooler_output" in out else total


def hf_name(disk: str, names: Any, prefix: str, renamed: tuple[tuple[str, str], ...] = ()) -> str:
    """HF's name in memory for a name on disk; `renamed`: the family's `in_memory`."""
    for old, other in renamed:
        disk = disk.replace(old, other)
    new = disk.replace("LayerNorm.gamma", "LayerNorm.weight").replace("LayerNorm.beta", "LayerNorm.bias")
    options = (new, f"{prefix}.{new}", new.removeprefix(f"{prefix}."))
    return next(name for name in options if name in names)
