"""Public repositories that `verify-matrix --weights hub` takes, one a family and head.

Each is well known, not gated, and names the head's class in `architectures`; a cell whose repository turns
out to have another head fails with that reason. Revisions are pinned by the lock file, not here.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

HUB_MODELS: Mapping[tuple[str, str], str] = MappingProxyType(
    {
        ("albert", "base"): "sentence-transformers/paraphrase-albert-small-v2",
        ("albert", "seqcls"): "textattack/albert-base-v2-SST-2",
        ("albert", "qa"): "twmkn9/albert-base-v2-squad2",
        ("albert", "mlm"): "albert/albert-base-v2",
        ("bert", "base"): "sentence-transformers/all-MiniLM-L6-v2",
        ("bert", "seqcls"): "nlptown/bert-base-multilingual-uncased-sentiment",
        ("bert", "tokcls"): "dslim/bert-base-NER",
        ("bert", "qa"): "deepset/bert-base-cased-squad2",
        ("bert", "mlm"): "google-bert/bert-base-uncased",
        ("camembert", "tokcls"): "Jean-Baptiste/camembert-ner",
        ("camembert", "mlm"): "almanach/camembert-base",
        ("deberta-v2", "seqcls"): "cross-encoder/nli-deberta-v3-small",
        ("deberta-v2", "mlm"): "microsoft/deberta-v3-small",
        ("deberta-v2", "qa"): "deepset/deberta-v3-base-squad2",
        ("distilbert", "base"): "sentence-transformers/msmarco-distilbert-base-v4",
        ("distilbert", "seqcls"): "distilbert/distilbert-base-uncased-finetuned-sst-2-english",
        ("distilbert", "tokcls"): "elastic/distilbert-base-uncased-finetuned-conll03-english",
        ("distilbert", "qa"): "distilbert/distilbert-base-cased-distilled-squad",
        ("distilbert", "mlm"): "distilbert/distilbert-base-uncased",
        ("electra", "base"): "google/electra-small-discriminator",
        ("electra", "qa"): "deepset/electra-base-squad2",
        ("electra", "mlm"): "google/electra-small-generator",
        ("roberta", "base"): "princeton-nlp/sup-simcse-roberta-base",
        ("roberta", "seqcls"): "FacebookAI/roberta-large-mnli",
        ("roberta", "tokcls"): "Jean-Baptiste/roberta-large-ner-english",
        ("roberta", "qa"): "deepset/roberta-base-squad2",
        ("roberta", "mlm"): "FacebookAI/roberta-base",
        ("xlm-roberta", "base"): "intfloat/multilingual-e5-base",
        ("xlm-roberta", "seqcls"): "papluca/xlm-roberta-base-language-detection",
        ("xlm-roberta", "tokcls"): "Davlan/xlm-roberta-base-ner-hrl",
        ("xlm-roberta", "qa"): "deepset/xlm-roberta-base-squad2",
        ("xlm-roberta", "mlm"): "FacebookAI/xlm-roberta-base",
    }
)
"""(family, head) → repository."""
