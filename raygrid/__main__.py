"""The command: `raygrid`, or `python -m raygrid`, the form that Ray jobs use."""

from __future__ import annotations

import sys
from typing import NoReturn


def main() -> NoReturn:
    """Run the command line; Ctrl-C while it is being loaded ends as any later one does."""
    try:
        from raygrid.cli import main as run
    except KeyboardInterrupt:
        from raygrid.errors import ExitCode

        sys.stderr.write("raygrid: interrupted\n")
        sys.exit(ExitCode.INTERRUPTED)
    run()


if __name__ == "__main__":
    main()
