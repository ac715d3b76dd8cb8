"""Why it exists: one place decides between a person's view and JSON, and colours appear on a terminal only.

``rich`` is imported on use, so that ``--json`` and errors stay fast.
"""

from __future__ import annotations

import json
import sys
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from rich.console import Console

#: Columns when the output is no terminal: tables keep their rows in one line.
PIPE_WIDTH = 132


def console(*, stderr: bool = False) -> Console:
    """Make a console that knows whether it is a terminal (``NO_COLOR`` and ``FORCE_COLOR`` are honoured)."""
    from rich.console import Console

    terminal = (sys.stderr if stderr else sys.stdout).isatty()
    return Console(stderr=stderr, highlight=False, width=None if terminal else PIPE_WIDTH)


def print_json(value: Any) -> None:
    """Print one JSON document, keys as given, for another program."""
    json.dump(value, sys.stdout, indent=2, ensure_ascii=False, default=str)
    sys.stdout.write("\n")


def note(text: str) -> None:
    """Say to a person what is going on, on standard error, so that standard output stays the result."""
    print(text, file=sys.stderr, flush=True)


def bar(share: float, width: int = 20) -> str:
    """Draw a share between 0 and 1 as a bar of ``width`` cells; above 1 it is full."""
    filled = round(min(max(share, 0.0), 1.0) * width)
    return "█" * filled + "░" * (width - filled)


def colour_of(share: float) -> str:
    """Name the colour for a share of a limit: green, yellow from 70 %, red from 90 %."""
    if share >= 0.9:  # noqa: PLR2004 as documented
        return "red"
    return "yellow" if share >= 0.7 else "green"  # noqa: PLR2004 as documented
