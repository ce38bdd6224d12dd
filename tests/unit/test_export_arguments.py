"""What `export_checkpoint` makes of its arguments, before anything is read."""

from __future__ import annotations

import pytest

from biject.errors import InputError
from biject.export import _new_head, export_checkpoint, parse_bytes


@pytest.mark.parametrize(
    ("size", "num_bytes"),
    [
        ("5GB", 5 * 10**9),
        ("500MB", 5 * 10**8),
        ("1.5gb", 1_500_000_000),
        ("2 GiB", 2**31),
        ("123", 123),
        ("7B", 7),
    ],
)
def test_sizes(size: str, num_bytes: int) -> None:
    assert parse_bytes(size) == num_bytes


@pytest.mark.parametrize("size", ["", "GB", "5XB", "-5GB", "0", "0.1B", "1e9", "5 GB each", "nan"])
def test_what_is_no_size(size: str) -> None:
    with pytest.raises(InputError, match="5GB"):
        parse_bytes(size)


def test_a_new_head_is_asked_for_by_name() -> None:
    assert _new_head(("no", "yes"), "seqcls") == {"labels": ["no", "yes"]}
    assert _new_head(("keep",), "tokcls") == {}
    assert _new_head(("keep",), "mlm") == {}
    for head in ("auto", "base"):
        with pytest.raises(InputError, match="by name"):
            _new_head(("no", "yes"), head)
    with pytest.raises(InputError, match="no labels of its own"):
        _new_head(("no", "yes"), "mlm")
    with pytest.raises(InputError, match="start and end"):
        _new_head(("one",), "qa")


def test_an_unknown_dtype(tmp_path) -> None:
    with pytest.raises(InputError, match="int8"):
        export_checkpoint(tmp_path, out=tmp_path / "out", dtype="int8")
