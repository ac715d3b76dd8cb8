"""Waking when user ids run out: spares hold some of them ahead, and give them back."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING
from unittest.mock import MagicMock

from sutazai.supervisor import slots as slots_module
from sutazai.supervisor.contract import Agent, Limits
from sutazai.supervisor.gate import Admission
from sutazai.supervisor.instances import Instances, InstanceTools
from sutazai.supervisor.slots import Slots
from sutazai.supervisor.spares import Spare, Spares, SpareTools

if TYPE_CHECKING:
    from pathlib import Path

    import pytest

WORKER = "python-0"


def agent(name: str, pool: str) -> Agent:
    """An agent of the worker's family."""
    return Agent(name, "m", "1", "base", pool, Limits(), 1, 4, 1, 0)


def test_the_last_user_ids_are_a_spares(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Who fits the spare takes it with its user id; who does not gets the spares ended, and waits for theirs."""
    monkeypatch.setattr(slots_module, "INSTANCE_UIDS_MAX", 2)
    slots = Slots(100)
    workers, cells, gate, loop = MagicMock(), MagicMock(), MagicMock(), MagicMock()
    loop.now_ms.return_value = loop.clock.wall_ms.return_value = 1
    workers.for_family.return_value = [(WORKER, MagicMock())]
    workers.hosts.return_value = False
    gate.ask_instance.side_effect = lambda _, ticket: Admission(ticket)
    spares = Spares(SpareTools(loop, cells, gate, MagicMock(), workers, tmp_path / "tickets"), slots)
    for number in (1, 2):
        spares._spares[f"k_{number}"] = Spare(
            f"k_{number}",
            WORKER,
            10_000 + number,
            "agents",
            Limits(),
            f"agents/Spare.k_{number}",
            slots.take(),
            "ready",
        )
    assert not slots.has_room()
    tools = InstanceTools(loop, MagicMock(), MagicMock(), cells, gate, MagicMock(), workers)
    instances = Instances(tools, MagicMock(), slots, spares)
    instances._agents = {"fits": agent("fits", "agents"), "other": agent("other", "others")}
    assert instances.wake("fits", 1) == ("yes", "", ["k_1"])
    assert instances.live["k_1"].slot == 100
    os.close(instances.live["k_1"].go_fd)
    cells.end.side_effect = lambda _, then: then()
    verdict, why, _ = instances.wake("other", 1)
    assert (verdict, why) == ("wait", "all user ids of this fleet are in use")
    assert [call.args[0] for call in cells.end.call_args_list] == ["agents/Spare.k_2"]
    assert instances.wake("other", 1)[0] == "yes"
    ((ticket, given),) = [(key, each) for key, each in instances.live.items() if key != "k_1"]
    assert (given.slot, given.spare, given.group) == (101, 0, cells.path.return_value)
    assert ticket in instances.live
    os.close(given.go_fd)
