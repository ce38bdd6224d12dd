"""A draft from nothing but config.json and the tensors' names and shapes: a whole family file."""

from __future__ import annotations

import re
import textwrap
from collections.abc import Iterable, Mapping
from typing import Any

from biject.checkpoint.source import Source
from biject.config.checks import number
from biject.errors import ConfigError, shown
from biject.families import families
from biject.families._layer_types import BASES
from biject.newfamily.facts import HEADS, NEEDED, Facts, find_facts
from biject.newfamily.fields import row, shared
from biject.newfamily.source_text import block, call, docstring, imports, listed, literal, quoted
from biject.newfamily.write_build import build, rope_kind
from biject.newfamily.write_names import head_names, names, strays

_TEMPLATE = '''\
"""{title}, drafted by `biject new-family` from the tensors' names and shapes.

Source: transformers, models/{module}/modeling_{module}.py; its forward methods are the specification.

To do:
{todo}
"""

from __future__ import annotations

{imports}


{body}
'''

_ROPE = ("rope_parameters", "rope_scaling", "rope_theta", "partial_rotary_factor", "layer_types")
_TINY = {
    "vocab_size": 384,
    "hidden_size": 32,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "head_dim": 8,
    "intermediate_size": 64,
    "max_position_embeddings": 64,
    "type_vocab_size": 2,
}


def draft_from_tensors(source: Source) -> str:
    """The text of a family file for the checkpoint.

    Raises:
        DraftError: config.json does not say the sizes, or no tensors are numbered like layers.
        ConfigError: config.json has values of a wrong kind.
    """
    facts = find_facts(source)
    computed = f"{names(facts)}\n\n\n{build(facts)}"
    rows, undecided = _rows(facts, computed)
    body = f"{computed}\n\n\n{_family(facts, rows)}"
    return _TEMPLATE.format(
        title=docstring(facts.config["model_type"]),
        module=docstring(facts.module),
        todo=docstring(_todo(facts, undecided)),
        imports=imports(body),
        body=body,
    )


def _rows(facts: Facts, computed: str) -> tuple[list[str], list[str]]:
    """Rows of the config table, and the keys of which nobody knows what they mean."""
    config, read = facts.config, dict.fromkeys((*NEEDED, *re.findall(r'v\["(\w+)"\]', computed)))
    common = shared(config, causal=facts.causal)
    tied = bool(config.get("tie_word_embeddings", True))
    rows = [f"causal_rows(tied={tied})," if facts.causal else "COMMON,"]
    kind, covered = rope_kind(facts), set(common)
    if kind:
        rows.append("ROPE_ROWS," if kind == "one" else _bases(facts))
        covered |= {name for name in _ROPE if kind == "by layer" or name != "layer_types"}
    rows.append("# TODO: defaults are this file's values; HF's are in the config class")
    for field in read:
        name = facts.fields.get(field)
        if name is not None and name not in covered:
            rows.append(row(config, field, name))
            covered.add(name)
    if "pad_token_id" not in config:
        rows.append('Key("pad_token_id", "pad_token_id", integer(none=True), None),')
    elif "pad_token_id" not in read:
        rows.append(row(config, "pad_token_id", "pad_token_id"))
    left = [name for name in config if name not in covered | {"pad_token_id"}]
    consts, inert = _constants(facts, left)
    undecided = [name for name in left if name not in inert and name not in consts]
    rows += [*consts.values(), *([f"{call('Inert', [listed(inert)], indent=8)},"] if inert else [])]
    if undecided:
        rows += ["# TODO: say what each means (Key, Const or Inert)"]
        rows += [f"{call('Inert', [listed(undecided)], indent=8)},"]
    return rows, undecided


def _bases(facts: Facts) -> str:
    """Rows of models with a rotary base for each kind of attention."""
    given = facts.config["rope_parameters"]
    full, near = (_base(given.get(kind), kind) for kind in BASES)
    return f"layer_type_rows(global_base={full}, local_base={near}, every=1),"


def _base(given: Any, kind: str) -> str:
    """One kind's base, as source text; HF's default where its settings name none."""
    where = f"config.json: `rope_parameters`: `{kind}`"
    if not isinstance(given, Mapping | None):
        raise ConfigError(f"{where} should be an object, found {shown(given)}.")
    theta = (given or {}).get("rope_theta", 10000.0)
    wrong = number(0.0)(theta)
    if wrong:
        raise ConfigError(f"{where}: `rope_theta` should be {wrong}, found {shown(theta)}.")
    return literal(theta)


def _constants(facts: Facts, left: Iterable[str]) -> tuple[dict[str, str], list[str]]:
    """Keys that known families refuse at other values, and those that none computes with."""
    consts, inert = {}, []
    known = [one for one in families().values() if one.model_type != facts.config["model_type"]]
    read = {key.name for one in known for key in one.config.keys.values()}
    without_effect = {name for one in known for name in one.config.known} - read
    refused = {const.name: const for one in reversed(known) for const in reversed(one.config.consts)}
    for name in left:
        same = refused.get(name)
        if same is not None and facts.config[name] in same.allowed:
            consts[name] = f"Const({quoted(name)}, {same.allowed!r}, {quoted(same.why)}),"
        elif same is None and name in without_effect:
            inert.append(name)
    return consts, inert


def _family(facts: Facts, rows: list[str]) -> str:
    """`FAMILY`."""
    suffix = next((suffix for suffix, head in HEADS.items() if head == facts.head), "")
    if facts.head == "causal" and str(facts.config.get("architectures", "")).endswith("LMHeadModel']"):
        suffix = "LMHeadModel"
    specs = "lambda v: join(backbone(v), head_names(v))" if head_names(facts) else "backbone"
    base = quoted(f"{facts.stem}Model")
    heads = [f'"base": Head(hf_class={base}, specs=backbone),']
    if facts.head != "base":
        own = quoted(f"{facts.stem}{suffix}")
        made = call("Head", [f"hf_class={own}", f"specs={specs}"], indent=18)
        heads.append(f'"{facts.head}": {made},')
    prefix = facts.parts.prefix or facts.module
    told = "" if facts.parts.prefix else "  # TODO: not in a base model's file"
    passthrough = _passthrough(facts)
    lines = [
        f"model_type={quoted(facts.config['model_type'])},",
        f"prefix={quoted(prefix)},{told}",
        f"config=ConfigTable(\n{block(rows)}\n),",
        "build=build,",
        f'attention="{facts.backend}",',
        "# TODO: the other heads",
        f"heads={{\n{block(heads)}\n}},",
        *(
            [f"# TODO: bind what should be computed with\npassthrough={listed(passthrough)},"]
            if passthrough
            else []
        ),
        *(["buffers=unbound,"] if strays(facts) else []),
        f"tiny={{\n{block(_sizes(facts, tiny=True))}\n}},",
        f"base={{\n{block(_sizes(facts, tiny=False))}\n}},  # TODO: the published size",
    ]
    return f"FAMILY = Family(\n{block(lines)}\n)"


def _passthrough(facts: Facts) -> list[str]:
    """Names, relative to the base, of single tensors under no rule."""
    found = [name.removeprefix(f"{facts.parts.prefix}.") for name in facts.parts.strays]
    for place, module in facts.roles.unknown:
        if place != "layer":
            found += [f"{module.path}.{leaf}" for leaf, _ in module.leaves]
        elif len(module.layers) < facts.parts.num_layers:
            paths = [f"{facts.parts.container}.{i}.{module.path}" for i in module.layers]
            found += [f"{path}.{leaf}" for path in paths for leaf, _ in module.leaves]
    return found


def _sizes(facts: Facts, *, tiny: bool) -> list[str]:
    said = {name: facts.fields[name] for name in _TINY if facts.number(name)}
    return [
        f"{quoted(key)}: {literal(_TINY[name] if tiny else facts.config[key])}," for name, key in said.items()
    ] + (['"pad_token_id": 0,'] if tiny else [])


def _todo(facts: Facts, undecided: list[str]) -> str:
    container = facts.parts.container
    told = [f"{container}.*.{m.path}" if place == "layer" else m.path for place, m in facts.roles.unknown]
    told += facts.parts.strays
    lines = list(facts.notes)
    lines += [f"config keys of which no meaning is known: {', '.join(undecided)}"] if undecided else []
    lines += [f"tensors under no rule: {', '.join(told)}"] if told else []
    lines.append("every TODO below")
    out: list[str] = []
    for line in dict.fromkeys(lines):
        out += textwrap.wrap(
            f"* {line}", 108, subsequent_indent="  ", break_long_words=False, break_on_hyphens=False
        )
    return "\n".join(out)
