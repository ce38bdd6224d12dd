"""Write docs/recipe.md: every key of a recipe with its type, default, flag and meaning. `make api`; a test
holds it current.
"""

from __future__ import annotations

import collections.abc
import dataclasses
import inspect
import re
import sys
import typing
from pathlib import Path
from typing import Any

from biject.cli.finetune import finetune
from biject.config.adapter import LoraConfig
from biject.config.augment import AugmentConfig
from biject.config.embed import EmbedConfig
from biject.config.preference import PreferenceConfig
from biject.config.recipe import FinetuneRecipe, TrainConfig
from biject.config.recipe_file import TABLES
from biject.config.sync import SyncConfig

PAGE = Path(__file__).parents[1] / "docs" / "recipe.md"
HEAD = """# Recipes

A recipe is a TOML file that `biject finetune --recipe FILE` takes; each run writes its own as `run.toml`.
Flags go before the file, and `--set KEY=VALUE` sets any key. Written by `make api` from `FinetuneRecipe`
and the classes of its tables; do not edit by hand.

```toml
model = "bert-base-uncased"
data = "reviews.csv"
task = "seqcls"

[train]
epochs = 2
lr = 3e-5
```
"""


def page() -> str:
    """The whole page."""
    return "\n".join([
        HEAD,
        "## The run\n",
        *table(FinetuneRecipe, prefix=""),
        "\n## `[train]`\n",
        *table(TrainConfig, prefix="train."),
        "\n## `[sync]`\n",
        *table(SyncConfig, prefix="sync."),
        "\n## `[adapter]`\n",
        *table(LoraConfig, prefix="adapter."),
        "\n## `[augment]`\n",
        *table(AugmentConfig, prefix="augment."),
        "\n## `[preference]`\n",
        *table(PreferenceConfig, prefix="preference."),
        "\n## `[embed]`\n",
        *table(EmbedConfig, prefix="embed."),
        "",
    ])  # fmt: skip


def table(owner: type, *, prefix: str) -> list[str]:
    """A row a key."""
    said, types = meanings(owner), typing.get_type_hints(owner)
    rows = ["| key | type | default | flag | meaning |", "| --- | --- | --- | --- | --- |"]
    for field in dataclasses.fields(owner):
        if field.name in TABLES:
            continue
        named = {"sync.mode": "sync", "sync.shard": "shard"}.get(prefix + field.name, field.name)
        flag = flags().get(named, f"`--set {prefix}{field.name}=…`")
        cells = (f"`{field.name}`", kind(types[field.name]), default(field), flag, said[field.name])
        rows.append("| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |")
    return rows


def meanings(owner: type) -> dict[str, str]:
    """What the docstring says of each attribute."""
    text = inspect.getdoc(owner) or ""
    lines = text.partition("Attributes:\n")[2]
    found = re.findall(r"^    (\w+): (.*(?:\n        .*)*)", lines, flags=re.MULTILINE)
    return {name: " ".join(words.split()) for name, words in found}


def flags() -> dict[str, str]:
    """The flag of `biject finetune` for each key that has one."""
    own = {"evaluate_every": "eval_every", "r": "rank", "lora_alpha": "alpha", "target_modules": "targets"}
    names = set(inspect.signature(finetune).parameters)
    owners = (FinetuneRecipe, TrainConfig, LoraConfig)
    keys = {field.name for owner in owners for field in dataclasses.fields(owner)}
    found = {key: own.get(key, key) for key in keys if own.get(key, key) in names}
    return {key: f"`--{name.replace('_', '-')}`" for key, name in found.items()}


def kind(hint: Any) -> str:
    """A type in TOML's words."""
    if typing.get_origin(hint) is typing.Literal:
        return ", ".join(f"`{value}`" for value in typing.get_args(hint))
    if typing.get_origin(hint) is tuple:
        of = {float: "numbers", int: "integers"}.get(typing.get_args(hint)[0], "strings")
        return f"list of {of}"
    if typing.get_origin(hint) in (dict, collections.abc.Mapping):
        return f"table of name = {kind(typing.get_args(hint)[1])}"
    arguments = [each for each in typing.get_args(hint) if each is not type(None)]
    if arguments:
        return " or ".join(dict.fromkeys(kind(each) for each in arguments))
    return {str: "string", int: "integer", float: "number", bool: "true or false"}[hint]


def default(field: dataclasses.Field[Any]) -> str:
    """As TOML writes it; empty where the key is needed, or left out."""
    value = field.default
    if field.default_factory is not dataclasses.MISSING:
        return ""
    if value is dataclasses.MISSING:
        return "needed"
    if value is None or value == ():
        return ""
    if isinstance(value, tuple):
        return f"`[{', '.join(f'{one:.4g}' for one in value)}]`"
    return f"`{str(value).lower() if isinstance(value, bool) else value}`"


def main() -> int:
    """Write the page."""
    PAGE.write_text(page(), encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
