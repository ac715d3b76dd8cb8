"""``kill -9`` of the broker and of instances under load: nothing that was accepted is lost, nothing is done twice.

The checker compares what clients and instances were told with what the store holds at the end.
"""

from __future__ import annotations

import contextlib
import os
import random
import signal
import subprocess
import time
from typing import TYPE_CHECKING

import pytest

from sutazai.errors import StorageFullError
from sutazai.testing.broker_load import WAIT_S, judge, load
from sutazai.testing.broker_process import BrokerProcess

if TYPE_CHECKING:
    from pathlib import Path

    from sutazai.wire.transport import BlockingConnection

KILLS = int(os.environ.get("SUTAZAI_BROKER_KILLS", "15"))


def test_killing_the_broker_under_load_loses_and_doubles_nothing(capsys: pytest.CaptureFixture[str]) -> None:
    """The broker dies again and again while clients submit and instances commit."""
    luck = random.Random(3)  # noqa: S311 no secret
    with BrokerProcess() as broker:
        for number in range(4):
            broker.spawn_instance(f"a{number % 2}", f"k{number}", str(number))
        with load(broker) as callers:
            for _ in range(KILLS):
                time.sleep(luck.uniform(0.02, 0.3))
                broker.kill()
                broker.start()
        report = judge(broker, callers)
    with capsys.disabled():
        print(f"\nbroker killed {KILLS} times: {report}, 0 lost, 0 doubled")  # noqa: T201 the kill matrix is read by people
    assert report["accepted"] > KILLS


def test_killing_instances_under_load_loses_and_doubles_nothing(capsys: pytest.CaptureFixture[str]) -> None:
    """Instances die in the middle of turns and commits; others take their tasks over."""
    luck = random.Random(4)  # noqa: S311 no secret
    with BrokerProcess() as broker:
        instances = {f"k{n}": broker.spawn_instance(f"a{n % 2}", f"k{n}", "5") for n in range(4)}
        with load(broker) as callers:
            for number in range(4, 4 + KILLS):
                time.sleep(luck.uniform(0.02, 0.2))
                name = luck.choice(sorted(instances))
                victim = instances.pop(name)
                victim.send_signal(signal.SIGKILL)
                victim.wait()
                agent = "a0" if int(name[1:]) % 2 == 0 else "a1"
                following = f"k{number * 2 + (agent == 'a1')}"
                instances[following] = broker.spawn_instance(agent, following, "5")
        report = judge(broker, callers)
    with capsys.disabled():
        print(f"\ninstances killed {KILLS} times: {report}, 0 lost, 0 doubled")  # noqa: T201 the kill matrix is read by people


def test_an_instance_that_is_stopped_longer_than_its_lease_is_fenced() -> None:
    """SIGSTOP for longer than the lease: the task goes to another one, the late commit is refused."""
    with BrokerProcess("--lease-ms", "600") as broker:
        frozen = broker.spawn_instance("a0", "k0", "200")
        with broker.client() as client:
            submit = {"t": "submit", "tasks": [{"agent": "a0", "skill": "echo", "input": 1}]}
            task = client.request(submit, WAIT_S)["tasks"][0]["id"]
            client.send({"t": "watch", "id": 9, "task": task})
            while (incoming := client.receive(WAIT_S)) and incoming[0]["event"]["kind"] != "leased":
                pass
            frozen.send_signal(signal.SIGSTOP)
            other = broker.spawn_instance("a0", "k1")
            while (incoming := client.receive(WAIT_S)) and incoming[0]["t"] != "end":
                pass
            frozen.send_signal(signal.SIGCONT)
            log = broker.run_root / "k0.log"
            give_up_s = time.monotonic() + WAIT_S
            while "refused" not in log.read_text():
                assert time.monotonic() < give_up_s
                time.sleep(0.02)
            found = client.request({"t": "tree", "task": task}, WAIT_S)["tasks"][0]
        assert f"refused {task} 1 fenced" in log.read_text()
        assert [turn["outcome"] for turn in found["turns"]] == ["lost", "result"]
        assert other.poll() is None


def fill(client: BlockingConnection, names: list[str]) -> None:
    """Submit until it is refused."""
    for number in range(10_000):
        task = {"agent": "a0", "skill": "echo", "input": {"n": number, "pad": "x" * 20_000}}
        names.append(client.request({"t": "submit", "tasks": [task]}, WAIT_S)["tasks"][0]["id"])


def test_a_full_disk_refuses_new_tasks_and_finishes_accepted_ones(small_disk: Path) -> None:
    """New tasks get storage-full, accepted ones go on, and submissions are taken again when there is room."""
    with BrokerProcess("--ballast-bytes", str(2 * 1024 * 1024), folder=small_disk) as broker, broker.client() as client:
        names: list[str] = []
        with pytest.raises(StorageFullError):
            fill(client, names)
        assert names, "nothing was accepted before the disk was full"
        hog = small_disk / "hog"
        with contextlib.suppress(OSError), hog.open("wb") as file:
            for _ in range(64):
                file.write(b"x" * 4096)
        broker.spawn_instance("a0", "k0")
        done = client.request({"t": "wait", "task": names[0], "timeout_ms": 30_000}, WAIT_S)["task"]
        assert done["status"] == "succeeded"
        assert client.request({"t": "stats"}, WAIT_S)["store"]["full"] is True
        hog.unlink(missing_ok=True)
        subprocess.run(["mount", "-o", "remount,size=64m", str(small_disk)], check=True)
        give_up_s = time.monotonic() + WAIT_S
        while True:
            try:
                client.request({"t": "submit", "tasks": [{"agent": "a0", "skill": "echo"}]}, WAIT_S)
                break
            except StorageFullError:
                assert time.monotonic() < give_up_s, "the broker does not recover"
                time.sleep(0.05)
        for name in names:
            found = client.request({"t": "wait", "task": name, "timeout_ms": 30_000}, WAIT_S)["task"]
            assert found["status"] == "succeeded", found
        assert broker.stop() == 0


def test_what_was_answered_is_there_after_a_kill() -> None:
    """After ``kill -9`` right behind an answer, what was answered is in the store that a new process opens."""
    with BrokerProcess() as broker:
        for number in range(5):
            with broker.client() as client:
                submit = {"t": "submit", "tasks": [{"agent": "idle", "skill": "echo", "input": number}]}
                task = client.request(submit, WAIT_S)["tasks"][0]["id"]
            broker.kill()
            broker.start()
            with broker.client() as client:
                assert client.request({"t": "get", "task": task}, WAIT_S)["task"]["input"] == number
