"""`transformers` and `peft` inside functions, quiet, and their errors as ours."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from biject.errors import BijectError, ConfigError, MissingExtraError

BACKEND = "hf"
_CRITICAL = 50  # logging.CRITICAL


def transformers() -> Any:
    """The library.

    Raises:
        MissingExtraError: it is not installed.
    """
    try:
        import transformers as found
    except ImportError as error:
        raise MissingExtraError(
            "backend='hf' computes with transformers, which is not installed: pip install 'biject[hf]'."
        ) from error
    return found


def peft() -> Any:
    """The library.

    Raises:
        MissingExtraError: it is not installed.
    """
    try:
        import peft as found
    except ImportError as error:
        raise MissingExtraError(
            "An adapter with backend='hf' is PEFT's, which is not installed: pip install 'biject[hf]'."
        ) from error
    return found


@contextmanager
def quiet(what: str) -> Iterator[None]:
    """Without the libraries' log lines, bars and warnings; their errors become one of ours.

    Args:
        what: Begins the message: `config.json cannot be used`.

    Raises:
        ConfigError: in place of any error of the block that is not ours.
    """
    logging = transformers().utils.logging
    level, bars = logging.get_verbosity(), logging.is_progress_bar_enabled()
    logging.set_verbosity(_CRITICAL)
    logging.disable_progress_bar()
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    except (BijectError, MemoryError):
        raise
    except Exception as error:  # whatever a stranger's values provoke in a large library
        lines = str(error).strip().splitlines() or [""]
        raise ConfigError(f"{what}: {type(error).__name__}: {' '.join(lines[:3])[:500]}") from error
    finally:
        logging.set_verbosity(level)
        if bars:
            logging.enable_progress_bar()
