"""A fleet on a host of its own: systemd, cgroup v2, twelve cores, a reboot, a power cut. Run by `make test-vm`.

The tests stand in the order of a host's life and share one machine; each prints what it saw.
"""

from __future__ import annotations

import json
import os
import subprocess
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import pytest
import vm_image
import vm_machine

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

pytestmark = pytest.mark.timeout(3_600)
CLONE = "/srv/sutazai"
PYTHON = f"{CLONE}/.venv/bin/python"
SUTAZAI = f"cd {CLONE} && {CLONE}/.venv/bin/sutazai"
FLEET = f"{CLONE}/tests/vm/fleet"
STATE = "/var/lib/sutazai/host"
UNIT = "sutazai-host.service"
GROUP = f"/sys/fs/cgroup/system.slice/{UNIT}"
UP_S = 900.0
#: Blueprint §2.3.
TABLE = {"postgres": "0-3", "redis": "0-3", "neo4j": "0-3", "chromadb": "4-7", "qdrant": "4-7"}


def say(text: str) -> None:
    """Print a line that a person waits for."""
    print(f"vm: {text}", flush=True)


@dataclass
class Host:
    """The machine with the fleet in it."""

    machine: vm_machine.Machine

    def run(self, command: str, timeout_s: float = 300.0) -> str:
        """Run a command inside that must succeed."""
        said = self.machine.run(command, timeout_s=timeout_s)
        assert said.code == 0, f"{command!r} ended with {said.code}:\n{said.out}"
        return said.out

    def status(self) -> dict[str, Any]:
        """Ask for the fleet's status; empty when nobody answers."""
        said = self.machine.run(f"{SUTAZAI} status --fleet host --json 2>/dev/null")
        return json.loads(said.out) if said.code == 0 else {}

    def wait_up(self) -> dict[str, Any]:
        """Wait until the fleet is up."""
        return self.wait(lambda status: status.get("state") == "up", "the fleet is up")

    def wait(self, holds: Any, what: str) -> dict[str, Any]:
        """Ask for the status until something holds."""
        give_up_at = time.monotonic() + UP_S
        while True:
            status = self.status()
            if holds(status):
                return status
            if time.monotonic() > give_up_at:
                told = self.machine.run(f"systemctl status --no-pager {UNIT}; tail -n 40 {STATE}/logs/*.log").out
                pytest.fail(f"not in {UP_S:.0f} s: {what}\n{json.dumps(status)[:3_000]}\n{told}")

    def ask(self, words: str) -> dict[str, Any]:
        """Ask an agent, and give the whole task, however it ended."""
        out = self.machine.run(f"{SUTAZAI} ask --fleet host --json {words} 2>/dev/null", timeout_s=600).out
        task: dict[str, Any] = json.loads(out)
        return task

    def task(self, identifier: str) -> dict[str, Any]:
        """Look at a task."""
        found: dict[str, Any] = json.loads(self.run(f"{SUTAZAI} task show --fleet host {identifier}"))
        return found

    def pids(self) -> dict[str, int]:
        """Process ids by name of process."""
        return {process["name"]: process["pid"] for process in self.status()["processes"]}

    def stored(self) -> dict[str, Any]:
        """Ask the store for all that the machine told outside that it accepted."""
        wanted = [line.split()[1] for line in self.machine.accepted if line.startswith("task ")]
        words = " ".join(wanted)
        command = f"printf '%s\\n' {words} | {PYTHON} {CLONE}/tests/vm/tasks.py {STATE}/store.sqlite"
        found: dict[str, Any] = json.loads(self.run(command))
        return found


@pytest.fixture(scope="module")
def host(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Host]:
    """A machine with a fresh clone of this checkout's last commit, whose fleet systemd started."""
    try:
        vm_image.install_tools()
        image = vm_image.image()
        way, why = vm_machine.accelerator(image, os.environ.get("SUTAZAI_VM_ACCEL", "auto"))
    except vm_image.NotPossibleError as error:
        say(f"SKIPPED, nothing on a real host was tested: {error}")
        pytest.skip(str(error))
    vm_machine.note(way, why)
    cargo, length = _cargo(tmp_path_factory.mktemp("cargo"))
    with vm_machine.Machine(image, way, cargo) as machine:
        found = Host(machine)
        say(f"booted in {machine.switch_on():.0f} s with {way}")
        say(
            found.run("uname -sr; nproc; systemctl --version | head -n 1; stat -fc %T /sys/fs/cgroup").replace(
                "\n", " · "
            )
        )
        found.run(
            f"head -c {length} /dev/vdb > /tmp/repo.bundle && git clone -q /tmp/repo.bundle {CLONE} && "
            f"mv /srv/kept/.venv {CLONE}/.venv && cd {CLONE} && UV_OFFLINE=1 scripts/bootstrap base llm data"
        )
        say("a fresh clone: " + found.run(f"git -C {CLONE} log -1 --format='%h %s'").strip())
        say(found.run(f"{SUTAZAI} service {FLEET}/sutazai.yaml --install", timeout_s=600).strip().splitlines()[-1])
        started = time.monotonic()
        found.run(f"systemctl start {UNIT}")
        found.wait_up()
        say(f"systemctl start {UNIT}: the fleet is up after {time.monotonic() - started:.0f} s")
        yield found


def _cargo(folder: Path) -> tuple[Path, int]:
    """Pack the last commit, as a second disk; also gives the length of what is on it."""
    dirty = subprocess.run(
        ["git", "status", "--porcelain"], cwd=vm_image.REPO, capture_output=True, text=True, check=True
    ).stdout
    if dirty:
        say(f"note: {len(dirty.splitlines())} uncommitted changes are not in the clone that is tested")
    bundle = folder / "repo.bundle"
    subprocess.run(["git", "bundle", "create", "-q", str(bundle), "HEAD"], cwd=vm_image.REPO, check=True)
    length = bundle.stat().st_size
    with bundle.open("ab") as file:
        file.write(b"\0" * (-length % 512))  # a disk has whole sectors
    return bundle, length


def test_delegation(host: Host) -> None:
    """The fleet's groups hang in the unit's own cgroup, sutazaid is in a leaf of its own, all limits are held by v2."""
    status = host.status()
    assert status["enforcement"]["version"] == "v2"
    assert status["enforcement"]["missing"] == []
    assert {"memory", "cpu_quota", "cpuset", "pids", "kill", "freeze"} <= set(status["enforcement"]["enforced"])
    tree = host.run(f"cd {GROUP} && grep -l -r --include=cgroup.procs . .")
    say("processes are in: " + " ".join(sorted(line.removesuffix("/cgroup.procs") for line in tree.splitlines())))
    assert host.run(f"cat {GROUP}/cgroup.procs") == "", "only leaves may hold processes"
    leaf = host.run(f"cat {GROUP}/sutazai-host-*.self/cgroup.procs").split()
    names = [host.run(f"cat /proc/{pid}/comm").strip() for pid in leaf]
    assert sorted(names) == ["sutazaid", "sutazaid-guard"]
    outside = host.run("cat /proc/1/comm /proc/self/cgroup")
    assert "sutazai-host" not in outside
    assert "limits held by cgroup v2" in host.run(f"{SUTAZAI} status --fleet host")


def test_table_of_cores(host: Host) -> None:
    """Each process and instance may use the cores of the blueprint's table, and the kernel says so."""
    pids = host.pids()
    seen = {}
    for name, cores in TABLE.items():
        text = host.run(f"grep Cpus_allowed_list /proc/{pids[name]}/status")
        seen[name] = text.split()[1]
        assert seen[name] == cores
    where = host.ask("prober where")["result"]
    seen["prober (standard)"] = where["cores"]
    seen["prober-critical"] = host.ask("prober-critical where")["result"]
    assert where["cores"] == "10-11"
    assert int(where["uid"]) > 0, "an instance runs under a user id of its own"
    assert seen["prober-critical"] == "8-9"
    host.run(f"{SUTAZAI} ask --fleet host --detach health-monitor report window_s=30")
    status = host.wait(
        lambda now: any(one["agent"] == "health-monitor" for one in now.get("instances", [])), "health-monitor is awake"
    )
    pid = next(one["pid"] for one in status["instances"] if one["agent"] == "health-monitor")
    seen["health-monitor"] = host.run(f"grep Cpus_allowed_list /proc/{pid}/status").split()[1]
    assert seen["health-monitor"] == "8-9"
    seen["broker (in no set)"] = host.run(f"grep Cpus_allowed_list /proc/{pids['broker']}/status").split()[1]
    assert seen["broker (in no set)"] == "0-11"
    say("cores: " + ", ".join(f"{name} {cores}" for name, cores in seen.items()))


def test_memory_limit(host: Host) -> None:
    """An instance over its own limit is killed by the kernel, alone: no process changes, the unit goes on."""
    before = host.pids()
    task = host.ask("prober eat megabytes=300")
    assert task["status"] == "dead"
    say(f"eat 300 of 96 MB: {task['status']}, {task['error']['message']}")
    assert "oom" in task["error"]["message"]
    assert host.pids() == before
    assert host.ask("prober where")["status"] == "succeeded"
    assert host.run(f"systemctl is-active {UNIT}").strip() == "active"


def test_pids_limit(host: Host) -> None:
    """A service with 12 processes gets no thirteenth."""
    host.wait(lambda now: "forked" in host.machine.run(f"cat {STATE}/logs/forker.log").out, "forker met its limit")
    said = host.run(f"tail -n 1 {STATE}/logs/forker.log").strip()
    say(f"forker, pids: 12: {said}")
    assert "forked 11 times" in said


def test_quota(host: Host) -> None:
    """Two busy processes with a quota of half a core get no more than that, and are throttled."""
    result = host.ask("prober-slow burn seconds=8")["result"]
    say(f"quota 0.5c: {result['cpu_s']:.2f} s of a core in {result['wall_s']:.2f} s, {result['throttled']:.0f} stops")
    assert result["throttled"] > 0
    assert result["cpu_s"] / result["wall_s"] < 0.6


def test_pool_limit(host: Host) -> None:
    """Two services that each keep their own limit are stopped by the limit of their pool; nobody else is hit."""
    before = host.pids()
    pool = host.run(f"cat {GROUP}/sutazai-host-*/monitoring/memory.max").strip()
    assert pool == str(96 << 20)
    host.run(f"touch {STATE}/services/filler-a/go {STATE}/services/filler-b/go")
    status = host.wait(
        lambda now: sum(one["restarts"] for one in now.get("processes", []) if one["name"].startswith("filler")) > 0,
        "a filler was killed",
    )
    host.run(f"rm {STATE}/services/filler-a/go {STATE}/services/filler-b/go")
    for process in status["processes"]:
        if process["name"].startswith("filler"):
            say(f"{process['name']}: restarts {process['restarts']}, last exit: {process['last_exit']}")
            assert process["memory_peak_bytes"] < 72 << 20, "its own limit was never met"
    now = host.pids()
    others = {name: pid for name, pid in before.items() if not name.startswith("filler")}
    assert {name: now[name] for name in others} == others
    events = host.run(f"cat {GROUP}/sutazai-host-*/monitoring/memory.events.local").split()
    say(f"the pool's memory.events.local: {' '.join(events)}")
    assert int(events[events.index("oom") + 1]) > 0


def test_guard_is_killed(host: Host) -> None:
    """`kill -9` of the unit's main process, the guard: systemd leaves the fleet alone, which makes a new guard."""
    before = host.pids()
    guard = host.run("cut -d' ' -f1 /run/sutazai/host/guard.pid").strip()
    host.run(f"kill -9 {guard}")
    host.wait(
        lambda now: now.get("state") == "up" and host.run("cut -d' ' -f1 /run/sutazai/host/guard.pid").strip() != guard,
        "there is a new guard",
    )
    assert host.pids() == before
    shown = host.run(f"systemctl show -p ActiveState,SubState,NRestarts {UNIT}").split()
    say(f"guard killed: no process of the fleet changed; {' '.join(shown)}")
    assert "ActiveState=active" in shown
    assert "NRestarts=0" in shown


def test_user_service(host: Host) -> None:
    """Without root: a user's own unit, with what systemd hands to users; a drop-in hands the cores over, too."""
    uid = host.run("id -u somebody").strip()
    host.run("loginctl enable-linger somebody")
    as_user = f"su somebody -c 'export XDG_RUNTIME_DIR=/run/user/{uid}; cd {CLONE}; "
    host.run(f"until [ -S /run/user/{uid}/systemd/private ]; do sleep 0.2; done")
    host.run(f"{as_user} .venv/bin/sutazai service tests/vm/fleet/user.yaml --install'", timeout_s=600)
    for missing in (["cpuset"], []):
        if not missing:
            host.run(f"{as_user} systemctl --user stop sutazai-mine'")
            drop_in = "/etc/systemd/system/user@.service.d"
            host.run(
                f"mkdir -p {drop_in} && printf '[Service]\\nDelegate=cpu cpuset memory pids\\n' > {drop_in}/cores.conf"
            )
            host.run(f"systemctl daemon-reload && systemctl restart user@{uid}.service")
            host.run(f"until [ -S /run/user/{uid}/systemd/private ]; do sleep 0.2; done")
        host.run(f"{as_user} systemctl --user start sutazai-mine'")
        ask = f"{as_user} .venv/bin/sutazai ask --fleet mine --json prober where 2>/dev/null'"
        give_up_at = time.monotonic() + UP_S
        status: dict[str, Any] = {}
        while status.get("state") != "up":
            assert time.monotonic() < give_up_at, host.machine.run(
                f"{as_user} systemctl --user status sutazai-mine'"
            ).out
            said = host.machine.run(f"{as_user} .venv/bin/sutazai status --fleet mine --json 2>/dev/null'")
            status = json.loads(said.out) if said.code == 0 else {}
        where = json.loads(host.run(ask))["result"]
        assert where["uid"] == uid
        assert where["cores"] == ("0-11" if missing else "10-11")
        group = host.run(f"cat /proc/{status['processes'][0]['pid']}/cgroup").strip()
        say(f"as user {uid}: {group}, on cores {where['cores']}; not enforced: {missing}")
        assert status["enforcement"]["version"] == "v2"
        assert [one["limit"] for one in status["enforcement"]["missing"]] == missing
        assert f"/user@{uid}.service/" in group
        assert "/sutazai-mine.service/" in group
    host.run(f"{as_user} systemctl --user disable --now sutazai-mine'")
    assert host.machine.run(f"pgrep -u {uid} -f sutazai").out == ""


def test_reboot(host: Host) -> None:
    """After `systemctl reboot` the fleet is there again by itself, and finishes what it had accepted before."""
    ask = f"{SUTAZAI} ask --fleet host --detach prober-slow wait"
    long = host.run(f"{ask} seconds=600").strip()
    short = [host.run(f"{ask} seconds=0.1").strip() for _ in range(3)]
    while host.task(long)["status"] != "leased":
        time.sleep(vm_machine.POLL_S)
    say(f"rebooted in {host.machine.reboot():.0f} s, with a task at work and {len(short)} behind it")
    started = time.monotonic()
    host.wait_up()
    say(f"the fleet is up again by itself, {time.monotonic() - started:.0f} s later")
    assert host.task(long)["status"] in {"queued", "leased"}
    host.run(f"{SUTAZAI} task cancel --fleet host {long}")
    for identifier in short:
        while (status := host.task(identifier)["status"]) in {"queued", "leased"}:
            time.sleep(vm_machine.POLL_S)
        assert status == "succeeded"
    found = host.machine.run(f"systemctl is-enabled {UNIT}; grep -c stopping: {STATE}/logs/sutazaid.log").out.split()
    say(f"unit {found[0]}; of the tasks from before, the one at work was kept, and the others have succeeded")


@pytest.mark.parametrize("accept", [150, 60])
def test_power_cut(host: Host, accept: int) -> None:
    """The emulator is killed under load: each task that was answered with 202 is stored, ends, and committed once."""
    load = f"{PYTHON} {CLONE}/tests/vm/load.py 10480 {STATE}/token /var/tmp/unsynced"
    accepted = host.machine.accepted
    before = host.machine.told("task")
    accepted[:] = [line for line in accepted if not line.startswith("control")]
    host.run("rm -f /var/tmp/unsynced && sync")
    host.machine.start(f"{load} > /var/tmp/load.log 2>&1", timeout_s=3_000)
    give_up_at = time.monotonic() + UP_S
    while host.machine.told("task") < before + accept and time.monotonic() < give_up_at:
        time.sleep(vm_machine.POLL_S)
    host.machine.cut()
    tasks, controls = host.machine.told("task"), host.machine.told("control")
    assert tasks >= before + accept, accepted[-3:]
    say(f"power cut with {tasks} tasks accepted so far, {controls} lines written without a sync")
    say(f"booted again in {host.machine.switch_on():.0f} s")
    host.wait_up()
    found = host.stored()
    say(f"after the cut: {len(found['lost'])} of {found['accepted']} accepted tasks lost, {found['by_status']}")
    assert found["lost"] == []
    assert found["integrity"] == "ok"
    give_up_at = time.monotonic() + UP_S
    while set(found["by_status"]) - {"succeeded"} and time.monotonic() < give_up_at:
        found = host.stored()
    say(f"at the end: {found['by_status']}, {found['doubled']} committed twice, {found['turns_lost']} turns done again")
    assert found["by_status"] == {"succeeded": tasks}
    assert found["doubled"] == 0
    kept = host.machine.run("tail -n 1 /var/tmp/unsynced 2>/dev/null || true").out.strip()
    left = int(kept) if kept.isdecimal() else 0
    say(f"control: of {controls} lines without a sync {left} are left: a cut takes what was not synced")
    assert left < controls, "the cut took nothing, so it proves nothing"
