"""Why it exists: ``python -m sutazai.supervisor --plan PLAN.json`` is how a fleet comes up, by hand or after a reboot.

Checks the plan before anything starts, makes sure that there is only one, goes to the background, and becomes the
guard. Exit codes: 0 ``sutazaid`` serves (or, in the foreground, was stopped), 1 it could not start, 3 it runs already,
78 the plan is refused.
"""

from __future__ import annotations

import argparse
import fcntl
import os
import sys
import time
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

from sutazai.errors import ConfigError, SutazaiError
from sutazai.host import process
from sutazai.supervisor.facts import Wish
from sutazai.supervisor.guarding import exec_guard
from sutazai.supervisor.run import EXIT_REFUSED, STARTED, checked

if TYPE_CHECKING:
    from sutazai.supervisor.contract import PlanFile

EXIT_RUNNING = 3
STOP_WAIT_S = 60.0
STOP_POLL_S = 0.02
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
        plan = checked(plan_path)
        lock = _lock(plan)
    except SutazaiError as error:
        sys.stderr.write(f"sutazaid: {error}\n")
        return EXIT_REFUSED if isinstance(error, ConfigError) else 1
    if lock is None:
        sys.stderr.write(f"sutazaid: the fleet {plan.fleet} runs already\n")
        return EXIT_RUNNING
    Wish(Path(plan.state_dir) / "wish.json").write("down" if options.down else "up")
    if options.foreground:
        _become_guard(plan, plan_path, lock, -1)
    return _in_background(plan, plan_path, lock)


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
        raise ConfigError(f"cannot make the fleet's folders: {error.strerror}", path=str(error.filename)) from error
    wish, until_s = Wish(Path(plan.state_dir) / "wish.json"), time.monotonic() + STOP_WAIT_S
    while True:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            if wish.read() == "down" and time.monotonic() < until_s:  # it is just stopping
                time.sleep(STOP_POLL_S)
                continue
            os.close(lock)
            return None
        return lock


def _in_background(plan: PlanFile, plan_path: Path, lock: int) -> int:
    """Detach; the caller's process ends when ``sutazaid`` serves, or when it could not start."""
    log = Path(plan.state_dir) / "logs/sutazaid.log"
    log_fd = os.open(log, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o640)
    announce_read, announce_write = os.pipe2(os.O_CLOEXEC)
    if os.fork() > 0:
        os.close(announce_write)
        os.close(lock)
        text = b""
        while data := os.read(announce_read, 4_096):
            text += data
        if text == STARTED:
            return 0
        sys.stderr.write(f"sutazaid: did not start: {text.decode() or f'see {log}'}\n")
        return 1
    os.setsid()
    os.chdir("/")
    nothing = os.open(os.devnull, os.O_RDONLY)
    for source, target in ((nothing, 0), (log_fd, 1), (log_fd, 2)):
        os.dup2(source, target)
    _close_all_but({lock, announce_write})
    _become_guard(plan, plan_path, lock, announce_write)
    return 1


def _close_all_but(kept: set[int]) -> None:
    """Close what the caller's shell or test runner had open: a leaked pipe would keep its reader waiting."""
    for fd in [int(entry.name) for entry in Path("/proc/self/fd").iterdir()]:
        if fd >= FD_FIRST_FREE and fd not in kept:
            with suppress(OSError):  # the descriptor of this very listing
                os.close(fd)


def _become_guard(plan: PlanFile, plan_path: Path, lock: int, announce_fd: int) -> None:
    """Replace this process, with all that it has imported, by the small guard; never returns."""
    process.set_child_subreaper()  # survives the exec
    exec_guard(plan_path, Path(plan.run_dir) / "guard.pid", (lock, announce_fd), {})


if __name__ == "__main__":
    sys.exit(main())
