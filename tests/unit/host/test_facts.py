"""What the machine says about itself: pressure, memory, cores, disk, ports."""

from __future__ import annotations

import os
import socket
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sutazai.errors import HostError, PortTakenError
from sutazai.host import cpus, disk, facts, ports, procfs, psi
from sutazai.host.cgroup_files import Files, number, table

System = Callable[[str], Path]
GB = 1 << 30


def test_pressure_is_read() -> None:
    """Both lines, all four figures; the CPU's file had no second line before Linux 5.13."""
    text = "some avg10=1.50 avg60=0.20 avg300=0.00 total=12345\nfull avg10=0.50 avg60=0.00 avg300=0.00 total=99\n"
    found = psi.parse(text)
    assert found == psi.Pressure(psi.Stall(1.5, 0.2, 0.0, 12345), psi.Stall(0.5, 0.0, 0.0, 99))
    short = psi.parse(text.splitlines()[0])
    assert short is not None
    assert short.full == psi.NO_STALL


@pytest.mark.parametrize("text", ["", "some", "some avg10=x avg60=0 avg300=0 total=0", "full avg10=0", "\0\0"])
def test_pressure_garbage(text: str) -> None:
    """What is not of the format is no pressure, not an error."""
    assert psi.parse(text) is None


def test_pressure_of_a_machine_without(tmp_path: Path) -> None:
    """A kernel without PSI has no figures."""
    assert psi.read("memory", tmp_path) is None


@given(st.frozensets(st.integers(0, 4_095)))
def test_lists_of_cores_round_trip(cores: frozenset[int]) -> None:
    """Writing and reading a list of cores gives the same cores."""
    assert cpus.parse_list(cpus.format_list(cores)) == cores


def test_lists_of_cores_as_the_kernel_writes_them() -> None:
    """Runs are joined, the newline and an empty list are fine."""
    assert cpus.format_list({0, 1, 2, 3, 8}) == "0-3,8"
    assert cpus.parse_list("0-3,8\n") == {0, 1, 2, 3, 8}
    assert cpus.parse_list("\n") == frozenset()


@pytest.mark.parametrize("text", ["a", "3-1", "1-", "-1", "0-99999", "1;2", "٣"])
def test_wrong_lists_of_cores(text: str) -> None:
    """A list that is none is refused, with an example; no list is huge."""
    with pytest.raises(ValueError, match="no list of cores"):
        cpus.parse_list(text)


def test_cores_under_a_quota(system: System) -> None:
    """The tightest ceiling of our groups counts, in both versions."""
    assert cpus.quota_cores(system("v2_delegated")) == 1.5
    v1 = system("v1_pure")
    assert cpus.quota_cores(v1) is None
    (v1 / "sys/fs/cgroup/cpu,cpuacct/cpu.cfs_quota_us").write_text("50000\n")
    assert cpus.quota_cores(v1) == 0.5
    assert cpus.usable_cores(v1) == 0.5
    assert cpus.usable_cores(system("v2_namespace")) == len(os.sched_getaffinity(0))
    assert cpus.quota_cores(Path("/nonexistent")) is None


def test_topology(tmp_path: Path) -> None:
    """Hyper-threads of one core are told by package and core; what is missing is a core by itself."""
    base = tmp_path / "sys/devices/system/cpu"
    for cpu, core in ((0, 0), (1, 0)):
        folder = base / f"cpu{cpu}/topology"
        folder.mkdir(parents=True)
        (folder / "physical_package_id").write_text("0\n")
        (folder / "core_id").write_text(f"{core}\n")
    (base / "online").write_text("0-2\n")
    assert cpus.topology(tmp_path) == [cpus.Core(0, 0, 0), cpus.Core(1, 0, 0), cpus.Core(2, 0, 2)]
    assert cpus.topology(tmp_path / "no") == []
    assert len(cpus.topology()) >= len(os.sched_getaffinity(0))


def test_memory_under_a_limit(system: System) -> None:
    """A limit laid on us is the machine's size; page cache that can be dropped is room."""
    v1 = system("v1_hybrid")
    assert facts.memory_total_bytes(v1) == 8 * GB
    assert facts.memory_available_bytes(v1) == 8 * GB - GB + GB // 2
    (v1 / "sys/fs/cgroup/memory/box/one/memory.limit_in_bytes").write_text("9223372036854771712\n")
    assert facts.memory_total_bytes(v1) == 32_000_000 * 1024
    assert facts.memory_available_bytes(v1) == 24_000_000 * 1024


def test_memory_of_v2(system: System) -> None:
    """The same by v2's files."""
    v2 = system("v2_delegated")
    (v2 / "proc/meminfo").write_text("MemTotal: 32000000 kB\nMemAvailable: 24000000 kB\n")
    assert facts.memory_total_bytes(v2) == 4 * GB
    assert facts.memory_available_bytes(v2) == 3 * GB


def test_meminfo_garbage(tmp_path: Path) -> None:
    """Damaged lines are left out."""
    (tmp_path / "meminfo").write_text("MemTotal: x kB\nMemFree\n: 3\nMemAvailable: 5 kB\n\0")
    assert procfs.meminfo(tmp_path) == procfs.MemInfo(available_bytes=5 * 1024)


def test_busy_cores(tmp_path: Path) -> None:
    """Idle and waiting for the disk is not busy; -1 is all cores; guest time is not counted twice."""
    (tmp_path / "stat").write_text("cpu  10 0 10 70 10 0 0 0 5 0\ncpu0 10 0 10 70 10 0 0 0 5 0\nintr 1\n")
    before = procfs.core_times(tmp_path)
    assert before == {-1: (20, 100), 0: (20, 100)}
    assert procfs.busy_ratio(before[0], procfs.CoreTimes(60, 200)) == 0.4
    assert procfs.busy_ratio(before[0], before[0]) == 0.0
    assert procfs.core_times(tmp_path / "no") == {}
    assert procfs.load1(tmp_path) == 0.0


def test_disk(tmp_path: Path) -> None:
    """A folder that does not exist yet is measured where it will be."""
    assert disk.free_bytes(tmp_path / "not/yet") > 0
    assert disk.disk(tmp_path).total_bytes >= disk.free_bytes(tmp_path)


def test_a_taken_port_names_its_holder() -> None:
    """The error says which process holds the port, and the port is free again when it has ended."""
    first = ports.bind_listen("127.0.0.1", 0)
    port = first.getsockname()[1]
    with pytest.raises(PortTakenError, match=f"pid {os.getpid()} ") as caught:
        ports.bind_listen("127.0.0.1", port)
    assert caught.value.port == port
    assert ports.listening()[port].pid == os.getpid()
    first.close()
    ports.bind_listen("127.0.0.1", port).close()


def test_ports_of_ipv6_and_foreign_addresses() -> None:
    """IPv6 works where the machine has it; an address that is not ours is an error that says so."""
    with pytest.raises(HostError, match="cannot listen on"):
        ports.bind_listen("192.0.2.1", 0)
    if socket.has_ipv6 and Path("/proc/net/if_inet6").exists():
        listener = ports.bind_listen("::1", 0)
        assert listener.getsockname()[1] in ports.listening()
        listener.close()


def test_ports_of_a_fixture(tmp_path: Path) -> None:
    """A port whose process we may not see has an unknown holder; other states and garbage are no listeners."""
    (tmp_path / "net").mkdir()
    (tmp_path / "net/tcp").write_text(
        "  sl  local_address rem_address   st\n"
        "   0: 0100007F:1F90 00000000:0000 0A 00000000:00000000 00:00000000 00000000     0        0 4242 1\n"
        "   1: 0100007F:1F91 00000000:0000 01 00000000:00000000 00:00000000 00000000     0        0 4243 1\n"
        "   2: garbage\n"
    )
    assert ports.listening(tmp_path) == {8080: ports.Holder(0, "")}
    assert str(ports.Holder(0, "")) == "an unknown process"
    assert ports.ephemeral_range(tmp_path) == ports.EPHEMERAL_DEFAULT
    first, last = ports.ephemeral_range()
    assert 0 < first < last < 65_536


def test_control_files(tmp_path: Path) -> None:
    """A control that does not exist is not made, and a descriptor that is kept sees what changes."""
    files = Files()
    (tmp_path / "x").write_text("1\n")
    assert files.read_kept(str(tmp_path), "x") == "1\n"
    (tmp_path / "x").write_text("2\n")
    assert files.read_kept(str(tmp_path), "x") == "2\n"
    files.forget(str(tmp_path))
    with pytest.raises(FileNotFoundError):
        files.write(tmp_path, "y", "1")
    assert not (tmp_path / "y").exists()
    assert files.read(tmp_path, "y") == files.read_kept(str(tmp_path), "y") == ""
    files.forget(str(tmp_path))
    with pytest.raises(FileExistsError):
        files.make(tmp_path / "x")
    assert files.pids(tmp_path / "gone") == []
    assert (number("max"), number("-1"), number(""), table("a 1\nb x\nc")) == (0, 0, 0, {"a": 1})
