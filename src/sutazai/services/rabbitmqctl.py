"""Why it exists: ``rabbitmqctl`` finds a fleet's RabbitMQ only with its port mapper, its cookie and its node's name."""

from __future__ import annotations

import argparse
import os
from pathlib import Path

from sutazai.services import rabbitmq


def main(arguments: list[str]) -> None:
    """Become ``rabbitmqctl``, for the server that was started from a state folder.

    Raises:
        HostError: RabbitMQ is not installed, or was never started from there.
    """
    parser = argparse.ArgumentParser(prog="python -m sutazai.services rabbitmqctl", description="Become rabbitmqctl.")
    parser.add_argument("--state", type=Path, required=True, help="the server's folder")
    parser.add_argument("words", nargs=argparse.REMAINDER, help="for rabbitmqctl, as in: list_queues name messages")
    given = parser.parse_args(arguments)
    script = rabbitmq.programs() / "rabbitmqctl"
    settings = rabbitmq.load(given.state.absolute())
    os.execve(script, [str(script), *given.words], rabbitmq.environment(settings))  # noqa: S606 the point
