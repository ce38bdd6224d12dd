"""More or fewer tokens: the token table, a language model's output matrix and its bias change their rows
together.

Source: `PreTrainedModel.resize_token_embeddings` in modeling_utils.py, transformers 5.23. Random numbers are
drawn in HF's order, so that the same seed gives HF's rows, bit for bit.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.distributions import constraints
from torch.distributions.multivariate_normal import MultivariateNormal

from biject.errors import InputError
from biject.model import Model, Vocabulary
from biject.nn.lora import LoraModule

_SPREAD = 1e-9
"""How much of the old rows' covariance new rows have: all but none, so that logits stay what they were."""


def resize(
    model: Model, tokens: int | Vocabulary, *, pad_to_multiple_of: int | None, mean_resizing: bool
) -> None:
    """Give the model as many token embeddings as requested.

    Args:
        model: what to change; its old parameters are replaced by new ones.
        tokens: how many, or a tokenizer: then at least as many as it needs.
        pad_to_multiple_of: round up.
        mean_resizing: new rows are drawn around the old rows' mean; else from `initializer_range`.

    Raises:
        InputError: not even one row, or none for the padding token; or an adapter is on the rows.
    """
    old = model.tokens.num_embeddings
    count = tokens if isinstance(tokens, int) else max(old, 1 + max(tokens.vocab.values(), default=-1))
    if pad_to_multiple_of is not None:
        count = -(-count // pad_to_multiple_of) * pad_to_multiple_of
    least = 1 + (model.tokens.padding_idx or 0)
    if count < least:
        raise InputError(f"a token table of {count} rows was requested; at least {least} are needed.")
    if count == old:
        return
    _refuse_adapted(model)
    std = None if mean_resizing else model.config.initializer_range
    table = model.tokens
    before = table.weight
    with torch.no_grad():
        made = nn.Embedding(count, before.shape[1], device=before.device, dtype=before.dtype)
        table.weight = _grown(before, made.weight, std)
        table.num_embeddings = count
        output = model.head.output_matrix
        if output is not None:
            _resize_output(output, count, std, tied=model.config.tied_output)
    model.tie_weights()
    model.config.resize(count)


def _refuse_adapted(model: Model) -> None:
    """An adapter on the table or the output matrix has parts, or parameters of its own, of the old size."""
    if model.adapters is None:
        return
    resized = (model.tokens, model.head.output_matrix)
    own = {name.rpartition(".")[0] for one in model.adapters.adapters.values() for name in one.own}
    for name, module in model.named_modules():
        if module in resized and (isinstance(module, LoraModule) or name in own):
            raise InputError(
                f"The model's adapters ({', '.join(model.adapters.adapters)}) have numbers for each token in "
                f"`{name}`, which are as many as it has rows. Resize first, then add the adapter; or "
                "merge_adapter() before."
            )


def _resize_output(output: nn.Linear, count: int, std: float | None, *, tied: bool) -> None:
    """The matrix, unless it is the token table, and the bias: where tied, HF gives added tokens 0."""
    output.out_features = count
    if not tied:
        old = output.weight
        made = nn.Linear(
            old.shape[1], count, bias=output.bias is not None, device=old.device, dtype=old.dtype
        )
        output.weight = _grown(old, made.weight, std)
    if output.bias is not None:
        output.bias = _resized_bias(output.bias, count, drawn=not tied and std is None)


def _resized_bias(old: Tensor, count: int, *, drawn: bool) -> nn.Parameter:
    added = count - len(old)
    bias = torch.zeros(count, device=old.device, dtype=old.dtype)
    if drawn and added > 0:
        spread = _SPREAD * torch.std(old, dim=0).float()
        bias[-added:].normal_(mean=old.float().mean().item(), std=spread.item())
    return _keeping(old, bias)


def resized_passthrough(model: Model, tensor: Tensor, old_table: Tensor) -> Tensor | None:
    """What becomes of a tensor that the model does not use and that had a row a token; None if it had not.

    A copy of the token table stays one; else a matrix gets mean rows, a bias zeros, which no output sees.
    """
    old, table = len(old_table), model.tokens.weight
    if len(table) == old or tensor.shape[:1] != (old,) or not tensor.is_floating_point():
        return None
    if tensor.shape == old_table.shape and torch.equal(tensor, old_table):
        return table.detach()
    added = max(len(table) - old, 0)
    fill = tensor.float().mean(dim=0).to(tensor.dtype) if tensor.dim() > 1 else tensor.new_zeros(())
    return torch.cat([tensor[: len(table)], fill.expand(added, *tensor.shape[1:])])


def _grown(old: Tensor, made: Tensor, std: float | None) -> nn.Parameter:
    """`made` with the old rows first; what is added is drawn around their mean, or around 0 with `std`."""
    added = len(made) - len(old)
    if added > 0 and std is not None:
        made.normal_(mean=0.0, std=std)
    elif added > 0:
        rows = old.float()
        mean = rows.mean(dim=0)
        centred = rows - mean
        covariance = _SPREAD * (centred.T @ centred / len(old))
        if bool(constraints.positive_definite.check(covariance).all()):  # type: ignore[no-untyped-call]
            drawn = MultivariateNormal(mean, covariance_matrix=covariance).sample((added,))
        else:
            drawn = mean[None].repeat(added, 1)
        made[-added:] = drawn.to(made.dtype)
    return _keeping(old, made)


def _keeping(old: Tensor, made: Tensor) -> nn.Parameter:
    """`made`, whose first rows become the old ones; trained if they were."""
    kept = min(len(old), len(made))
    made[:kept] = old[:kept]
    return nn.Parameter(made.detach(), requires_grad=old.requires_grad)
