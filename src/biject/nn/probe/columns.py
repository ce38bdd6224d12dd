"""Do scores with some rows of a table have the bits that they have among those with all of its rows?

A batched product is blocked by its number of columns, too. Asked of the product of `nn/relative.py`.
"""

from __future__ import annotations

import torch

from biject.nn.probe import store
from biject.nn.probe.linear import draw_numbers
from biject.nn.relative import ALIGNED, near_rows

_BATCHES = (
    (1, 16, 16), (2, 3, 3), (1, 5, 5), (1, 16, 45), (3, 17, 17), (2, 48, 48), (1, 83, 83),
    (48, 33, 33), (2, 128, 128), (1, 160, 160), (1, 16, 192), (1, 250, 250), (1, 401, 401),
)  # fmt: skip
"""(texts, queries, keys)."""
_HEADS = 2


def columns_hold(head_dim: int, span: int, dtype: torch.dtype) -> bool:
    """Whether each trial's scores have equal bits when only the columns that it looks at are computed, of a
    table of twice `span` rows.
    """
    question = f"columns by {ALIGNED} of {2 * span} {head_dim} {str(dtype).removeprefix('torch.')}"
    known = store.recall(question)
    if known is None:
        known = _measure(head_dim, span, dtype)
        store.remember(question, known)
    return bool(known)


@store.plainly()
def _measure(head_dim: int, span: int, dtype: torch.dtype) -> bool:
    places = torch.arange(max(keys for _, _, keys in _BATCHES))
    distances = (places[:, None] - places).unsqueeze(0)
    for texts, queries, keys in _BATCHES:
        groups, rows = texts * _HEADS, near_rows(distances, span, queries, keys)
        x, table_PE, _ = draw_numbers(head_dim, 2 * span, groups * queries, dtype)
        x_GQE, few_PE = x.view(groups, queries, head_dim), table_PE[rows.first : rows.end]
        whole, few = (torch.bmm(x_GQE, y.repeat(groups, 1, 1).transpose(-1, -2)) for y in (table_PE, few_PE))
        if not torch.equal(few, whole[:, :, rows.first : rows.end]):
            return False
    return True
