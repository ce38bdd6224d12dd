"""`biject new-family`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from cyclopts import Parameter

from biject.cli.flags import Json


def new_family(
    folder: Annotated[Path, Parameter(name="DIR")],
    /,
    *,
    file: Annotated[Path | None, Parameter(metavar="FILE")] = None,
    json: Json = False,
) -> int:
    """Draft a family's file from a checkpoint, or check the one you are writing.

    Without an existing FILE a draft is written: the nearest relative under another name, or where none is
    near, a whole file from config.json and the tensors' names and shapes, with a list of what is left to
    decide. Then the gates run in order (file, config, names, shapes, bytes, reload, forward, gradients,
    variants, todo)
    and stop at the first that fails, which names the tensor or the operation that is wrong. Edit the file and
    run the same command again.

    Args:
        folder: A checkpoint of the family, config.json and weights, that transformers can load.
        file: The family's file; by default MODEL_TYPE.py here.
    """
    from biject.checkpoint.source import open_source
    from biject.cli.console import print_json, print_lines
    from biject.newfamily.draft import first_draft
    from biject.newfamily.facts import module_name
    from biject.newfamily.gates import ORDER, run_gates

    source = open_source(folder)
    target = file or _own_file(module_name(source.config), folder)
    drafted = not target.exists()
    if drafted:
        text, origin = first_draft(source)
        target.write_text(text, encoding="utf-8")
        if not json:
            print_lines([f"DRAFT {target} from {origin}"])
    gates = []
    for gate in run_gates(target, source):
        gates.append(gate)
        if not json:
            print_lines([gate.line()])
    passed = bool(gates) and gates[-1].passed and len(gates) == len(ORDER)
    if json:
        print_json(
            {
                "file": str(target),
                "drafted": drafted,
                "passed": passed,
                "gates": [{"name": g.name, "passed": g.passed, "detail": g.detail} for g in gates],
            }
        )
    else:
        verdict = "PASS" if passed else "FAIL"
        print_lines([f"VERDICT {verdict} {target} ({len(gates)} of {len(ORDER)} gates run)"])
    return 0 if passed else 1


def _own_file(name: str, folder: Path) -> Path:
    """`NAME.py` here: it is run, so that it may be none of the checkpoint's.

    Raises:
        InputError: Here is the checkpoint's folder.
    """
    from biject.errors import InputError

    if Path.cwd().resolve().is_relative_to(folder.resolve()):
        raise InputError(
            f"{name}.py would be run from {folder}, and nothing that a checkpoint brings is run. Go to "
            "another folder, or name the family's file with --file."
        )
    return Path(f"{name}.py")
