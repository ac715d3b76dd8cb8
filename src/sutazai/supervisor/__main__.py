"""Why it exists: ``python -m sutazai.supervisor --plan PLAN.json`` is how a fleet comes up, by hand or after a reboot.

Checks the plan before anything starts, makes sure that there is only one, goes to the background, and leaves the rest
to the guard. Exit codes: 0 the fleet is being started (or, in the foreground, was stopped), 1 it could not start,
3 it runs already, 78 the plan is refused.
"""

from __future__ import annotations

import argparse
import faulthandler
import fcntl
import gc
import os
import signal
import sys
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

from sutazai.errors import ConfigError, SutazaiError
from sutazai.host import process
from sutazai.supervisor.contract import PlanFile
from sutazai.supervisor.facts import Wish
from sutazai.supervisor.fds import FdStore
from sutazai.supervisor.guard import EXIT_REFUSED, Guard
from sutazai.supervisor.stages import mistakes
from sutazai.supervisor.supervisor import Supervisor

if TYPE_CHECKING:
    import socket

EXIT_RUNNING = 3
STARTED = b"started"
FD_FIRST_FREE = 3


def main(arguments: list[str] | None = None) -> int:
    """Parse the command line and start."""
    parser = argparse.ArgumentParser(prog="sutazaid", description="Run a fleet from its compiled plan.")
    parser.add_argument("--plan", required=True, type=Path, help="the plan file that `sutazai up` has written")
    parser.add_argument("--foreground", action="store_true", help="stay in the foreground and log to the terminal")
    parser.add_argument("--down", action="store_true", help="take over what is left of the fleet, and stop it")
    options = parser.parse_args(arguments)
    plan_path = options.plan.absolute()
    try:
        plan = _checked(plan_path)
        lock = _lock(plan)
    except SutazaiError as error:
        sys.stderr.write(f"sutazaid: {error}\n")
        return EXIT_REFUSED if isinstance(error, ConfigError) else 1
    if lock is None:
        sys.stderr.write(f"sutazaid: the fleet {plan.fleet} runs already\n")
        return EXIT_RUNNING
    Wish(Path(plan.state_dir) / "wish.json").write("down" if options.down else "up")
    if options.foreground:
        return _guard(plan, plan_path, announce_fd=-1)
    return _in_background(plan, plan_path, lock)


def _checked(path: Path) -> PlanFile:
    plan = PlanFile.load(path)
    if found := mistakes(plan):
        raise ConfigError("; ".join(found), path=str(path), hint="run: sutazai plan")
    return plan


def _lock(plan: PlanFile) -> int | None:
    """Make the folders and take the fleet's lock, which lives as long as guard or ``sutazaid``; None when it is taken.

    Raises:
        ConfigError: a folder cannot be made.
    """
    try:
        for folder in (plan.state_dir, plan.run_dir):
            Path(folder).mkdir(mode=0o711, parents=True, exist_ok=True)
        (Path(plan.state_dir) / "logs").mkdir(mode=0o750, exist_ok=True)
        lock = os.open(Path(plan.state_dir) / "sutazaid.lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    except OSError as error:
        raise ConfigError(
            f"cannot make the folders of the fleet: {error.strerror}", path=error.filename or ""
        ) from error
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(lock)
        return None
    return lock


def _in_background(plan: PlanFile, plan_path: Path, lock: int) -> int:
    """Detach; the caller's process ends when ``sutazaid`` serves, or when it could not start."""
    sys.stderr.flush()
    announce_read, announce_write = os.pipe2(os.O_CLOEXEC)
    if os.fork() > 0:
        os.close(announce_write)
        text = b""
        while data := os.read(announce_read, 4_096):
            text += data
        if text == STARTED:
            return 0
        log = Path(plan.state_dir) / "logs/sutazaid.log"
        sys.stderr.write(f"sutazaid: did not start: {text.decode() or f'see {log}'}\n")
        return 1
    os.setsid()
    os.chdir("/")
    nothing = os.open(os.devnull, os.O_RDONLY)
    log_fd = os.open(Path(plan.state_dir) / "logs/sutazaid.log", os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o640)
    for source, target in ((nothing, 0), (log_fd, 1), (log_fd, 2)):
        os.dup2(source, target)
    _close_all_but({lock, announce_write})
    os._exit(_guard(plan, plan_path, announce_write))


def _close_all_but(kept: set[int]) -> None:
    """Close what the caller's shell or test runner had open: a leaked pipe would keep its reader waiting."""
    for fd in [int(entry.name) for entry in Path("/proc/self/fd").iterdir()]:
        if fd >= FD_FIRST_FREE and fd not in kept:
            with suppress(OSError):  # the descriptor of this very listing
                os.close(fd)


def _guard(plan: PlanFile, plan_path: Path, announce_fd: int) -> int:
    """Run the guard, and ``sutazaid`` under it."""
    process.set_child_subreaper()
    process.set_name("sutazaid-guard")
    gc.freeze()
    announce = [announce_fd]

    def child(channel: socket.socket, inherited: dict[str, int]) -> int:
        return run_sutazaid(plan_path, FdStore(channel, inherited), announce[0])

    def after_fork() -> None:
        if announce[0] >= 0:
            os.close(announce[0])
            announce[0] = -1

    guard = Guard(Path(plan.run_dir) / "guard.pid", child, after_fork)
    return guard.run()


def run_sutazaid(plan_path: Path, store: FdStore, announce_fd: int) -> int:
    """Run one ``sutazaid`` in this process; returns its exit code."""
    process.set_child_subreaper()
    process.set_name("sutazaid")
    faulthandler.register(signal.SIGUSR2)  # where it is, into its log: for a sutazaid that does not answer
    try:
        supervisor = Supervisor(_checked(plan_path), plan_path, store)
        supervisor.start()
    except SutazaiError as error:
        sys.stderr.write(f"sutazaid: {error}\n")
        if announce_fd >= 0:
            os.write(announce_fd, str(error).encode())
        return EXIT_REFUSED if isinstance(error, ConfigError) else 1
    if announce_fd >= 0:
        os.write(announce_fd, STARTED)
        os.close(announce_fd)
    return supervisor.run()


if __name__ == "__main__":
    sys.exit(main())
