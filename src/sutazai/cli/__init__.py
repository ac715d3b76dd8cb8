"""Why it exists: everything a person does with a fleet, one file a verb, answering in milliseconds.

The command line holds no logic of the fleet: it compiles by starting ``control.compile``, and talks to the running
processes over their sockets like any other client. Every verb takes ``--json``.

Exit codes, the same for every verb: see ``EXIT_CODES``.
"""

from __future__ import annotations

from sutazai.cli.app import main
from sutazai.cli.exits import EXIT_CODES

__all__ = ["EXIT_CODES", "main"]
