"""`head_config` of a draft: the head that the file has, by its tensors and the class in config.json."""

from __future__ import annotations

from typing import Any

from biject.newfamily.facts import Facts
from biject.newfamily.source_text import block, call, function
from biject.newfamily.write_names import dense_bias


def activation(facts: Facts) -> str:
    """The activation, as source text."""
    return facts.value("hidden_act") or '"gelu"'


def _dense(facts: Facts) -> list[str]:
    found = facts.roles.head
    if "head.dense" not in found:
        return []
    act = "classifier_activation" if "classifier_activation" in facts.fields else "hidden_act"
    bias = dense_bias(facts)
    given = ['size=v["hidden_size"]', f"act={facts.value(act) or activation(facts)}"]
    given += [] if bias == "True" else [f"bias={bias}"]
    given += ["norm=norm_config(v)"] if "head.norm" in found else []
    return [f"dense={call('DenseConfig', given, indent=8)}"]


def head(facts: Facts) -> str:
    """The function that gives the head's config."""
    pooler, kind, given = "head.pooler" in facts.roles.base, *_head_config(facts)
    lines = [f"return BaseHeadConfig({'pooler=True' if pooler else ''})"]
    if kind:
        returned = block([f"return {call(kind, given, indent=15)}"])
        lines.insert(0, f'if name == "{facts.head}":\n{returned}')
        lines.insert(0, "# TODO: activations (fixed, or config.json's?), dropouts, pooling")
    return function("head_config(v: Values, name: str) -> HeadConfig", "What sits on the transformer.", lines)


def _head_config(facts: Facts) -> tuple[str, list[str]]:
    """The file's head: config type and arguments."""
    found, dense = facts.roles.head, _dense(facts)
    labels, problem = "num_labels=num_labels(v)", 'problem_type=v["problem_type"]'
    dropout = facts.number("classifier_dropout", "hidden_dropout")
    dropped = [f"dropout={dropout}"] if dropout else []
    out = found.get("head.out")
    no_bias = ["out_bias=False"] if out is not None and not out.has_bias else []
    if facts.head in ("mlm", "causal"):
        owner: Any = found.get("head.decoder.bias") or found.get("head.decoder")
        bias = facts.bias([owner], "decoder_bias") if owner is not None else "False"
        biased = [] if bias == "True" else [f"out_bias={bias}"]
        loss = ["causal=True", "float32_loss=True"] if facts.head == "causal" else []
        loss += [f"softcap={capped}" for capped in [facts.number("final_softcap")] if capped]
        return "VocabHeadConfig", ['num_labels=v["vocab_size"]', *dense, *biased, *loss]
    if facts.head == "seqcls" and facts.causal:
        return "LastHeadConfig", [labels, problem]
    if facts.head == "seqcls":
        pooler = ["pooler=True"] if "head.pooler" in facts.roles.base else []
        return "PooledHeadConfig", [labels, problem, *dropped, *pooler, *dense]
    if facts.head == "tokcls":
        return "TokenHeadConfig", [labels, *dropped, *dense, *no_bias]
    return ("SpanHeadConfig", ["num_labels=2", *dense, *no_bias]) if facts.head == "qa" else ("", [])
