"""Why it exists: the guard forks, and only the child imports all that ``sutazaid`` is made of.

So the guard stays small, and each new ``sutazaid`` begins with fresh modules.
"""

from __future__ import annotations

import faulthandler
import os
import resource
import signal
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

from sutazai.errors import ConfigError, SutazaiError
from sutazai.host import process
from sutazai.supervisor import spawn
from sutazai.supervisor.contract import PlanFile
from sutazai.supervisor.fds import FdStore
from sutazai.supervisor.journal import say
from sutazai.supervisor.stages import mistakes
from sutazai.supervisor.supervisor import Supervisor

if TYPE_CHECKING:
    import socket

EXIT_REFUSED = 78
STARTED = b"started"
DESCRIPTORS_WANTED = 16_384


def checked(path: Path) -> PlanFile:
    """Read a plan that can run.

    Raises:
        ConfigError: it cannot; all reasons at once.
    """
    plan = PlanFile.load(path)
    if found := mistakes(plan):
        raise ConfigError("; ".join(found), path=str(path), hint="run: sutazai plan")
    return plan


def _raise_descriptor_limit() -> None:
    """Take as many descriptors as are allowed: the control files of each group that is read every tick stay open."""
    _, hard = spawn.DESCRIPTORS
    wanted = DESCRIPTORS_WANTED if hard == resource.RLIM_INFINITY else min(hard, DESCRIPTORS_WANTED)
    with suppress(OSError, ValueError):
        resource.setrlimit(resource.RLIMIT_NOFILE, (max(wanted, spawn.DESCRIPTORS[0]), hard))


def run(plan_path: str, channel: socket.socket, inherited: dict[str, int], fds_given: tuple[int, int]) -> int:
    """Run one ``sutazaid`` in this process.

    Args:
        plan_path: the plan file.
        channel: to the guard.
        inherited: listening sockets by name.
        fds_given: the fleet's lock, and where the caller of the first start waits for ``started`` or a reason; -1 for
            none.

    Returns:
        The exit code: 0 after a stop, 78 for a refused plan.
    """
    lock_fd, announce_fd = fds_given
    process.set_child_subreaper()
    _raise_descriptor_limit()
    process.set_name("sutazaid")
    faulthandler.register(signal.SIGUSR2)  # where it is, into its log: for a sutazaid that does not answer
    try:
        path = Path(plan_path)
        supervisor = Supervisor(checked(path), path, FdStore(channel, inherited), lock_fd)
        supervisor.start()
    except SutazaiError as error:
        say(str(error), "error")
        if announce_fd >= 0:
            os.write(announce_fd, str(error).encode())
        return EXIT_REFUSED if isinstance(error, ConfigError) else 1
    if announce_fd >= 0:
        os.write(announce_fd, STARTED)
        os.close(announce_fd)
    return supervisor.run()
