"""The levers of the kernel do what they say, each in a process of its own."""

from __future__ import annotations

import os
import select
import subprocess
import sys
from typing import TYPE_CHECKING

from sutazai.runtime import kernel

if TYPE_CHECKING:
    from pathlib import Path


def in_child(code: str) -> str:
    """Run code in a fresh interpreter; gives its output."""
    source = "from sutazai.runtime import kernel\nimport os, pathlib\n" + code
    return subprocess.run([sys.executable, "-c", source], capture_output=True, check=True, text=True).stdout


def test_the_timer_is_a_descriptor() -> None:
    """It becomes readable once when its time is over, and not after it was stopped."""
    timer = kernel.Timer()
    try:
        timer.start(1)
        assert select.select([timer.descriptor], [], [], 30)[0]
        timer.clear()
        assert not select.select([timer.descriptor], [], [], 0)[0]
        timer.clear()
        timer.start(60_000)
        timer.stop()
        assert not select.select([timer.descriptor], [], [], 0)[0]
    finally:
        os.close(timer.descriptor)


def test_names_of_a_process() -> None:
    """``top`` sees the short name, ``ps`` the long one."""
    out = in_child(
        "kernel.set_name('a-very-long-name-of-an-agent'); kernel.set_command_line('sutazai: x')\n"
        "print(pathlib.Path('/proc/self/comm').read_text().strip())\n"
        "print(pathlib.Path('/proc/self/cmdline').read_bytes().rstrip(b'\\0'))"
    )
    assert out.splitlines() == ["a-very-long-nam", "b'sutazai: x'"]


def test_no_new_privileges_and_death_signal() -> None:
    """Both are in force after they were set."""
    out = in_child(
        "assert kernel.set_no_new_privileges() and kernel.set_parent_death_signal(10)\n"
        "assert kernel.set_child_subreaper()\n"
        "kernel.use_one_arena()\n"
        "print([line for line in open('/proc/self/status') if line.startswith('NoNewPrivs')])"
    )
    assert "1" in out


def test_capabilities_are_given_up() -> None:
    """Root keeps only what is named; without root there is nothing to give up."""
    out = in_child(
        "kernel.keep_capabilities((kernel.CAP_SETUID, kernel.CAP_SETGID))\n"
        "print([line.split()[1] for line in open('/proc/self/status') if line.startswith('CapEff')][0])"
    )
    assert int(out, 16) & ~0b1100_0000 == 0


def test_threads_are_counted() -> None:
    """A thread beside the first is seen."""
    out = in_child(
        "import threading\nprint(kernel.thread_count())\nstop = threading.Event()\n"
        "thread = threading.Thread(target=stop.wait); thread.start()\nprint(kernel.thread_count())\nstop.set()"
    )
    assert out.split() == ["1", "2"]


def test_the_guard_is_known_by_pid_and_start(tmp_path: Path) -> None:
    """A living guard, a dead one, a pid that was used again, and no file are told apart."""
    file = tmp_path / "guard.pid"
    assert kernel.guard_lives(file) is None
    file.write_text("nonsense")
    assert kernel.guard_lives(file) is None
    file.write_text(f"{os.getpid()} {kernel.start_ticks(os.getpid())}\n")
    assert kernel.guard_lives(file) is True
    file.write_text(f"{os.getpid()} 12\n")
    assert kernel.guard_lives(file) is False
    file.write_text(f"{os.getpid()}")
    assert kernel.guard_lives(file) is True
    child = subprocess.Popen([sys.executable, "-c", ""])
    file.write_text(f"{child.pid} {kernel.start_ticks(child.pid)}")
    child.wait()
    assert kernel.guard_lives(file) is False


def test_a_zombie_counts_as_dead() -> None:
    """A process that ended and was not reaped yet has no start."""
    pid = os.fork()
    if pid == 0:
        os._exit(0)
    os.waitid(os.P_PID, pid, os.WEXITED | os.WNOWAIT)
    assert kernel.start_ticks(pid) == 0
    os.waitpid(pid, 0)
