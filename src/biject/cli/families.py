"""`biject families`."""

from __future__ import annotations

from biject.cli.flags import Json


def families(*, json: Json = False) -> int:
    """List the families and heads that Biject knows."""
    from rich.table import Table

    from biject.cli.console import print_json
    from biject.cli.terminal import stdout
    from biject.families import ALL_HEADS
    from biject.families import families as registry

    known = registry()
    if json:
        print_json(
            {name: {h: head.hf_class for h, head in family.heads.items()} for name, family in known.items()}
        )
        return 0
    for pictures in (False, True):
        kind = {name: family for name, family in known.items() if family.reads_pictures == pictures}
        heads = [head for head in ALL_HEADS if any(head in family.heads for family in kind.values())]
        table = Table("family", "base class", *heads)
        for name, family in kind.items():
            base = family.heads["base"].hf_class if "base" in family.heads else ""
            table.add_row(name, base, *("yes" if head in family.heads else "–" for head in heads))
        stdout().print(table)
    return 0
