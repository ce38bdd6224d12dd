"""XLM-RoBERTa (Conneau et al. 2019): RoBERTa with another vocabulary. Source: transformers 5.23,
models/xlm_roberta.
"""

from __future__ import annotations

from biject.families.roberta import cousin

FAMILY = cousin("xlm-roberta", "XLMRoberta", vocab_size=30522, base={"vocab_size": 250002})
