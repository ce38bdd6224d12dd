"""`python -m biject`: the command, where its program is not on the path."""

from __future__ import annotations

import os
import sys

if sys.path and sys.path[0] in ("", os.getcwd()) and not sys.flags.safe_path:  # noqa: PTH109
    del sys.path[0]  # where one stands may be a folder from a stranger: its torch.py is not ours

from biject.cli.main import main

if __name__ == "__main__":
    sys.exit(main())
