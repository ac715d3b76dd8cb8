"""Why it exists: ``sutazai migrate`` may not open a store; the broker's package may, while no broker runs.

``python -m sutazai.bus.move --fleet NAME --from sqlite --to postgres`` copies and prints what was copied as JSON;
``--set-aside DRIVER`` gives a store that is not in use any more another name. PostgreSQL is waited for.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import sys
import time

from sutazai.errors import HostError
from sutazai.paths import FleetPaths
from sutazai.store.move import move, set_aside
from sutazai.store.opening import DRIVERS, open_store

SERVER_WAIT_S = 60.0
_PAUSE_S = 0.2


def main(arguments: list[str] | None = None) -> int:
    """Copy or set aside; 0 when it is done, 1 when nothing has changed."""
    parser = argparse.ArgumentParser(prog="sutazai.bus.move", description="Move a fleet's tasks to another database.")
    parser.add_argument("--fleet", required=True)
    parser.add_argument("--from", dest="source", choices=DRIVERS)
    parser.add_argument("--to", dest="target", choices=DRIVERS)
    parser.add_argument("--set-aside", choices=DRIVERS)
    given = parser.parse_args(arguments)
    paths = FleetPaths.of(given.fleet)
    wall_ms = time.time_ns() // 1_000_000
    try:
        if given.set_aside:
            print(json.dumps({"name": set_aside(paths, given.set_aside, wall_ms)}))  # noqa: T201 its answer
            return 0
        _wait_for_server(paths)
        print(json.dumps(dataclasses.asdict(move(paths, given.source, given.target, wall_ms))))  # noqa: T201 its answer
    except (HostError, OSError) as error:
        sys.stderr.write(f"{error}\n")
        return 1
    return 0


def _wait_for_server(paths: FleetPaths) -> None:
    """Wait until PostgreSQL lets us in.

    Raises:
        HostError: it does not in time; the last reason is in the message.
    """
    until = time.monotonic() + SERVER_WAIT_S
    while True:
        try:
            open_store("postgres", paths, ballast_bytes=0, wall_ms=time.time_ns() // 1_000_000).close()
        except HostError:
            if time.monotonic() > until:
                raise
            time.sleep(_PAUSE_S)
        else:
            return


if __name__ == "__main__":
    sys.exit(main())
