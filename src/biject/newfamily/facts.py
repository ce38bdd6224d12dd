"""What config.json and the tensors' names and shapes say about a model: what a draft is written from."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from biject.checkpoint.source import Source
from biject.config.limits import FREE_LAYERS
from biject.errors import ConfigError, shown
from biject.identify import architecture_of
from biject.newfamily.fields import find_fields
from biject.newfamily.parts import Module, Parts, Shape, take_apart
from biject.newfamily.roles import Roles, Sizes, find_roles
from biject.verify.hf import backend_of

HEADS: Mapping[str, str] = {
    "ForMaskedLM": "mlm",
    "ForCausalLM": "causal",
    "LMHeadModel": "causal",
    "ForSequenceClassification": "seqcls",
    "ForTokenClassification": "tokcls",
    "ForQuestionAnswering": "qa",
}
NEEDED = ("vocab_size", "hidden_size", "num_hidden_layers", "num_attention_heads")
_ENCODERS = ("cls_token_id", "mask_token_id", "type_vocab_size", "classifier_pooling")


class DraftError(ConfigError):
    """Names and shapes do not say enough for a draft."""


@dataclass(frozen=True, kw_only=True)
class Facts:
    """One checkpoint, read as far as names and shapes go."""

    config: Mapping[str, Any]
    fields: Mapping[str, str]
    """Our fields, and the key of config.json that says each."""
    module: str
    """`model_type` as the name of a module."""
    stem: str
    """What HF's class names begin with."""
    head: str
    causal: bool
    sizes: Sizes
    parts: Parts
    roles: Roles
    backend: str = "sdpa"
    """HF's attention: `eager` where its class has no other."""
    notes: list[str] = field(default_factory=list)
    """What is left to decide, for the draft's docstring."""

    def said(self, name: str) -> Any:
        """What config.json has for a field, or None."""
        return said(self.config, self.fields, name)

    def value(self, name: str) -> str | None:
        """The source text of a field's value; None where config.json does not say it."""
        return f'v["{name}"]' if name in self.fields else None

    def number(self, *names: str) -> str | None:
        """That of the first field that holds a number."""
        held = (n for n in names if type(self.said(n)) in (int, float))
        return next((f'v["{name}"]' for name in held), None)

    def bias(self, modules: Iterable[Module | None], *keys: str) -> str:
        """Whether modules have biases, as a key of config.json says it, or True or False."""
        found = {module.has_bias for module in modules if module is not None}
        if len(found) > 1:
            self.notes.append("biases: not all alike, see the modules' shapes")
        has = True in found
        key = next((key for key in keys if self.said(key) is has), None)
        return str(has) if key is None else f'v["{key}"]'


def module_name(config: Mapping[str, Any]) -> str:
    """The name of the family's file.

    Raises:
        ConfigError: config.json has no usable `model_type`.
    """
    model_type = config.get("model_type")
    if not isinstance(model_type, str) or not model_type.replace("-", "_").isidentifier():
        raise ConfigError(f"config.json: `model_type` should be a name, found {shown(model_type)}.")
    return model_type.replace("-", "_")


def class_name(config: Mapping[str, Any]) -> str | None:
    """The class that config.json names first, or None.

    Raises:
        ConfigError: It can be no class's name.
    """
    named = architecture_of(config)
    if named is not None and not named.isidentifier():
        raise ConfigError(f"config.json: `architectures` should name a class, found {shown(named)}.")
    return named


def find_facts(source: Source) -> Facts:
    """Read a checkpoint's config and header.

    Raises:
        DraftError: config.json does not say the sizes, or no tensors are numbered like layers.
        ConfigError: config.json has values of a wrong kind.
    """
    config = source.config
    module, architecture = module_name(config), class_name(config) or ""
    fields = find_fields(config)
    lacking = [name for name in NEEDED if type(said(config, fields, name)) is not int]
    if lacking:
        raise DraftError(
            f"config.json: no key is known for {', '.join(lacking)}; nothing can be drafted from tensors."
        )
    parts = _parts(source, config[fields["vocab_size"]])
    sizes = _sizes(config, fields, {one.weight for one in parts.layer})
    suffix = next((suffix for suffix in HEADS if architecture.endswith(suffix)), "Model")
    head = HEADS.get(suffix, "base")
    facts = Facts(
        config=config,
        fields=fields,
        module=module,
        stem=architecture.removesuffix(suffix) or str(config["model_type"]).title(),
        head=head,
        causal=head == "causal" or (head != "mlm" and _looks_causal(config)),
        sizes=sizes,
        parts=parts,
        roles=find_roles(parts, sizes),
        backend=backend_of(architecture),
    )
    facts.notes.extend(_gaps(facts))
    return facts


def said(config: Mapping[str, Any], fields: Mapping[str, str], name: str) -> Any:
    """What config.json has for a field of ours, or None."""
    return config[fields[name]] if name in fields else None


def _parts(source: Source, vocab_size: int) -> Parts:
    parts = take_apart({name: tuple(info.shape) for name, info in source.tensors.items()}, vocab_size)
    if parts is None:
        raise DraftError(
            "No tensors of this checkpoint are numbered like layers; nothing can be drafted from them."
        )
    if parts.num_layers > max(len(source.tensors), FREE_LAYERS):
        raise DraftError(
            f"Layers are numbered up to {parts.num_layers - 1}, but there are only {len(source.tensors)} "
            "tensors; nothing can be drafted from them."
        )
    return parts


def _looks_causal(config: Mapping[str, Any]) -> bool:
    return "use_cache" in config and not any(key in config for key in _ENCODERS)


def _sizes(config: Mapping[str, Any], fields: Mapping[str, str], shapes: set[Shape]) -> Sizes:
    def size(name: str, otherwise: int = 0) -> int:
        value = said(config, fields, name)
        return value if type(value) is int else otherwise

    hidden, heads = size("hidden_size"), size("num_attention_heads")
    head_dim = size("head_dim", hidden // max(1, heads))
    queries, keys = heads * head_dim, size("num_key_value_heads", heads) * head_dim
    inner = size("intermediate_size")
    if not inner or {(hidden, inner), (inner, hidden)}.isdisjoint(shapes):
        others = {hidden, queries, keys, queries + 2 * keys}
        found = [s[0] for s in shapes if len(s) == 2 and s[1] == hidden and s[::-1] in shapes]
        inner = next((rows for rows in sorted(found) if rows not in others), inner)
    return Sizes(
        vocab=size("vocab_size"),
        hidden=hidden,
        queries=queries,
        keys=keys,
        head_dim=head_dim,
        inner=inner,
        positions=size("max_position_embeddings"),
        segments=size("type_vocab_size"),
    )


def _gaps(facts: Facts) -> list[str]:
    """Parameters that a layer needs and no tensor was found for."""
    roles, count = facts.roles.layer, facts.parts.num_layers
    needed = ["attn.o_proj", "mlp.down_proj"]
    needed += [] if "attn.qkv_proj" in roles else ["attn.q_proj", "attn.k_proj", "attn.v_proj"]
    needed += [] if "mlp.gate_up_proj" in roles else ["mlp.up_proj"]
    notes = [f"{role}: no tensor of the layers was told to be it" for role in needed if role not in roles]
    for role, module in roles.items():
        held = set(module.layers)
        missing = [str(i) for i in range(count) if i not in held]
        if missing:
            notes.append(f"{role} (`{module.path}`): not in layer {', '.join(missing)}")
    if count != facts.config[facts.fields["num_hidden_layers"]]:
        notes.append(f"{count} layers have tensors, config.json says otherwise")
    if "embed.tokens" not in facts.roles.base:
        notes.append("embed.tokens: no table has the vocabulary's rows")
    return notes
