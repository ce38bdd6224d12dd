"""`--help` and `--version`: texts written ahead, true to the parser, and cheap."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from biject import __version__
from biject.cli.commands import COMMANDS, HELP_FOLDER
from biject.cli.generate_help import texts
from biject.cli.main import ready_text

GOLDEN = sorted(path.name for path in HELP_FOLDER.glob("*.txt"))


def test_there_is_a_text_for_every_command_and_no_other() -> None:
    assert set(GOLDEN) == {"biject.txt", *(f"{name}.txt" for name in COMMANDS)}


@pytest.mark.parametrize("name", GOLDEN)
def test_texts_are_what_cyclopts_renders(name: str) -> None:
    """If this fails after a change of flags: `make help-texts`."""
    assert (HELP_FOLDER / name).read_text(encoding="utf-8") == texts()[name]


@pytest.mark.parametrize("arguments", [[], ["--help"], ["-h"], ["--help", "export"]])
def test_the_whole_help(run, arguments) -> None:
    outcome = run(*arguments)
    assert outcome.code == 0
    assert outcome.out == (HELP_FOLDER / "biject.txt").read_text(encoding="utf-8")
    assert outcome.err == ""


@pytest.mark.parametrize("command", COMMANDS)
@pytest.mark.parametrize("flag", ["--help", "-h"])
def test_a_commands_help(run, command, flag) -> None:
    outcome = run(command, "anything", flag)
    assert outcome.code == 0
    assert outcome.out == (HELP_FOLDER / f"{command}.txt").read_text(encoding="utf-8")


def test_the_version(run) -> None:
    assert run("--version").out == f"{__version__}\n"


def test_as_a_module_of_python(tmp_path: Path) -> None:
    """`python -m biject`, which takes no module of the folder where one stands."""
    for name in ("cyclopts", "torch", "rich"):
        (tmp_path / f"{name}.py").write_text("raise SystemExit('taken')")
    command = [sys.executable, "-m", "biject", "families"]
    done = subprocess.run(command, capture_output=True, text=True, check=False, cwd=tmp_path)
    assert (done.returncode, done.stderr) == (0, "")
    assert "modernbert" in done.stdout


def test_a_narrow_terminal_is_laid_out_anew(monkeypatch) -> None:
    monkeypatch.setattr("biject.cli.main._terminal_columns", lambda: 60)
    assert ready_text(["--help"]) is None
    assert ready_text(["--version"]) is not None


def test_a_prompt_after_dashes_asks_for_no_help() -> None:
    assert ready_text(["inspect", "--", "--help"]) is None


@pytest.mark.parametrize("arguments", [["--help"], ["verify-export", "--help"], ["--version"]])
def test_help_loads_no_library(arguments) -> None:
    code = (
        "import sys; from biject.cli.main import main; code = main(sys.argv[1:])\n"
        "heavy = {'torch', 'cyclopts', 'rich', 'huggingface_hub', 'numpy'} & set(sys.modules)\n"
        "sys.exit(code or ', '.join(heavy) or 0)"
    )
    done = subprocess.run([sys.executable, "-c", code, *arguments], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
