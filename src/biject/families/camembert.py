"""CamemBERT (Martin et al. 2019): RoBERTa in French. Source: transformers 5.23, models/camembert."""

from __future__ import annotations

from biject.families.roberta import cousin

FAMILY = cousin("camembert", "Camembert", vocab_size=30522, base={"vocab_size": 32005})
