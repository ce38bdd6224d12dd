"""The commands, in the order in which help lists them, and where their help texts are."""

from __future__ import annotations

from pathlib import Path

COMMANDS = (
    "export", "verify-export", "verify-matrix", "inspect", "plan", "finetune", "watch", "push",
    "verify-resume", "verify-backends", "verify-readers", "scorecard", "evaluate", "predict", "generate",
    "merge", "families", "bench", "new-family", "init", "example", "completion", "version",
)  # fmt: skip
HELP_FOLDER = Path(__file__).parent / "help"
HELP_COLUMNS = 100
