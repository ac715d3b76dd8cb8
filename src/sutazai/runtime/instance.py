"""Why it exists: between a fork and an agent's first line lie a dozen steps whose order is a matter of safety.

The child blocks on a pipe until ``sutazaid`` has put it into its cgroup; an end-of-file there means that nobody will,
and it goes. Then: log file (as root), user, signals, name, scratch folder, the agent's code, the broker.
"""

from __future__ import annotations

import gc
import os
import random
import shutil
import signal
import sys
import traceback
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sutazai.runtime import kernel, privileges
from sutazai.runtime.activation import PARENT_SIGNAL, Instance, Place
from sutazai.runtime.broker_link import Identity
from sutazai.runtime.loader import explain, load_agent
from sutazai.runtime.log import Log

if TYPE_CHECKING:
    from sutazai.paths import FleetPaths
    from sutazai.runtime.skill import Agent
    from sutazai.wire.planfacts import AgentFacts

_DESCRIPTORS_END = 1 << 20
GUARD_FILE = "guard.pid"


@dataclass(frozen=True, slots=True)
class Order:
    """An order to make an instance.

    Attributes:
        facts: of its agent.
        ticket: its admission.
        token: the secret that belongs to it.
        uid: user to become; 0 or less keeps the zygote's.
        pipe: descriptor that gives one byte when the process is in its cgroup; -1 does not wait.
    """

    facts: AgentFacts
    ticket: str
    token: str
    uid: int
    pipe: int


@dataclass(frozen=True, slots=True)
class Fleet:
    """What instances of one fleet have in common.

    Attributes:
        name: of the fleet.
        paths: its folders.
        scratch: folder of all scratch folders.
        llm_url: of the language model.
    """

    name: str
    paths: FleetPaths
    scratch: Path
    llm_url: str


def live(order: Order, fleet: Fleet) -> int:
    """Be an instance, from the fork to the exit.

    Returns:
        The exit code.
    """
    if order.pipe >= 0 and not os.read(order.pipe, 1):
        return 0  # nobody placed us, so nobody limits us: go
    _take_over(order, fleet)
    try:
        scratch = make_scratch(fleet.scratch, order.facts.name)
        place = Place(
            broker_socket=fleet.paths.broker_socket,
            guard_file=fleet.paths.run / GUARD_FILE,
            keep_ms=order.facts.keep_ms,
            fleet=fleet.name,
            llm_url=fleet.llm_url,
            scratch=scratch,
            settings=order.facts.settings,
        )
        lines = Log({"agent": order.facts.name, "instance": order.ticket})
        identity = Identity(order.facts.name, order.ticket, order.token)
        try:
            return Instance(lambda: _agent(order.facts, lines), identity, place, lines).run()
        finally:
            remove_scratch(scratch)
    except BaseException:  # noqa: BLE001 the last place where it can be told
        traceback.print_exc()
        return 1
    finally:
        sys.stdout.flush()
        sys.stderr.flush()


def _agent(facts: AgentFacts, lines: Log) -> Agent | BaseException:
    path = Path(facts.module)
    try:
        if facts.upstream:
            from sutazai.runtime.http_agent import build  # most fleets have none

            return build(facts)
        return load_agent(path, facts.name)
    except BaseException as error:  # noqa: BLE001 agent code may raise anything, SystemExit too
        lines.error("the agent cannot be imported", error=explain(error, path))
        return error


def _take_over(order: Order, fleet: Fleet) -> None:
    """Turn a copy of the zygote into a process of its own."""
    _redirect(fleet.paths.logs / f"{order.facts.name}.log")
    os.closerange(3, _DESCRIPTORS_END)
    for number in (signal.SIGCHLD, signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        signal.signal(number, signal.SIG_DFL)
    signal.signal(PARENT_SIGNAL, signal.SIG_IGN)  # until the instance knows what to do with it
    os.umask(0o077)
    privileges.confine(order.uid, PARENT_SIGNAL)
    if os.getppid() == 1 and kernel.guard_lives(fleet.paths.run / GUARD_FILE) is not True:
        os._exit(0)  # the parent died before the signal was set, and the fleet with it
    kernel.set_name(order.facts.name)
    kernel.set_command_line(f"sutazai: {order.facts.name} {order.ticket}")
    os.environ["SUTAZAI_PROCESS"] = order.facts.name
    reseed()
    gc.enable()


def _redirect(log_file: Path) -> None:
    """Point standard output and error to the agent's log, standard input to nothing."""
    flags = os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC
    try:
        descriptor = os.open(log_file, flags, 0o640)
    except OSError:
        descriptor = os.open(os.devnull, os.O_WRONLY | os.O_CLOEXEC)  # a full disk must not stop the work
    nothing = os.open(os.devnull, os.O_RDONLY | os.O_CLOEXEC)
    os.dup2(nothing, 0)
    os.dup2(descriptor, 1)
    os.dup2(descriptor, 2)
    for stream in (sys.stdout, sys.stderr):
        reconfigure = getattr(stream, "reconfigure", None)
        if reconfigure is not None:
            reconfigure(line_buffering=True, errors="backslashreplace")


def reseed() -> None:
    """Give this process random numbers of its own; a fork copies the generators' state."""
    random.seed()
    numpy: Any = sys.modules.get("numpy")
    if numpy is not None:
        numpy.random.seed(int.from_bytes(os.urandom(4), "little"))


def make_scratch(root: Path, agent: str) -> Path:
    """Make this process's folder, clear away those of dead processes of the same user, and go into it.

    Returns:
        The folder; the temporary folder when it cannot be made (a full disk).
    """
    folder = root / f"{agent}.{os.getpid()}"
    try:
        for left in root.iterdir():
            if left.stat().st_uid == os.geteuid() and not kernel.start_ticks(int(left.name.rpartition(".")[2])):
                shutil.rmtree(left, ignore_errors=True)
    except (OSError, ValueError):
        pass  # somebody else's, or gone meanwhile
    try:
        folder.mkdir(mode=0o700, exist_ok=True)
        os.chdir(folder)
    except OSError:
        os.chdir("/")
        return Path("/tmp")  # noqa: S108 only when there is no better one
    os.environ["TMPDIR"] = os.environ["HOME"] = str(folder)
    return folder


def remove_scratch(folder: Path) -> None:
    """Remove this process's folder."""
    os.chdir("/")
    if folder.name.rpartition(".")[2] == str(os.getpid()):
        shutil.rmtree(folder, ignore_errors=True)
