"""Fill-mask: the likeliest tokens for each mask, as HF's pipeline gives them.

Source: transformers 5.23, pipelines/fill_mask.py.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, ClassVar

import torch
from torch import Tensor

from biject.errors import InputError
from biject.events import notice
from biject.nn.output import ModelOutput
from biject.tasks.common import Batch, Task
from biject.tasks.inputs import as_texts, is_one, require
from biject.tokenization.encoded import Encoded


class FillMask(Task):
    """Predicts masked tokens."""

    name: ClassVar[str] = "fill-mask"
    head: ClassVar[str] = "mlm"
    takes: ClassVar[tuple[str, ...]] = ("top_k", "targets")

    def __call__(
        self, inputs: str | Sequence[str], *, top_k: int = 5, targets: str | Sequence[str] | None = None
    ) -> list[Any]:
        """Fill the masks of one text or of several.

        Args:
            inputs: texts with at least one mask token each.
            top_k: how many tokens to give for each mask.
            targets: choose among these tokens only.

        Returns:
            For a text with one mask, a list of `score`, `token`, `token_str` and `sequence`, best first;
            with several masks, such a list for each. For several texts, a list of these.

        Raises:
            InputError: the tokenizer has no mask token, or a text has none.
        """
        require(top_k >= 1, f"`top_k` must be at least 1; found {top_k}.")
        texts = as_texts(inputs, self.name)
        mask_id = self.tokenizer.mask_token_id
        if mask_id is None:
            raise InputError("fill-mask: the tokenizer has no mask token.")
        chosen = None if targets is None else self._target_ids(targets)
        encoded = self.encode(texts)
        places = [[i for i, token in enumerate(ids) if token == mask_id] for ids in encoded.input_ids]
        for row, found in enumerate(places):
            if not found:
                self._complain(texts[row], row)
        results: list[Any] = [None] * len(texts)
        if texts:
            for row, value in self._fill(encoded, places, top_k=top_k, chosen=chosen):
                results[row] = value
        return results[0] if is_one(inputs) else results

    def _fill(
        self, encoded: Encoded, places: list[list[int]], *, top_k: int, chosen: Tensor | None
    ) -> Iterator[tuple[int, Any]]:
        def masks_only(batch: Batch) -> ModelOutput:
            return self.forward(batch, logits_at=_masks(batch, places))

        for batch, out in self.outputs(encoded, masks_only):
            assert out.logits is not None
            probs = out.logits.softmax(dim=-1).cpu()
            if chosen is not None:
                probs = probs[:, chosen]
            values, indices = probs.topk(min(top_k, probs.shape[-1]))
            tokens = indices if chosen is None else chosen[indices]
            at = 0
            for row in batch.rows:
                upto = at + len(places[row])
                yield (
                    row,
                    self._propositions(
                        encoded.input_ids[row],
                        places[row],
                        values[at:upto].tolist(),
                        tokens[at:upto].tolist(),
                    ),
                )
                at = upto

    def _propositions(
        self, ids: Sequence[int], places: Sequence[int], scores: list[list[float]], tokens: list[list[int]]
    ) -> list[Any]:
        """Each mask's candidates; the other masks of a text stay visible in `sequence`."""
        single = len(places) == 1
        found = []
        for place, values, candidates in zip(places, scores, tokens, strict=True):
            row = []
            for score, token in zip(values, candidates, strict=True):
                filled = [token if i == place else other for i, other in enumerate(ids)]
                filled = [token for token in filled if token != self.tokenizer.pad_token_id]
                row.append(
                    {
                        "score": score,
                        "token": token,
                        "token_str": self.tokenizer.decode([token]),
                        "sequence": self.tokenizer.decode(filled, skip_special_tokens=single),
                    }
                )
            found.append(row)
        return found[0] if single else found

    def _target_ids(self, targets: str | Sequence[str]) -> Tensor:
        """Ids of the targets; of one outside the vocabulary, its first token's."""
        targets = [targets] if isinstance(targets, str) else targets
        vocabulary = self.tokenizer.backend.get_vocab()
        ids: dict[int, None] = {}
        for target in targets:
            token = vocabulary.get(target)
            if token is None:
                pieces = self.tokenizer([target], add_special_tokens=False).input_ids[0]
                require(bool(pieces), f"`targets`: {target!r} has no token in the vocabulary.")
                token = pieces[0]
                notice(
                    "target-replaced",
                    f"`targets`: {target!r} is no single token of the vocabulary; its first token "
                    f"{self.tokenizer.convert_ids_to_tokens(token)!r} is used instead.",
                )
            ids[token] = None
        require(bool(ids), "`targets` must name at least one token.")
        return torch.tensor(list(ids))

    def _complain(self, text: str, row: int) -> None:
        mask = self.tokenizer.mask_token
        if mask is not None and mask in text:
            raise InputError(
                f"fill-mask: the {mask} of text {row + 1} is beyond the {self.max_tokens} tokens that the "
                "model takes."
            )
        raise InputError(
            f"fill-mask: text {row + 1} has no mask token; write {mask} where a word is to be found."
        )


def _masks(batch: Batch, places: list[list[int]]) -> Tensor:
    """(B, L), True at the masks."""
    mask = torch.zeros(batch.input_ids.shape, dtype=torch.bool)
    for at, row in enumerate(batch.rows):
        mask[at, places[row]] = True
    return mask.to(batch.input_ids.device)
