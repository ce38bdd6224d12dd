"""`biject export`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

from cyclopts import Parameter

from biject.cli.flags import Json, Names, Switch, names
from biject.errors import InputError


def export(
    *,
    hub: Annotated[str | None, Parameter(metavar="REPO|DIR")] = None,
    checkpoint: Annotated[Path | None, Parameter(metavar="RUN")] = None,
    out: Annotated[Path, Parameter(metavar="DIR")],
    head: Literal[
        "auto", "base", "seqcls", "tokcls", "qa", "mlm", "causal", "rtd", "imgcls", "distilled"
    ] = "auto",
    dtype: Literal["keep", "float32", "float16", "bfloat16", "float64"] = "keep",
    max_shard_size: Annotated[str | None, Parameter(metavar="SIZE")] = None,
    revision: Annotated[str | None, Parameter(metavar="NAME")] = None,
    new_head: Names = None,
    family: Annotated[str | None, Parameter(metavar="NAME")] = None,
    force: Switch = False,
    json: Json = False,
) -> int:
    """Load a checkpoint and write it back as a Hugging Face folder.

    What changes nothing is byte-identical, file by file. With `--head auto`, tensors that the head
    does not use are passed through; a change of head lists what it leaves out.

    Args:
        hub: A repository on the Hub, or a local folder.
        checkpoint: In its place, the folder of a training run, or one of the run's checkpoints.
        out: The folder to write; it must not exist, but for `--force`.
        head: The head to export; `auto` is the one that the checkpoint has.
        dtype: The floating dtype to write; `keep` is the file's.
        max_shard_size: Cut the weights into files of at most this size, e.g. 5GB; else the file's own cuts.
        revision: Branch, tag or commit of the repository.
        new_head: Labels of a head that the checkpoint lacks, or `keep` for the config's; it starts random.
        family: The `model_type` of a folder whose config.json names none.
        force: Replace the folder if it exists.
    """
    labels = names(new_head, flag="--new-head")
    if checkpoint is not None and (hub is not None or revision is not None):
        raise InputError(f"--{'hub' if hub else 'revision'} has no meaning with --checkpoint.")
    if hub is None and checkpoint is None:
        raise InputError("export needs --hub or --checkpoint.")
    from biject.cli.console import format_bytes, print_json, print_lines
    from biject.export import export_checkpoint

    name: str | Path = hub or ""
    without: tuple[str, ...] = ()
    if checkpoint is not None:
        from biject.checkpoint.run_files import STATE_FILES
        from biject.runs.folder import checkpoint_of

        name, without = checkpoint_of(checkpoint), STATE_FILES
    result = export_checkpoint(
        name,
        out=out,
        head=head,
        dtype=dtype,
        max_shard_size=max_shard_size,
        revision=revision,
        new_head=labels,
        force=force,
        without=without,
        family=family,
    )
    if json:
        print_json(result.to_json())
        return 0
    size = format_bytes(result.weight_bytes)
    print_lines([f"sha256 {sha256}  {name}" for name, sha256 in result.files.items()])
    print_lines(
        [f"CHANGED {line}" for line in result.changes]
        or ["UNCHANGED every file is identical to the source's"]
    )
    print_lines([f"EXPORTED {result.architecture}, {size} of weights, to {result.folder}"])
    return 0
