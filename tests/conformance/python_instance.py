"""An instance of the fixture agent in Python, as a zygote's fork would be, for the conformance suite."""

from __future__ import annotations

import sys
from pathlib import Path

from sutazai.runtime.activation import Instance, Place
from sutazai.runtime.broker_link import Identity
from sutazai.runtime.loader import load_agent
from sutazai.runtime.log import Log


def main() -> int:
    """Live until there is nothing to do."""
    socket, module, ticket, keep_ms = sys.argv[1:]
    place = Place(Path(socket), Path(socket).with_name("guard.pid"), keep_ms=int(keep_ms), scratch=Path(socket).parent)
    identity = Identity("conformance", ticket, "no-token")
    return Instance(lambda: load_agent(Path(module), "conformance"), identity, place, Log()).run()


if __name__ == "__main__":
    sys.exit(main())
