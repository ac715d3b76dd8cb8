"""What a process is, and the levers on one: identities, descriptors of processes, privileges, signals."""

from __future__ import annotations

import ctypes
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from sutazai.errors import HostError
from sutazai.host import pidfd, process, procfs

ROOT = pytest.mark.skipif(os.geteuid() != 0, reason="needs root")


def python(code: str) -> str:
    """Run code in a process of its own."""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False, timeout=60)
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def test_identity_of_the_living_and_the_dead() -> None:
    """A process is itself while it lives; as a zombie, and afterwards, it is nobody."""
    child = subprocess.Popen(["sleep", "600"])
    who = procfs.identity(child.pid)
    assert who is not None
    assert procfs.is_alive(who)
    assert not procfs.is_alive(procfs.Identity(child.pid, who.start_ticks + 1)), "a later process with that pid"
    assert procfs.parent(child.pid) == os.getpid()
    assert child.pid in procfs.children(os.getpid())
    descriptor = pidfd.open_pidfd(who)
    assert descriptor is not None
    assert not pidfd.has_ended(descriptor)
    assert pidfd.send_signal(descriptor, signal.SIGKILL)
    os.waitid(os.P_PID, child.pid, os.WEXITED | os.WNOWAIT)
    assert procfs.state(child.pid) == "Z"
    assert not procfs.is_alive(who)
    assert pidfd.open_pidfd(who) is None
    assert pidfd.has_ended(descriptor)
    child.wait()
    assert not pidfd.send_signal(descriptor, signal.SIGKILL)
    assert procfs.identity(child.pid) is None
    assert pidfd.open_pidfd(child.pid) is None
    os.close(descriptor)


def test_pidfd_of_another_process_with_that_pid() -> None:
    """A remembered start time that does not fit opens nothing."""
    own = procfs.identity(os.getpid())
    assert own is not None
    assert pidfd.open_pidfd(procfs.Identity(own.pid, own.start_ticks + 7)) is None


def test_a_name_with_brackets(tmp_path: Path) -> None:
    """A command's name may look like the end of the name; the fields behind it are still found."""
    folder = tmp_path / "9"
    folder.mkdir()
    (folder / "stat").write_text("9 (a) S (b) R 5 " + " ".join(str(n) for n in range(3, 45)))
    assert procfs.parent(9, tmp_path) == 5
    assert procfs.state(9, tmp_path) == "R"
    (folder / "stat").write_text("9 (short) R 5")
    assert procfs.identity(9, tmp_path) is None


def test_facts_of_ourselves() -> None:
    """Memory, arguments, uid, threads and time of a living process are there and plausible."""
    me = os.getpid()
    memory = procfs.memory(me)
    assert memory is not None
    assert 0 < memory.private_bytes <= memory.pss_bytes <= memory.rss_bytes
    assert memory.rss_bytes == memory.private_bytes + memory.shared_bytes
    assert procfs.rss_bytes(me) > 0
    assert procfs.cmdline(me)
    assert procfs.name(me)
    assert procfs.uid(me) == os.geteuid()
    assert procfs.threads(me) >= 1
    assert procfs.cpu_usec(me) >= 0
    assert me in procfs.pids()
    assert procfs.boot_id()


def test_facts_of_nobody() -> None:
    """A process that is gone gives nothing, and no error."""
    child = subprocess.Popen(["true"])
    child.wait()
    gone = child.pid
    assert procfs.memory(gone) is None
    assert procfs.uid(gone) is None
    assert (procfs.cmdline(gone), procfs.name(gone), procfs.children(gone)) == ([], "", [])
    assert (procfs.cpu_usec(gone), procfs.rss_bytes(gone), procfs.threads(gone), procfs.parent(gone)) == (0, 0, 0, 0)
    assert not process.set_oom_score_adj(gone, 500)


def test_descendants() -> None:
    """Grandchildren are found by their parents."""
    code = "import os, sys, time\nif os.fork() == 0: time.sleep(600)\nprint('up', flush=True)\ntime.sleep(600)"
    child = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE)
    try:
        assert child.stdout is not None
        child.stdout.readline()
        assert len(procfs.descendants({child.pid})) == 1
        assert procfs.descendants({child.pid}) < procfs.descendants({os.getpid()})
    finally:
        for pid in procfs.descendants({child.pid}):
            os.kill(pid, signal.SIGKILL)
        child.kill()
        child.communicate()


def test_a_descriptor_out_of_another_process() -> None:
    """A socket or pipe of a living process can be copied out of it."""
    code = "import os, time\nr, w = os.pipe()\nos.write(w, b'here')\nprint(r, flush=True)\ntime.sleep(600)"
    child = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True)
    try:
        assert child.stdout is not None
        number = int(child.stdout.readline())
        descriptor = pidfd.open_pidfd(child.pid)
        assert descriptor is not None
        copy = pidfd.get_descriptor(descriptor, number)
        assert os.read(copy, 9) == b"here"
        with pytest.raises(OSError, match="descriptor"):
            pidfd.get_descriptor(descriptor, 9_999)
        os.close(copy)
        os.close(descriptor)
    except PermissionError:
        pytest.skip("ptrace rights are restricted on this host")
    finally:
        child.kill()
        child.communicate()


def test_subreaper_gets_orphans() -> None:
    """An orphaned grandchild becomes the subreaper's child and can be reaped there."""
    out = python(
        "import os\nfrom sutazai.host import process\nprocess.set_child_subreaper()\n"
        "r, w = os.pipe()\n"
        "if os.fork() == 0:\n"
        "    if os.fork() == 0:\n        os.close(w)\n        os.read(r, 1)\n        os._exit(7)\n"
        "    os._exit(0)\n"
        "os.wait()\nos.close(w)\n"
        "print(process.is_child_subreaper(), os.waitstatus_to_exitcode(os.wait()[1]))"
    )
    assert out == "True 7"
    assert not process.is_child_subreaper()


def test_parent_death_signal() -> None:
    """A child that asked for it gets its signal when the parent ends."""
    out = python(
        "import os, signal, sys\nfrom sutazai.host import process\n"
        "process.set_child_subreaper()\nr, w = os.pipe()\nup, ready = os.pipe()\n"
        "if os.fork() == 0:\n"
        "    if os.fork() == 0:\n"
        "        signal.signal(signal.SIGUSR1, lambda *a: os.write(w, b'told') and os._exit(0))\n"
        "        process.set_pdeathsig(signal.SIGUSR1)\n        os.write(ready, b'up')\n"
        "        while True: signal.pause()\n"
        "    os.read(up, 2)\n    os._exit(0)\n"
        "print(os.read(r, 4).decode())"
    )
    assert out == "told"


@ROOT
def test_privileges_are_dropped_for_ever() -> None:
    """All uids and gids change, groups go, no exec gives rights back, and root cannot be had again."""
    out = python(
        "import os\nfrom sutazai.host import process\nprocess.drop_privileges(65534, 65534)\n"
        "print(os.getresuid(), os.getresgid(), os.getgroups(), process.has_no_new_privs())\n"
        "try:\n    os.setuid(0)\nexcept PermissionError:\n    print('kept')"
    )
    assert out == "(65534, 65534, 65534) (65534, 65534, 65534) [] True\nkept"


@pytest.mark.parametrize(("uid", "gid"), [(0, 5), (5, 0), (-1, 5)])
def test_root_is_no_unprivileged_user(uid: int, gid: int) -> None:
    """Dropping to root would be no drop: it is refused before anything is changed."""
    with pytest.raises(HostError):
        process.drop_privileges(uid, gid)


def test_oom_score_and_name() -> None:
    """The kernel's victim order can be raised by anybody; the short name is cut to what the kernel keeps."""
    child = subprocess.Popen(["sleep", "600"])
    try:
        assert process.set_oom_score_adj(child.pid, 5_000)
        assert Path(f"/proc/{child.pid}/oom_score_adj").read_text() == "1000\n"
    finally:
        child.kill()
        child.wait()
    out = python("from sutazai.host import process, procfs; import os\nprocess.set_name('a-very-long-name-of-it')\n"
                 "process.set_dumpable(on=False)\nprint(procfs.name(os.getpid()))")  # fmt: skip
    assert out == "a-very-long-nam"


def test_a_refused_prctl_is_an_error() -> None:
    """A call that the kernel refuses raises, with its reason."""
    with pytest.raises(OSError, match="prctl"):
        process._prctl(9_999, ctypes.c_void_p(0))
