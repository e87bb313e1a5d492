"""The launcher that supervisord runs in the home directory for one program of `run/programs.json`.

    python -I -S flows/local/supervised_program.py NAME

The file keeps passwords out of command lines. supervisord's configuration cannot quote every value, so arguments
and environments are in the file too. Imports the standard library only.
"""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path
from typing import NoReturn

PROGRAMS_FILE = "run/programs.json"


def main() -> NoReturn:
    """Replace this process by the program named on the command line."""
    program = json.loads(Path(PROGRAMS_FILE).read_text())[sys.argv[1]]
    os.environ.update(program["environment"])
    os.execvp(program["command"][0], program["command"])


if __name__ == "__main__":
    main()
