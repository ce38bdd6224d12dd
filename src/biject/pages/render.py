"""The page of a run: Jinja2 templates, styles and a small script, in one file that needs no network."""

from __future__ import annotations

import base64
import hashlib
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from biject._version import __version__
from biject.pages.read import Run, read_run
from biject.pages.view import view
from biject.pages.words import clean

if TYPE_CHECKING:
    from jinja2 import Environment

_TEMPLATES = Path(__file__).parent / "templates"


def render_report(folder: Path) -> str:
    """`report.html` of a run's folder.

    Raises:
        InputError: The folder is no run's.
    """
    return render_page(read_run(folder))


def render_page(run: Run, *, live: str = "") -> str:
    """A whole page; `live` is the address of a stream of changes, for pages that are served."""
    return whole(run.folder.name, main_of(run), live=live)


def main_of(run: Run, *, back: bool = False) -> str:
    """What stands inside of `<main>`; `back` links to the page that has this run beside others.

    Where a run's files provoke an error, that is all that is said: the page stands for other runs, too.
    """
    try:
        return fragment("run.html", v=view(run), back=back, version=__version__)
    except Exception as error:  # whatever it is, of whatever file
        return fragment("unreadable.html", title=run.folder.name, problem=unreadable(error), back=back)


def unreadable(error: Exception) -> str:
    """What is said of a run that cannot be shown."""
    return f"cannot be shown: {type(error).__name__}: {str(error)[:200]}"


def whole(title: str, main: str, *, live: str = "") -> str:
    """A page around its main part.

    Scripts run by their digest alone and nothing is loaded from anywhere, whatever came into the page.
    """
    script = (_TEMPLATES / "page.js").read_text(encoding="utf-8")
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    return (
        _environment()
        .get_template("page.html")
        .render(
            title=title,
            main=_safe(main),
            style=_safe((_TEMPLATES / "page.css").read_text(encoding="utf-8")),
            script=_safe(script),
            digest=digest,
            live=live,
        )
    )


def fragment(template: str, **values: Any) -> str:
    """A template of this package, filled in."""
    return _environment().get_template(template).render(**values)


def _safe(text: str) -> Any:
    from markupsafe import Markup

    return Markup(text)


@cache
def _environment() -> Environment:
    from jinja2 import Environment, FileSystemLoader, StrictUndefined
    from markupsafe import Markup

    def finalize(value: object) -> object:
        return clean(value) if isinstance(value, str) and not isinstance(value, Markup) else value

    return Environment(
        loader=FileSystemLoader(_TEMPLATES),
        autoescape=True,
        undefined=StrictUndefined,
        finalize=finalize,
        trim_blocks=True,
        lstrip_blocks=True,
    )
