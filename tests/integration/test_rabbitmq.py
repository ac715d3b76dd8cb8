"""The driver on a real RabbitMQ: the contract, and what happens when it is cut, blocked, stopped or tampered with."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import os
import signal
import socket
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from sutazai.bus.dispatch.rabbitmq import RabbitMQ
from sutazai.errors import HostError
from sutazai.services import rabbitmq, valkey
from sutazai.testing.broker_process import BrokerProcess
from sutazai.testing.dispatch_contract import DispatchContract
from sutazai.testing.dispatch_rig import WAIT_S, DispatchRig

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from sutazai.bus.dispatch.protocol import Driver
    from sutazai.testing.rabbitmq_process import RabbitMQProcess

LOOPBACK = {"0100007F", "00000000000000000000000001000000"}  # 127.0.0.1 and ::1 as the kernel writes them
_NUMBERS = itertools.count(1)


class TestContract(DispatchContract):
    """The contract; every test has a fleet of its own."""

    @pytest.fixture(autouse=True)
    def _fleet(self, rabbitmq_server: RabbitMQProcess) -> None:
        self._server, self._name = rabbitmq_server, f"c{next(_NUMBERS)}"

    def driver(self) -> Driver:
        return RabbitMQ(self._name, self._server.url)


def play(server: RabbitMQProcess, scene: Callable[[Stage], Awaitable[None]]) -> None:
    """Live through a scene in which signals of agent ``one`` are carried already."""

    async def live() -> None:
        driver = RabbitMQ(f"f{next(_NUMBERS)}", server.url)
        async with DispatchRig(driver) as rig:
            stage = Stage(server, driver, rig)
            await stage.carried()
            await scene(stage)

    asyncio.run(live())


class Stage:
    """A server, a driver and a broker, with an idle instance of ``one``."""

    def __init__(self, server: RabbitMQProcess, driver: RabbitMQ, rig: DispatchRig) -> None:
        self.server, self.driver, self.rig = server, driver, rig
        self.echo = rig.instance("one")
        self.tasks: list[str] = []

    def fact(self, name: str) -> Any:
        return self.driver.facts()[name]

    async def done(self, number: int = 1) -> None:
        """Submit tasks and wait until they are done."""
        tasks = self.rig.submit("one", number)
        self.tasks += tasks
        await self.rig.until(lambda: self.rig.are(tasks, "succeeded"), "the tasks are done")

    async def carried(self) -> None:
        """Wait until a task was claimed by a signal that came after now."""
        used, give_up_s = self.fact("used"), time.monotonic() + WAIT_S
        while self.fact("used") == used:
            assert time.monotonic() < give_up_s, self.driver.facts()
            await self.done()

    async def state(self, state: str) -> None:
        """Wait for a state of the driver."""
        await self.rig.until(lambda: self.fact("state") == state, f"the driver is {state}")

    async def worked_until(self, state: str) -> None:
        """Let tasks be done until the driver is in a state: RabbitMQ takes a moment to notice its own alarm."""
        give_up_s = time.monotonic() + WAIT_S
        while self.fact("state") != state:
            assert time.monotonic() < give_up_s, self.driver.facts()
            await self.done(2)
            await asyncio.sleep(0)

    def once(self) -> None:
        """Every task had one turn."""
        assert sorted(self.echo.turns) == sorted(self.tasks)

    def look(self) -> tuple[int, int]:
        """Messages in the agent's queue and its consumers, from RabbitMQ itself."""

        async def ask() -> tuple[int, int]:
            import aio_pika

            async with await aio_pika.connect(self.server.url.read_text().strip()) as connection:
                channel = await (await connection.channel()).get_underlay_channel()
                found = await channel.queue_declare(f"{self.driver._prefix}.agent.one", passive=True)
                return found.message_count or 0, found.consumer_count or 0

        return asyncio.run(ask())


def test_signals_carry_the_work_and_are_used_up(rabbitmq_server: RabbitMQProcess) -> None:
    """After the queue is there nothing is looked for without a signal; at the end the queue is empty and consumed."""

    async def scene(stage: Stage) -> None:
        direct = stage.fact("direct")
        await stage.done(150)
        facts = stage.driver.facts()
        assert (facts["direct"], facts["swept"], facts["failed"]) == (direct, 0, 0), facts
        assert facts["used"] >= 150
        await stage.rig.until(lambda: stage.fact("in_flight") == stage.fact("unconfirmed") == 0, "all are used up")
        for _ in range(200):
            if (found := await asyncio.to_thread(stage.look)) == (0, 1):
                break
        assert found == (0, 1)
        stage.once()

    play(rabbitmq_server, scene)


def test_consumers_come_back_after_the_connection_was_cut(rabbitmq_server: RabbitMQProcess) -> None:
    """Closed by the server, then cut as by a network: tasks go on at once, and signals carry again, each time."""

    async def close() -> None:
        await asyncio.to_thread(rabbitmq_server.cut_connections)

    async def cut() -> None:
        for number in range(3, 1_000):
            with contextlib.suppress(OSError), socket.socket(fileno=os.dup(number)) as wire:
                if wire.getpeername() == ("127.0.0.1", rabbitmq_server.port):
                    wire.shutdown(socket.SHUT_RDWR)

    async def scene(stage: Stage) -> None:
        for number, end in enumerate((close, cut), start=1):
            await end()
            await stage.done(20)
            await stage.rig.until(lambda number=number: stage.fact("lost") == number, "the cut is noticed")  # type: ignore[misc]
            await stage.state("up")
            await stage.carried()
            assert (await asyncio.to_thread(stage.look))[1] == 1
        stage.once()

    play(rabbitmq_server, scene)


def test_a_deleted_queue_is_declared_and_consumed_again(rabbitmq_server: RabbitMQProcess) -> None:
    """A person deletes it on the management page; signals carry again over the same connection."""

    async def scene(stage: Stage) -> None:
        name = f"{stage.driver._prefix}.agent.one"
        await asyncio.to_thread(rabbitmq_server.api, f"queues/%2F/{name}", method="DELETE")
        await stage.carried()
        assert stage.fact("lost") == 0
        assert (await asyncio.to_thread(rabbitmq_server.queue, name) or {})["type"] == "quorum"
        stage.once()

    play(rabbitmq_server, scene)


def test_what_is_no_signal_goes_to_the_undeliverable_ones(rabbitmq_server: RabbitMQProcess) -> None:
    """Somebody publishes into our queue; it is put aside as evidence and holds nobody up."""

    async def scene(stage: Stage) -> None:
        prefix = stage.driver._prefix
        message = {"properties": {}, "routing_key": "one", "payload": "\t", "payload_encoding": "string"}
        path = f"exchanges/%2F/{prefix}/publish"
        assert (await asyncio.to_thread(rabbitmq_server.api, path, method="POST", body=message))["routed"] is True
        await stage.rig.until(lambda: stage.fact("undeliverable") == 1, "it is noticed")
        await stage.carried()
        get = {"count": 5, "ackmode": "ack_requeue_true", "encoding": "auto"}
        path = f"queues/%2F/{prefix}.undeliverable/get"
        give_up_s = time.monotonic() + WAIT_S
        while not (found := await asyncio.to_thread(rabbitmq_server.api, path, method="POST", body=get)):
            assert time.monotonic() < give_up_s
        assert [each["payload"] for each in found] == ["\t"]
        stage.once()

    play(rabbitmq_server, scene)


def test_a_queue_with_other_settings_is_replaced(rabbitmq_server: RabbitMQProcess) -> None:
    """An older version declared a classic one; the driver deletes it, because it holds nothing but signals."""

    async def live() -> None:
        driver = RabbitMQ(f"f{next(_NUMBERS)}", rabbitmq_server.url)
        name = f"{driver._prefix}.agent.one"
        await asyncio.to_thread(rabbitmq_server.api, f"queues/%2F/{name}", method="PUT", body={"durable": True})
        async with DispatchRig(driver) as rig:
            stage = Stage(rabbitmq_server, driver, rig)
            await stage.carried()
            stage.once()
        assert (rabbitmq_server.queue(name) or {})["type"] == "quorum"

    asyncio.run(live())


def test_a_memory_alarm_blocks_signals_and_nothing_else(rabbitmq_server: RabbitMQProcess) -> None:
    """RabbitMQ takes no messages: the reason is said, tasks are done, and afterwards signals carry again."""

    async def scene(stage: Stage) -> None:
        usual = str(rabbitmq.load(stage.server.state).watermark_bytes)
        await asyncio.to_thread(stage.server.control, "set_vm_memory_high_watermark", "absolute", "1MB")
        try:
            await stage.worked_until("blocked")
            await stage.rig.until(lambda: "memory or disk alarm is on" in stage.fact("why"), "the reason is known")
            await stage.done(50)
            assert stage.fact("lost") == 0
        finally:
            await asyncio.to_thread(stage.server.control, "set_vm_memory_high_watermark", "absolute", usual)
        await stage.state("up")
        await stage.carried()
        stage.once()

    play(rabbitmq_server, scene)


def test_a_stopped_rabbitmq_is_worked_around(rabbitmq_server: RabbitMQProcess) -> None:
    """SIGSTOP: no word comes, and no error; tasks are done all the same, and signals carry when it goes on."""

    async def scene(stage: Stage) -> None:
        rabbitmq_server.send(signal.SIGSTOP)
        try:
            await stage.worked_until("blocked")
            await stage.rig.until(lambda: "it is stopped, or its disk is slow" in stage.fact("why"), "the reason")
            await stage.done(20)
        finally:
            rabbitmq_server.send(signal.SIGCONT)
        await stage.state("up")
        await stage.carried()
        stage.once()

    play(rabbitmq_server, scene)


def test_a_rabbitmq_that_stands_still_for_long_is_connected_to_again(
    rabbitmq_server: RabbitMQProcess, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nothing is confirmed, the connection is given up, connecting fails too; then signals carry again."""
    monkeypatch.setattr("sutazai.bus.dispatch.rabbitmq.DISPATCH_GIVE_UP_S", 1)
    monkeypatch.setattr("sutazai.bus.dispatch.rabbitmq.DISPATCH_CONNECT_S", 1)

    async def scene(stage: Stage) -> None:
        rabbitmq_server.send(signal.SIGSTOP)
        try:
            await stage.worked_until("away")
            await stage.rig.until(lambda: stage.fact("why") == "TimeoutError", "connecting was given up")
            await stage.done(5)
        finally:
            rabbitmq_server.send(signal.SIGCONT)
        await stage.state("up")
        await stage.carried()
        stage.once()

    play(rabbitmq_server, scene)


def test_a_new_plan_changes_prefetch_and_drops_agents(rabbitmq_server: RabbitMQProcess) -> None:
    """Another number of instances means another consumer; an agent that left is consumed no more, and may come back."""

    async def scene(stage: Stage) -> None:
        instances = {"one": 3}
        stage.driver._site = stage.driver.signals._site = replace(
            stage.driver._site, instances_max=lambda agent: instances.get(agent, 0)
        )
        await stage.rig.until(lambda: stage.driver._prefetch.get("one") == 6, "the new consumer is there")
        await stage.carried()
        instances.clear()
        await stage.rig.until(lambda: stage.fact("consumers") == stage.fact("lanes") == 0, "it is dropped")
        assert (await asyncio.to_thread(stage.look))[1] == 0
        await stage.done(3)
        instances["one"] = 1
        await stage.carried()
        stage.once()

    play(rabbitmq_server, scene)


def test_an_agent_that_is_not_in_rabbitmq_yet_waits_for_nobody(rabbitmq_server: RabbitMQProcess) -> None:
    """While thirty queues are declared, the tasks of their agents are done."""

    async def live() -> None:
        driver = RabbitMQ(f"f{next(_NUMBERS)}", rabbitmq_server.url)
        async with DispatchRig(driver) as rig:
            agents = [f"a{number}" for number in range(30)]
            for agent in agents:
                rig.instance(agent)
            tasks = [task for agent in agents for task in rig.submit(agent)]
            await rig.until(lambda: rig.are(tasks, "succeeded"), "all are done")

    asyncio.run(live())


def test_the_broker_says_how_its_dispatch_is(rabbitmq_server: RabbitMQProcess, tmp_path: Path) -> None:
    """A wrong file does not stop it: it works, says why, and connects when the file is mended."""
    path = tmp_path / "url"
    path.write_text("amqp://nobody:wrong@127.0.0.1:1/%2F")
    path.chmod(0o644)
    with BrokerProcess("--dispatch", "rabbitmq", "--dispatch-url-file", str(path)) as broker, broker.client() as client:

        def until(state: str, why: str) -> None:
            give_up_s = time.monotonic() + WAIT_S
            while True:
                found = client.request({"t": "stats"}, WAIT_S)["dispatch"]
                if found["state"] == state and why in found["why"]:
                    assert found["driver"] == "rabbitmq"
                    return
                assert time.monotonic() < give_up_s, found
                time.sleep(0.02)

        until("away", f"chmod 600 {path}")
        broker.spawn_instance("a0", "k0")
        task = {"agent": "a0", "skill": "echo", "input": 1}
        name = client.request({"t": "submit", "tasks": [task]}, WAIT_S)["tasks"][0]["id"]
        done = client.request({"t": "wait", "task": name, "timeout_ms": 30_000}, WAIT_S)["task"]
        assert done["status"] == "succeeded"
        path.chmod(0o600)
        until("away", "refused")
        path.write_text(rabbitmq_server.url.read_text().replace("sutazai:", "sutazai:wrong"))
        until("away", "ACCESS_REFUSED")
        path.write_text(rabbitmq_server.url.read_text())
        until("up", "")
        assert "wrong" not in broker.log.read_text()
        assert broker.stop() == 0


def test_guest_is_gone_and_only_the_loopback_listens(rabbitmq_server: RabbitMQProcess) -> None:
    """One user; none of its listening sockets, nor those of its port mapper, is open to other machines."""
    assert [user["name"] for user in rabbitmq_server.api("users")] == ["sutazai"]
    pids = [rabbitmq_server.pid, *children(rabbitmq_server.pid)]
    inodes = {inode for pid in pids for inode in sockets(pid)}
    listening = [
        fields[1]
        for table in ("tcp", "tcp6")
        for line in Path(f"/proc/net/{table}").read_text().splitlines()[1:]
        if (fields := line.split())[3] == "0A" and fields[9] in inodes
    ]
    assert len(listening) >= 4, "AMQP, the management page, the distribution and the port mapper"
    assert {place.partition(":")[0] for place in listening} <= LOOPBACK, listening


def sockets(pid: int) -> list[str]:
    """Inodes of the sockets that a process has open."""
    found = []
    for link in Path(f"/proc/{pid}/fd").iterdir():
        with contextlib.suppress(FileNotFoundError):
            target = str(link.readlink())
            if target.startswith("socket:["):
                found.append(target[len("socket:[") : -1])
    return found


def children(pid: int) -> list[int]:
    """Direct children of a process."""
    return [int(word) for word in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


def test_valkey_answers_who_knows_the_password(tmp_path: Path) -> None:
    """The recipe becomes the server; without the password nothing is answered; SIGTERM ends it."""
    try:
        valkey.program()
    except HostError as error:
        pytest.skip(f"Valkey was NOT tested: {error}")
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        port = found.getsockname()[1]
    state = tmp_path / "v"
    command = [sys.executable, "-m", "sutazai.services", "valkey", "--state", str(state), "--port", str(port)]
    server = subprocess.Popen([*command, "--memory", str(64 * 2**20)], stdout=subprocess.DEVNULL)
    try:
        give_up_s = time.monotonic() + WAIT_S
        while True:
            try:
                wire = socket.create_connection(("127.0.0.1", port), timeout=WAIT_S)
                break
            except OSError:
                assert server.poll() is None
                assert time.monotonic() < give_up_s
                time.sleep(0.01)
        with wire:
            wire.sendall(b"PING\r\n")
            assert wire.recv(100).startswith(b"-NOAUTH")
            wire.sendall(f"AUTH {(state / 'password').read_text().strip()}\r\n".encode())
            assert wire.recv(100) == b"+OK\r\n"
            wire.sendall(b"CONFIG GET maxmemory-policy\r\n")
            assert b"allkeys-lru" in wire.recv(1_000)
        server.terminate()
        assert server.wait(WAIT_S) == 0
    finally:
        server.kill()
        server.wait()
