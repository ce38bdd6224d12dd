"""Rules about config.json: class, dtype, vocabulary, special ids, labels."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from biject.config.common import num_labels, stale_labels
from biject.identify import architecture_of, identify
from biject.verify.lint.facts import Facts, error, warning
from biject.verify.report import Finding, listed
from biject.verify.subject import FLOATS, resolved_by_tensors

_USED_IDS = ("pad_token_id", "mask_token_id", "cls_token_id", "sep_token_id", "unk_token_id")
_OTHER_IDS = ("bos_token_id", "eos_token_id", "decoder_start_token_id")
_OTHER_CLASSES = ("ForPreTraining", "ForNextSentencePrediction", "ForMultipleChoice", "LMHeadModel")
_OTHER_ENDINGS = (*_OTHER_CLASSES, "ForCausalLM")


def architectures(facts: Facts) -> list[Finding]:
    """The class that config.json names: absent, unknown, or one that Biject does not compute."""
    if facts.family is None:
        return []
    named = architecture_of(facts.config)
    if named is None:
        meaning = "no class is named, so pipelines and `--head auto` have to guess the head"
        return [warning("no-architectures", "config.json", meaning, "name it, e.g. `BertForMaskedLM`")]
    head = facts.family.head_of(named)
    if head is not None:
        return _stored_head(facts, named) if head == "base" else []
    stem = facts.family.heads["base"].hf_class.removesuffix("Model")
    if named in {stem + ending for ending in _OTHER_ENDINGS}:
        meaning = f"Biject computes no `{named}`: its base is verified, its head's tensors only pass through"
        advice = "verify the head with transformers"
        return [warning("class-not-computed", "config.json: architectures", meaning, advice)]
    classes = ", ".join(head.hf_class for head in facts.family.heads.values())
    meaning = f"`{named}` is no class of `{facts.family.model_type}`, so the head is unknown to transformers"
    return [error("unknown-architectures", "config.json: architectures", meaning, f"name one of {classes}")]


def _stored_head(facts: Facts, named: str) -> list[Finding]:
    """The base's class is named while the tensors of a head are all there: they are not loaded."""
    if facts.family is None or facts.identity is None or not facts.identity.plan.passthrough:
        return []
    others = {key: value for key, value in facts.config.items() if key != "architectures"}
    tensors = facts.source.tensors
    stored = identify(
        others, tensors, same=facts.same, legacy=resolved_by_tensors(facts.source).get("legacy")
    )
    if stored.file_head == "base":
        return []
    names = [name for name in facts.identity.plan.passthrough if name not in stored.plan.passthrough]
    meaning = (
        f"tensors of a head are stored ({listed(names, most=3)}), but `{named}` has none: they are left out"
    )
    right = facts.family.heads[stored.file_head].hf_class
    return [
        warning(
            "head-not-named", "config.json: architectures", meaning, f"name the head's class, e.g. `{right}`"
        )
    ]


def dtypes(facts: Facts) -> list[Finding]:
    """The dtype that config.json names, against the tensors'."""
    codes = {info.dtype for info in facts.source.tensors.values() if info.dtype in FLOATS}
    present = sorted(str(FLOATS[code]).removeprefix("torch.") for code in codes)
    names = ", ".join(present)
    found = []
    if len(present) > 1:
        meaning = f"floating tensors are {names}; transformers casts all of them to one dtype on loading"
        found.append(warning("mixed-dtypes", "weights", meaning, "save all tensors in one dtype"))
    for key in ("dtype", "torch_dtype"):
        named = facts.config.get(key)
        named = named.removeprefix("torch.") if isinstance(named, str) else None
        if named in (None, "auto") or not present or named in present:
            continue
        meaning = f"config.json has {named}, the tensors are {names}: transformers computes in {named}"
        found.append(warning("dtype-differs", f"config.json: {key}", meaning, f"set it to {names}"))
    return found


def legacy(facts: Facts) -> list[Finding]:
    """Which of DeBERTa's masked-LM heads: the tensors decide here, config.json does in transformers."""
    resolved = resolved_by_tensors(facts.source).get("legacy")
    if facts.identity is None or facts.identity.head != "mlm" or resolved is None:
        return []
    if facts.config.get("legacy", True) == resolved:
        return []
    kind = "legacy" if resolved else "new"
    meaning = f"the file has the {kind} masked-LM head, config.json names the other: HF makes one up"
    advice = f"set `legacy` to {str(resolved).lower()}"
    return [warning("legacy-differs", "config.json: legacy", meaning, advice)]


def vocabulary(facts: Facts) -> list[Finding]:
    """`vocab_size` against the token table's rows, and special ids against both."""
    table = facts.disk("embed.tokens.weight")
    rows = facts.source.tensors[table].shape[0] if table and facts.source.tensors[table].shape else None
    size = facts.config.get("vocab_size")
    found = []
    if isinstance(size, int) and rows is not None and rows != size:
        meaning = f"config.json has {size} tokens, the table has {rows} rows"
        advice = "set `vocab_size` to the rows, or resize the table to the tokenizer"
        found.append(error("vocab-size-differs", "config.json: vocab_size", meaning, advice))
    limit = min((n for n in (size, rows) if isinstance(n, int)), default=None)
    if limit is None:
        return found
    for key in (*_USED_IDS, *_OTHER_IDS):
        value = facts.config.get(key)
        for one in value if isinstance(value, list) else [value]:
            if not isinstance(one, int) or isinstance(one, bool) or 0 <= one < limit:
                continue
            make = error if key in _USED_IDS else warning
            meaning = f"{key} is {one}, ids go from 0 to {limit - 1}: looking it up fails"
            advice = "give it the tokenizer's id, and resize the embedding if tokens were added"
            found.append(make("id-beyond-vocabulary", f"config.json: {key}", meaning, advice))
    return found


def labels(facts: Facts) -> list[Finding]:
    """Names of a classifier's outputs: absent, generic, too few or many, or the two maps disagree."""
    if facts.identity is None or facts.identity.head not in ("seqcls", "tokcls", "imgcls", "distilled"):
        return []
    out = facts.disk("head.out.weight")
    codes = facts.identity.codes
    if codes is not None and out in codes.parts:  # their shape says nothing of rows
        out = facts.disk("head.out.bias")
    rows = facts.source.tensors[out].shape[0] if out and facts.source.tensors[out].shape else 0
    mapping = facts.config.get("id2label")
    names = list(mapping.values()) if isinstance(mapping, Mapping) else []
    declared = num_labels(facts.config)
    found = []
    stale = stale_labels(facts.config)
    if stale:
        advice = "write `id2label` and `label2id` for every output, and no `num_labels`"
        found.append(
            warning("labels-stale", "config.json: num_labels", stale.removeprefix("config.json: "), advice)
        )
    if declared != rows:
        meaning = f"config.json declares {declared} labels, the classifier has {rows} rows"
        advice = (
            "write `id2label` and `label2id` for every row; transformers re-initialises the head as it is"
        )
        found.append(error("label-count", "config.json: id2label", meaning, advice))
    elif rows > 1 and all(names[i : i + 1] in ([], [f"LABEL_{i}"]) for i in range(rows)):
        state = "generic (LABEL_0 …)" if names else "absent"
        meaning = f"names of the {rows} classes are {state}, so results cannot be read"
        advice = "write `id2label` and `label2id` as they were in training"
        found.append(warning("labels-lost", "config.json: id2label", meaning, advice))
    return found + _inverse(mapping, facts.config.get("label2id"))


def _inverse(id2label: Any, label2id: Any) -> list[Finding]:
    if not isinstance(id2label, Mapping) or not isinstance(label2id, Mapping):
        return []
    forward = {str(label): str(index) for index, label in id2label.items()}
    if len(forward) < len(id2label):
        meaning = "two classes have the same name"
        advice = "give each class a name of its own"
    elif forward != {str(label): str(index) for label, index in label2id.items()}:
        meaning = "id2label and label2id are not each other's inverse: training data and results disagree"
        advice = "write both from one list"
    else:
        return []
    return [error("label-maps-disagree", "config.json: label2id", meaning, advice)]
