"""One kind of error for everything that the `tokenizers` library raises, its Rust panics included."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from biject.checkpoint.strict_json import shown
from biject.errors import BijectError


@contextmanager
def library_errors(error: type[BijectError], what: str) -> Iterator[None]:
    """Turn an exception of the library into `error`, whose message starts with `what`."""
    try:
        yield
    except (BijectError, KeyboardInterrupt, SystemExit, GeneratorExit):
        raise
    except BaseException as raised:  # a panic of Rust is no `Exception`
        if not isinstance(raised, Exception) and type(raised).__name__ != "PanicException":
            raise
        raise error(f"{what}: {type(raised).__name__} {shown(str(raised))}") from raised
