"""``kill -9`` of RabbitMQ, of the broker and of instances, under load: 0 lost, 0 doubled, and signals carry again."""

from __future__ import annotations

import os
import random
import signal
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sutazai.testing.broker_load import WAIT_S, judge, load
from sutazai.testing.broker_process import BrokerProcess

if TYPE_CHECKING:
    import pytest

    from sutazai.testing.rabbitmq_process import RabbitMQProcess

ROUNDS = int(os.environ.get("SUTAZAI_RABBITMQ_KILLS", "1"))


def dispatch(broker: BrokerProcess) -> dict[str, Any]:
    """What the broker says of its driver."""
    with broker.client() as client:
        found: dict[str, Any] = client.request({"t": "stats"}, WAIT_S)["dispatch"]
    return found


def until_carried(broker: BrokerProcess) -> dict[str, str]:
    """Submit tasks one by one until a claim was made by a signal that came after now; gives them by their keys."""
    used, give_up_s = dispatch(broker)["used"], time.monotonic() + WAIT_S
    tasks: dict[str, str] = {}
    with broker.client() as client:
        while dispatch(broker)["used"] <= used:
            assert time.monotonic() < give_up_s, str(dispatch(broker))
            submit = {"t": "submit", "tasks": [{"agent": "a0", "skill": "echo", "input": 1}]}
            task = client.request(submit, WAIT_S)["tasks"][0]["id"]
            tasks[f"alone-{task}"] = task
            client.request({"t": "wait", "task": task, "timeout_ms": 30_000}, WAIT_S)
    return tasks


def test_killing_rabbitmq_under_load_loses_and_doubles_nothing(
    rabbitmq_server: RabbitMQProcess, capsys: pytest.CaptureFixture[str]
) -> None:
    """RabbitMQ dies and comes back; in between the broker and an instance die, too. Tasks are done all the time."""
    luck = random.Random(5)  # noqa: S311 no secret
    arguments = ("--dispatch", "rabbitmq", "--dispatch-url-file", str(rabbitmq_server.url))
    with BrokerProcess(*arguments) as broker:
        instances = [broker.spawn_instance(f"a{number % 2}", f"k{number}", "2") for number in range(4)]
        alone = until_carried(broker)
        with load(broker, callers=1) as callers:
            for number in range(4, 4 + ROUNDS):
                time.sleep(luck.uniform(0.02, 0.3))
                mapper = Path(f"/proc/{rabbitmq_server.pid}/task/{rabbitmq_server.pid}/children").read_text().split()
                rabbitmq_server.kill()
                accepted = sum(len(caller.accepted) for caller in callers)
                victim = instances.pop(0)
                victim.send_signal(signal.SIGKILL)
                victim.wait()
                instances.append(broker.spawn_instance(f"a{number % 2}", f"k{number}", "2"))
                time.sleep(luck.uniform(0.02, 0.3))
                broker.kill()
                broker.start()
                assert dispatch(broker)["state"] == "away"
                rabbitmq_server.start()
                assert sum(len(caller.accepted) for caller in callers) > accepted, "nothing was taken without RabbitMQ"
                assert not [pid for pid in mapper if Path(f"/proc/{pid}/environ").exists()], "its children outlived it"
        callers[0].accepted |= alone | until_carried(broker)
        report = judge(broker, callers)
    with capsys.disabled():
        print(f"\nRabbitMQ, broker, instance killed {ROUNDS} times: {report}, 0 lost, 0 doubled")  # noqa: T201 read by people
