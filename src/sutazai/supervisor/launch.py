"""Why it exists: turning a plan's entry into a running process needs sockets, a group, a log and an environment.

``Launcher`` gathers them and calls ``spawn``. It decides nothing: when to start and what to do about a failure is the
keeper's.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

from sutazai.errors import HostError
from sutazai.supervisor.journal import say
from sutazai.supervisor.logs import LogKeeper, LogLimit
from sutazai.supervisor.spawn import Command, Spawned, spawn

if TYPE_CHECKING:
    from sutazai.supervisor.cells import Cells
    from sutazai.supervisor.contract import PlanFile
    from sutazai.supervisor.listeners import Listeners
    from sutazai.supervisor.unit import Unit

PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
#: Taken over from ``sutazaid``'s own environment where they are set.
INHERITED = ("SUTAZAI_MODELS", "LANG", "TZ", "TMPDIR")


class Launcher:
    """Starts units as the plan says."""

    def __init__(self, cells: Cells, listeners: Listeners, logs: LogKeeper) -> None:
        self._cells = cells
        self._listeners = listeners
        self._logs = logs

    def launch(self, plan: PlanFile, unit: Unit) -> Spawned:
        """Start one process inside its group.

        Raises:
            PortTakenError: a port of it is held by somebody else.
            HostError: its group cannot be made, or it cannot be put there.
            OSError: no memory, pids or disk space for it.
        """
        spec = unit.spec
        listen = self._listeners.obtain(spec)
        self._cells.ensure(spec.name, unit.group, spec.limits)
        self._logs.limit(spec.name, LogLimit(spec.log_bytes_max, spec.log_files_kept))
        try:
            log_fd = self._logs.open(spec.name)
        except OSError as error:  # a full disk must not stop the work
            say(f"{spec.name} runs without a log: {error.strerror}", "warning")
            log_fd = os.open(os.devnull, os.O_WRONLY | os.O_CLOEXEC)
        try:
            command = Command(
                argv=spec.argv,
                env=environment(plan, unit),
                cwd=spec.cwd,
                log_fd=log_fd,
                listen=listen,
                uid=spec.uid,
                oom_score_adj=spec.oom_score_adj,
            )
            return spawn(command, lambda pid: self._place(unit.group, pid))
        finally:
            os.close(log_fd)

    def _place(self, group: str, pid: int) -> None:
        try:
            self._cells.groups.place(group, pid)
        except ProcessLookupError as error:
            raise HostError(f"process {pid} ended before it could be put into its group {group}") from error


def environment(plan: PlanFile, unit: Unit) -> dict[str, str]:
    """Build the whole environment of a process: small, clean, the plan's entries last."""
    own_uid = unit.spec.uid in {-1, os.geteuid()}
    return {
        "PATH": PATH,
        "LANG": "C.UTF-8",
        "HOME": os.environ.get("HOME", "/") if own_uid else "/",
        **{name: os.environ[name] for name in INHERITED if name in os.environ},
        "SUTAZAI_FLEET": plan.fleet,
        "SUTAZAI_STATE_ROOT": str(Path(plan.state_dir).parent),
        "SUTAZAI_RUN_ROOT": str(Path(plan.run_dir).parent),
        "SUTAZAI_PROCESS": unit.name,
        "PYTHONUNBUFFERED": "1",
        "OMP_NUM_THREADS": "1",
        "OPENBLAS_NUM_THREADS": "1",
        "MKL_NUM_THREADS": "1",
        **unit.spec.env,
    }
