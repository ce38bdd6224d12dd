"""Reference checkpoints are made once a session; torch runs one thread unless a test says otherwise."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

from biject.verify.reference import make_reference


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(autouse=True, scope="session")
def quiet_hf() -> None:
    import transformers

    transformers.logging.set_verbosity_error()
    transformers.utils.logging.disable_progress_bar()


@pytest.fixture
def reference(tmp_path: Path) -> Callable[..., Path]:
    """Make a tiny reference checkpoint in this test's folder."""

    def make(model_type: str, head: str, name: str = "reference", **options: Any) -> Path:
        return make_reference(model_type, head, tmp_path / name, **options)

    return make
