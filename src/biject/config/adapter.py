"""`LoraConfig`: an adapter's settings under PEFT's names, and `adapter_config.json` both ways."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields
from typing import Any, Literal, Protocol

from biject.config.patterns import check_pattern
from biject.errors import ConfigError, shown

Bias = Literal["none", "all", "lora_only"]
InitKind = bool | str
ALL_LINEAR = "all-linear"
_INIT = ("gaussian", "pissa", "olora")
TASK_TYPES = {
    "seqcls": "SEQ_CLS",
    "tokcls": "TOKEN_CLS",
    "qa": "QUESTION_ANS",
    "causal": "CAUSAL_LM",
    "base": "FEATURE_EXTRACTION",
}
"""PEFT's word for the head; masked LM has none."""

_MEANINGLESS = {
    "auto_mapping", "base_model_name_or_path", "ensure_weight_tying", "fan_in_fan_out", "inference_mode",
    "loftq_config", "megatron_core", "peft_type", "peft_version", "qalora_group_size", "revision",
    "runtime_config", "task_type",
}  # fmt: skip
"""Keys of adapter_config.json that say nothing of the maths, or only beside another that is refused."""


class HasDict(Protocol):
    """PEFT's configs."""

    def to_dict(self) -> dict[str, Any]:
        """Its settings by name."""


@dataclass(frozen=True, kw_only=True)
class LoraConfig:
    """Low-rank adapters (Hu et al. 2021, arXiv:2106.09685), with PEFT 0.21's names and defaults.

    Attributes:
        r: Rank of what is added.
        lora_alpha: What is added is scaled by `lora_alpha / r`.
        lora_dropout: Of the adapter's inputs.
        target_modules: Names of modules as Hugging Face's model has them, or their last parts; a regular
            expression that fits whole names; `all-linear` for every linear but the head; left out, those
            that PEFT takes for the family.
        exclude_modules: Names, last parts, or an expression: left out of the targets.
        layers_to_transform: Indices of layers; left out, all.
        layers_pattern: What stands before the index in names, where there are several lists of layers.
        rank_pattern: Other ranks by name or expression.
        alpha_pattern: Other `lora_alpha` likewise.
        bias: Which biases of the model train, too.
        use_rslora: Scale by `lora_alpha / sqrt(r)` (Kalajdzievski 2023, arXiv:2312.03732).
        use_dora: Train magnitude and direction apart (Liu et al. 2024, arXiv:2402.09353).
        modules_to_save: Further modules that are trained whole and stored; the head of a classifier, tagger
            or question answerer always is, and everything that is new.
        init_lora_weights: True (B is zero), False (neither), `gaussian`, `pissa`, `olora`; or
            `pissa_niter_N`, whose adapter can only be merged, as no file says what was drawn.
    """

    r: int = 8
    lora_alpha: float = 8
    lora_dropout: float = 0.0
    target_modules: str | tuple[str, ...] | None = None
    exclude_modules: str | tuple[str, ...] | None = None
    layers_to_transform: tuple[int, ...] | None = None
    layers_pattern: tuple[str, ...] | None = None
    rank_pattern: Mapping[str, int] = field(default_factory=dict)
    alpha_pattern: Mapping[str, float] = field(default_factory=dict)
    bias: Bias = "none"
    use_rslora: bool = False
    use_dora: bool = False
    modules_to_save: tuple[str, ...] = ()
    init_lora_weights: InitKind = True

    def __post_init__(self) -> None:
        """Raise `ConfigError` for what cannot be computed; lists become tuples, a lone name one of one."""
        for name in ("target_modules", "exclude_modules"):
            value = getattr(self, name)
            if value is not None and not isinstance(value, str):
                object.__setattr__(self, name, tuple(value))
        for name in ("layers_to_transform", "layers_pattern", "modules_to_save"):
            listed = _listed(getattr(self, name))
            object.__setattr__(self, name, () if listed is None and name == "modules_to_save" else listed)
        ranks = {"r": self.r, **{f"rank_pattern.{key}": value for key, value in self.rank_pattern.items()}}
        alphas = {f"alpha_pattern.{key}": value for key, value in self.alpha_pattern.items()}
        faults = [
            f"`{name}` should be a whole number above 0, found {shown(value)}"
            for name, value in ranks.items()
            if not _number(value, int) or not 1 <= value < 2**31
        ]
        faults += [
            f"`{name}` should be a number above 0, found {shown(value)}"
            for name, value in {"lora_alpha": self.lora_alpha, **alphas}.items()
            if not _number(value, int | float) or not 0 < value < 1e30
        ]
        if not _number(self.lora_dropout, int | float) or not 0 <= self.lora_dropout < 1:
            faults.append(f"`lora_dropout` should be at least 0 and below 1, found {self.lora_dropout!r}")
        if self.bias not in ("none", "all", "lora_only"):
            faults.append(f"`bias` should be none, all or lora_only, found {self.bias!r}")
        if not _known_init(self.init_lora_weights):
            faults.append(
                f"`init_lora_weights` should be true, false, {', '.join(_INIT)} or pissa_niter_N, found "
                f"{self.init_lora_weights!r}"
            )
        if self.target_modules is not None and not self.target_modules:
            faults.append("`target_modules` is empty")
        faults += self._odd_lists()
        if faults:
            raise ConfigError("The adapter cannot be made: " + "; ".join(faults) + ".")
        self._check_patterns()

    def _odd_lists(self) -> list[str]:
        """Lists with other things in them than names, or indices."""
        kinds = {"layers_to_transform": int, "layers_pattern": str, "modules_to_save": str}
        kinds |= {"target_modules": str, "exclude_modules": str}
        return [
            f"`{name}` should list {'whole numbers' if kind is int else 'names'}, found {shown(one)}"
            for name, kind in kinds.items()
            for one in getattr(self, name) or ()
            if not _number(one, kind)
        ][:4]

    def _check_patterns(self) -> None:
        """What is run as a regular expression over the names of modules.

        Raises:
            ConfigError: One is none, or could take forever.
        """
        for name in ("target_modules", "exclude_modules"):
            value = getattr(self, name)
            if isinstance(value, str):
                check_pattern(value, what=f"`{name}`")
        for name in ("rank_pattern", "alpha_pattern"):
            for key in getattr(self, name):
                check_pattern(key, what=f"`{name}`")
                check_pattern(rf"(.*\.)?({key})$", what=f"`{name}`")
        for one in self.layers_pattern or ():
            check_pattern(rf"(?:^|.*?\.){one}\.(?P<index>\d+)\.", what="`layers_pattern`")

    @classmethod
    def from_peft(cls, values: Mapping[str, Any], *, where: str) -> LoraConfig:
        """From adapter_config.json's values.

        Raises:
            ConfigError: another kind of adapter, or a setting whose maths is not computed.
        """
        kind = values.get("peft_type", "LORA")
        if kind != "LORA":
            raise ConfigError(
                f"{where}: `peft_type` is {shown(kind)}; Biject computes LORA adapters (with rsLoRA and "
                "DoRA) only. Merge it into its base with PEFT, and load the merged model."
            )
        known = {one.name for one in fields(cls)}
        strange = sorted(
            key
            for key, value in values.items()
            if key not in known | _MEANINGLESS and value not in (None, False, {}, [])
        )
        if strange:
            listed = ", ".join(f"{shown(key)}: {shown(values[key])}" for key in strange)
            raise ConfigError(f"{where}: Biject does not compute adapters with {listed}.")
        given = {key: values[key] for key in known if values.get(key) is not None}
        try:
            return cls(**given)
        except (TypeError, AttributeError) as error:
            raise ConfigError(
                f"{where}: a setting has another JSON kind than PEFT writes: {error}."
            ) from error

    @classmethod
    def from_object(cls, config: HasDict) -> LoraConfig:
        """From PEFT's own config.

        Raises:
            ConfigError: another kind of adapter, or a setting whose maths is not computed.
        """
        if not hasattr(config, "to_dict"):
            raise ConfigError(f"An adapter needs a LoraConfig, found {type(config).__name__}.")
        values = {key: _json(value) for key, value in config.to_dict().items()}
        return cls.from_peft(values, where=type(config).__name__)

    def to_peft(self) -> dict[str, Any]:
        """Plain values under PEFT's names."""
        return {
            "alpha_pattern": dict(self.alpha_pattern),
            "bias": self.bias,
            "exclude_modules": _plain(self.exclude_modules),
            "init_lora_weights": self.init_lora_weights,
            "layers_pattern": _plain(self.layers_pattern),
            "layers_to_transform": _plain(self.layers_to_transform),
            "lora_alpha": self.lora_alpha,
            "lora_bias": False,
            "lora_dropout": self.lora_dropout,
            "modules_to_save": _plain(self.modules_to_save or None),
            "peft_type": "LORA",
            "r": self.r,
            "rank_pattern": dict(self.rank_pattern),
            "target_modules": _plain(self.target_modules),
            "use_dora": self.use_dora,
            "use_rslora": self.use_rslora,
        }


def is_drawn_from_base(config: LoraConfig) -> bool:
    """Whether what an adapter leaves of its base depends on random numbers."""
    kind = config.init_lora_weights
    return isinstance(kind, str) and kind.startswith("pissa_niter_")


def _json(value: Any) -> Any:
    """What PEFT's file has for a value of its config."""
    return sorted(value) if isinstance(value, set) else getattr(value, "value", value)


def _number(value: Any, kind: Any) -> bool:
    return isinstance(value, kind) and not isinstance(value, bool)


def _plain(value: str | tuple[Any, ...] | None) -> Any:
    return list(value) if isinstance(value, tuple) else value


def _listed(value: Any) -> tuple[Any, ...] | None:
    if value is None:
        return None
    return (value,) if isinstance(value, str | int) or not isinstance(value, Sequence) else tuple(value)


def _known_init(value: Any) -> bool:
    if isinstance(value, bool) or value in _INIT:
        return True
    count = value.removeprefix("pissa_niter_") if isinstance(value, str) else ""
    return bool(count) and count != value and count.isdecimal()


USUAL = LoraConfig()
"""Every setting as it is where nobody says otherwise."""
