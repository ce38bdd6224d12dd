"""`biject new-family` on configs and names that ask for endless layers: it ends, and says so."""

from __future__ import annotations

from pathlib import Path

import pytest

from biject.families import families
from biject.newfamily.facts import DraftError
from biject.newfamily.from_tensors import draft_from_tensors
from biject.newfamily.relatives import _slots, nearest_relative
from hostile.strangers import exit_codes, shapes, stranger


def test_more_layers_than_the_file_can_have(tmp_path: Path) -> None:
    """Names are made for no more of them; each candidate is tried, and the tiny config is left."""
    source = stranger(tmp_path, {"num_hidden_layers": 20_000})
    found = {name: len(_slots(known, source)) for name, known in families().items()}
    assert all(0 < count < 5_000 for count in found.values()), found


def test_a_relative_that_refuses_a_value_is_passed_over(tmp_path: Path) -> None:
    source = stranger(tmp_path, {"layer_types": ["strange", "stranger"], "global_attn_every_n_layers": 3})
    assert all(_slots(known, source) for known in families().values())


def test_endless_layers_end(tmp_path: Path) -> None:
    given = []
    for name, config, tensors in (
        ("config", {"num_hidden_layers": 2_000_000_000}, shapes()),
        ("names", {}, shapes(**{"net.blocks.999999999.attn.wq.weight": (8, 8)})),
        ("number", {}, shapes(**{f"net.blocks.{'9' * 5000}.attn.wq.weight": (8, 8)})),
        ("script", {}, shapes(**{"net.blocks.\N{ARABIC-INDIC DIGIT THREE}.attn.wq.weight": (8, 8)})),
        ("end", {}, {"net.0": (8, 8)}),
    ):
        stranger(tmp_path / name, config, tensors)
        given.append(["new-family", str(tmp_path / name), "--file", str(tmp_path / f"{name}.py")])
    codes = exit_codes(given, cwd=tmp_path)
    assert set(codes) == {1}


def test_numbers_beyond_the_tensors_are_no_layers(tmp_path: Path) -> None:
    source = stranger(tmp_path, {}, shapes(**{"net.blocks.999999999.attn.wq.weight": (8, 8)}))
    with pytest.raises(DraftError, match="numbered up to 999999999"):
        draft_from_tensors(source)


def test_many_first_pieces_of_names(tmp_path: Path) -> None:
    """Each would be a prefix to try for every family."""
    source = stranger(tmp_path, {}, shapes(**{f"a{i}.weight": (1,) for i in range(20_000)}))
    assert nearest_relative(source).prefix != "a0"
