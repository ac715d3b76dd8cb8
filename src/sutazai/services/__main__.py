"""Why it exists: one command line for all recipes: ``python -m sutazai.services NAME --state DIR …``."""

from __future__ import annotations

import importlib
import sys

from sutazai.errors import SutazaiError

#: Name on the command line, and the module whose ``main`` gets the rest of it.
RECIPES = {
    "postgres": "sutazai.services.postgres",
    "rabbitmq": "sutazai.services.rabbitmq",
    "rabbitmqctl": "sutazai.services.rabbitmqctl",
    "valkey": "sutazai.services.valkey",
}


def main(arguments: list[str]) -> int:
    """Become the server that the first word names; returns only when that failed."""
    if not arguments or arguments[0] not in RECIPES:
        names = ", ".join(sorted(RECIPES))
        sys.stderr.write(f"usage: python -m sutazai.services NAME --state DIR …; NAME is one of: {names}\n")
        return 2
    try:
        importlib.import_module(RECIPES[arguments[0]]).main(arguments[1:])
    except SutazaiError as error:
        sys.stderr.write(f"{arguments[0]}: {error}\n")
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
