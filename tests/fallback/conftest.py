from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from tests.fallback.tiny import make

BASES = {
    "mpnet": "MPNetModel",
    "roformer": "RoFormerForMaskedLM",
    "t5": "T5Model",
    "t5-encoder": "T5EncoderModel",
    "gpt_neox": "GPTNeoXForCausalLM",
    "swin": "SwinModel",
    "resnet": "ResNetModel",
}


@pytest.fixture(scope="session")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """`checkpoint(name)`: a tiny checkpoint, made once a session; nobody writes into it."""
    made: dict[str, Path] = {}

    def get(name: str, **changes: Any) -> Path:
        key = f"{name}{changes}"
        if key not in made:
            folder = tmp_path_factory.mktemp("fallback") / name
            made[key] = make(folder, name.partition("-")[0], BASES[name], **changes)
        return made[key]

    return get
