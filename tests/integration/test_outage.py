"""An agent of a real fleet breaks, and is mended: nothing is lost, callers have their fallbacks, the broker may die."""

from __future__ import annotations

import json
import os
import sys
import textwrap
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

sys.path.insert(0, str(Path(__file__).parent))

from workflow_rig import client_of, kill, process, until

from sutazai.testing.fleet import LiveFleet

if TYPE_CHECKING:
    from collections.abc import Iterator

    from sutazai.client import TaskClient

SHOP = '''
import os

from sutazai.runtime import Agent, Context

agent = Agent("shop")


@agent.skill
def price(item: str, ctx: Context) -> dict:
    """Ask a database that may be down; leaves a trace of each try."""
    with open(ctx.settings["trace"], "a") as file:
        file.write(f"{ctx.task.id} {ctx.task.attempt}\\n")
    if os.path.exists(ctx.settings["down"]):
        raise ConnectionError("the database is away")
    return {"item": item, "by": "shop"}
'''
DESK = '''
from typing import Any

from sutazai.runtime import Agent, Context, Fallback, Result, Wait

agent = Agent("desk")


@agent.skill
def quote(item: str, ctx: Context) -> Wait[list[Any]]:
    """Ask the shop three times: with a value, with another agent, and with nothing in its place."""
    given = {"item": item}
    calls = [
        ctx.call("shop", "price", given, fallback={"item": item, "by": "cache"}),
        ctx.call("shop", "price", given, fallback=Fallback("desk", "estimate")),
        ctx.call("shop", "price", given, when_open="refuse"),
    ]
    return Wait(calls, then=gather)


@agent.step
def gather(results: list[Result]) -> list[Any]:
    """Take what there is."""
    return [result.result["by"] if result.ok else result.error["code"] for result in results]


@agent.skill
def estimate(item: str) -> dict:
    """Step in for the shop."""
    return {"item": item, "by": "estimate"}
'''
MANIFEST = """
fleet: {fleet}
port_offset: {offset}
agents:
  shop:
    file: FOLDER/shop.py
    port: 10480
    memory: 64MB
    settings: {down: FOLDER/down, trace: FOLDER/trace}
    retry: {base: 100ms, max: 100ms}
    breaker: {failures: 4, pause: 2s, pause_max: 4s}
  desk: {file: FOLDER/desk.py, port: 10481, memory: 64MB, instances: 2}
"""


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where the agents, the switch of the outage and the trace lie; instances have users of their own."""
    made = tmp_path_factory.mktemp("outage")
    made.chmod(0o777)
    for name, text in (("shop", SHOP), ("desk", DESK)):
        (made / f"{name}.py").write_text(textwrap.dedent(text))
    (made / "trace").touch()
    (made / "trace").chmod(0o666)
    return made


@pytest.fixture(scope="module")
def fleet(folder: Path) -> Iterator[LiveFleet]:
    """A shop, and a desk that asks it."""
    with LiveFleet(MANIFEST.replace("FOLDER", str(folder)), name=f"ou{os.getpid()}") as live:
        yield live


@pytest.fixture
def client(fleet: LiveFleet) -> Iterator[TaskClient]:
    """A client of the fleet."""
    with client_of(fleet) as made:
        yield made


def circuit(client: TaskClient) -> dict[str, Any]:
    """How the shop's breaker stands."""
    found: dict[str, Any] = client.stats()["breakers"].get("shop", {})
    return found


def test_an_outage_from_its_beginning_to_its_end(fleet: LiveFleet, client: TaskClient, folder: Path) -> None:
    """The circuit opens, tasks keep their attempts through a kill of the broker, and all succeed when it is mended."""
    (folder / "down").touch()
    tasks = [
        entry["id"]
        for entry in client.submit([{"agent": "shop", "skill": "price", "input": {"item": str(n)}} for n in range(30)])
    ]
    until(lambda: circuit(client).get("state") in {"open", "half-open"})
    told = json.loads(fleet.command("why", "shop", "--json").stdout)
    assert told["circuit"]["opened"] >= 1
    assert told["waiting"]["task"] in tasks
    until(lambda: ("CircuitOpen", "shop") in {(item["name"], item["subject"]) for item in fleet.status()["conditions"]})
    (asked,) = client.submit([{"agent": "desk", "skill": "quote", "input": {"item": "x"}}])
    assert client.wait(asked["id"], 60)["result"] == ["cache", "estimate", "circuit-open"]
    tree = fleet.command("task", "tree", asked["id"]).stdout
    assert "fallback: value after shop.price failed" in tree
    assert "fallback: desk.estimate after shop.price failed" in tree

    kill(process(fleet, "broker"))
    until(lambda: circuit(client).get("state") in {"open", "half-open"})
    (folder / "down").unlink()
    ends = {client.wait(task, 120)["status"] for task in tasks}
    assert ends == {"succeeded"}
    until(lambda: circuit(client)["state"] == "closed")
    tries = [line.split()[0] for line in (folder / "trace").read_text().splitlines()]
    assert max(tries.count(task) for task in tasks) <= 4, "no task used up its attempts"
    assert len(tries) < 2 * len(tasks), "and most were tried once, when the shop was well"
