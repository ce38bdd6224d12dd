"""The gates of a new family, in order; the first that fails names the tensor or operation that is wrong."""

from __future__ import annotations

import ast
import importlib.util
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from biject.checkpoint.source import Source
from biject.errors import BijectError, ConfigError
from biject.families import Family, trying
from biject.identify import Identity, identify

ORDER = ("file", "config", "names", "shapes", "bytes", "reload", "forward", "gradients", "variants", "todo")


@dataclass(frozen=True, kw_only=True)
class Gate:
    """One gate's result; `detail` is what was found, or what is wrong first."""

    name: str
    passed: bool
    detail: str

    def line(self) -> str:
        """For people."""
        return f"{'PASS' if self.passed else 'FAIL'} {self.name} {self.detail}"


def run_gates(file: Path, source: Source) -> Iterator[Gate]:
    """Yield each gate's result; nothing after the first failure.

    Args:
        file: the family file, anywhere.
        source: a checkpoint of the family, with weights that `transformers` can load.
    """
    try:
        known = load_family(file)
        if known.model_type != source.config.get("model_type"):
            raise ConfigError(
                f"{file.name} declares {known.model_type!r}, the checkpoint is "
                f"{source.config.get('model_type')!r}."
            )
    except Exception as error:  # whatever the file being written does wrong
        yield _failed("file", error)
        return
    yield Gate(name="file", passed=True, detail=f"{file.name} declares {known.model_type}")
    with trying(known):
        for gate in _steps(known, source):
            yield gate
            if not gate.passed:
                return
    yield _guarded("todo", lambda: _todo(file))


def load_family(file: Path) -> Family:
    """The `FAMILY` of a Python file; a file that never names one is not run.

    Raises:
        ConfigError: the file cannot be run, or declares none.
    """
    spec = importlib.util.spec_from_file_location(f"biject_tried_{file.stem}", file)
    if spec is None or spec.loader is None or not file.is_file():
        raise ConfigError(f"{file} is no Python file.")
    module = importlib.util.module_from_spec(spec)
    try:
        if _sets_family(ast.parse(file.read_bytes())):
            spec.loader.exec_module(module)
    except Exception as error:  # whatever the file being written does wrong
        raise ConfigError(f"{file} cannot be run: {type(error).__name__}: {error}") from error
    found = getattr(module, "FAMILY", None)
    if not isinstance(found, Family):
        raise ConfigError(f"{file} should define FAMILY, a biject.families.Family; found {found!r}.")
    return found


def _sets_family(tree: ast.AST) -> bool:
    """Whether a module assigns or imports `FAMILY` anywhere: a checkpoint's `model_type` says which file is
    tried, and must not say which of a user's scripts is run.
    """
    return any(
        (isinstance(node, ast.Name) and node.id == "FAMILY" and isinstance(node.ctx, ast.Store))
        or (isinstance(node, ast.alias) and "FAMILY" in (node.name, node.asname))
        for node in ast.walk(tree)
    )


def _steps(known: Family, source: Source) -> Iterator[Gate]:
    yield _guarded("config", lambda: _config(known, source))
    yield _guarded("names", lambda: _names(source))
    yield _guarded("shapes", lambda: _shapes(source))
    with tempfile.TemporaryDirectory(prefix="biject-new-family-") as temporary:
        export = Path(temporary) / "export"
        yield _guarded("bytes", lambda: _round_trip(source, export))
        for level in ("reload", "forward", "gradients", "variants"):
            yield _guarded(level, lambda level=level: _level(level, source, export))  # type: ignore[misc]


def _guarded(name: str, step: Callable[[], Gate]) -> Gate:
    try:
        return step()
    except Exception as error:  # whatever the file being written does wrong
        return _failed(name, error)


def _failed(name: str, error: Exception) -> Gate:
    words = str(error) if isinstance(error, BijectError) else f"{type(error).__name__}: {error}"
    return Gate(name=name, passed=False, detail=words)


def _config(known: Family, source: Source) -> Gate:
    try:
        known.config.read(source.config)
    except BijectError as error:
        return Gate(name="config", passed=False, detail=str(error))
    unknown = known.config.unknown(source.config)
    if unknown:
        detail = (
            f"`{unknown[0]}` is in no row of the table; all: {', '.join(unknown)}. Declare what each means "
            "(Key, Const or Inert)."
        )
        return Gate(name="config", passed=False, detail=detail)
    return Gate(name="config", passed=True, detail=f"{len(known.config.keys)} keys read, none unknown")


def _todo(file: Path) -> Gate:
    """Nothing is left to decide: a draft may pass every other gate on short texts with a window missing."""
    lines = file.read_text(encoding="utf-8").splitlines()
    left = [(i, line.partition("# TODO")[2]) for i, line in enumerate(lines, start=1) if "# TODO" in line]
    if not left:
        return Gate(name="todo", passed=True, detail="nothing left to decide")
    number, text = left[0]
    return Gate(name="todo", passed=False, detail=f"{len(left)} left; line {number}{text}")


def _identity(source: Source) -> Identity:
    from biject.pretrained import same_tensors

    return identify(source.config, source.tensors, same=same_tensors(source), where=str(source.folder))


def _names(source: Source) -> Gate:
    plan = _identity(source).plan
    if plan.unknown:
        detail = f"`{plan.unknown[0]}` is named by no rule of any head ({len(plan.unknown)} such tensors)"
        return Gate(name="names", passed=False, detail=detail)
    detail = f"{len(plan.bindings)} parameters bound, {len(plan.passthrough)} passed through"
    if plan.passthrough:
        detail += f": {', '.join(plan.passthrough[:3])}" + (", …" if len(plan.passthrough) > 3 else "")
    return Gate(name="names", passed=True, detail=detail)


def _shapes(source: Source) -> Gate:
    from biject.nn.transformer import Transformer
    from biject.pretrained import load

    known = _identity(source)
    named = {b.memory for b in known.plan.bindings} | set(known.plan.absent)
    needed = dict(Transformer(known.config).named_parameters())
    for memory, parameter in needed.items():
        if memory not in named:
            detail = f"no rule names the parameter `{memory}`, of shape {tuple(parameter.shape)}"
            return Gate(name="shapes", passed=False, detail=detail)
    strange = [b for b in known.plan.bindings if b.memory not in needed]
    if strange and not (known.plan.tied_output and strange[0].memory == "head.decoder.weight"):
        detail = f"`{strange[0].disk[0]}` is read as `{strange[0].memory}`, which the module does not have"
        return Gate(name="shapes", passed=False, detail=detail)
    model = load(source.folder)
    parameters = sum(parameter.numel() for parameter in model.parameters())
    return Gate(
        name="shapes", passed=True, detail=f"{model.head_name} head, {parameters:,} parameters placed"
    )


def _round_trip(source: Source, export: Path) -> Gate:
    from biject.pretrained import load

    load(source.folder).save_pretrained(export)
    return _level("bytes", source, export)


def _level(level: str, source: Source, export: Path) -> Gate:
    from biject.verify import verify_export

    report = verify_export(export, source=source.folder, levels=[level])
    result = next(found for found in report.levels if found.name == level)
    wrong = [check for check in result.checks if not check.passed]
    if wrong:
        first = wrong[0]
        where = f"; first difference: {first.where}" if first.where else ""
        detail = f"{first.name} {first.detail}".strip()
        return Gate(name=level, passed=False, detail=detail + where)
    if result.status != "pass":
        return Gate(name=level, passed=False, detail=result.reason or result.status)
    return Gate(name=level, passed=True, detail=f"{len(result.checks)} checks")
