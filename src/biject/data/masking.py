"""Which tokens a masked language model has to predict: drawn again each epoch, the same for the same seed.

Source: Devlin et al. 2018 (arXiv:1810.04805), section 3.1 and appendix A.1; transformers 5.23,
data/data_collator.py (DataCollatorForLanguageModeling).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from biject.data.dataset import IGNORED
from biject.errors import InputError

Bools = npt.NDArray[np.bool_]


@dataclass(frozen=True, kw_only=True)
class Masking:
    """How tokens are chosen and what takes their place.

    Attributes:
        mask_token_id: What replaces 80 % of them; 10 % become a random token, 10 % stay.
        vocab_size: Random tokens are drawn below it.
        share: Chance of each token, or word, to be chosen.
        whole_words: Choose all tokens of a word or none.
        seed: With the epoch and the sample's index it decides everything.
    """

    mask_token_id: int
    vocab_size: int
    share: float = 0.15
    whole_words: bool = False
    seed: int = 0

    def __post_init__(self) -> None:
        if not 0 < self.share < 1:
            raise InputError(f"The share of masked tokens should be between 0 and 1, found {self.share}.")
        if self.seed < 0:
            raise InputError(f"seed: expected no negative number, found {self.seed}.")

    def __call__(
        self, ids: Sequence[int], words: Sequence[int], *, epoch: int, index: int
    ) -> tuple[list[int], list[int]]:
        """Masked ids, and labels that are -100 where nothing is to be found.

        At least one token is chosen (Google's create_pretraining_data.py does so too), so that no sample is
        without a label; with the plain draw one of five texts of ten tokens would be.

        Args:
            ids: The sample's tokens.
            words: For each token the word that it is of; -1 for special tokens, which are never chosen.
            epoch: Of the training.
            index: Of the sample.
        """
        random = np.random.Generator(np.random.PCG64([self.seed, epoch, index]))
        given, word_of = np.asarray(ids), np.asarray(words)
        chosen = self._choose(word_of, random)
        labels = np.where(chosen, given, IGNORED)
        draw = random.random(len(given))
        strangers = random.integers(self.vocab_size, size=len(given))
        out = np.where(chosen & (draw < 0.8), self.mask_token_id, given)
        out = np.where(chosen & (draw >= 0.8) & (draw < 0.9), strangers, out)
        return out.tolist(), labels.tolist()

    def _choose(self, word_of: npt.NDArray[np.int64], random: np.random.Generator) -> Bools:
        free = word_of >= 0
        units = word_of if self.whole_words else np.arange(len(word_of))
        draw = random.random(int(units.max(initial=-1)) + 2)
        chosen: Bools = free & (draw[units] < self.share)
        if not chosen.any() and free.any():
            chosen = free & (units == random.choice(units[free]))
        return chosen
