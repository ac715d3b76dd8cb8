"""The gate: who is told that memory is short."""

from __future__ import annotations

from sutazai.supervisor.contract import Agent, Limits, Pool, Process
from sutazai.supervisor.gate import Gate
from sutazai.testing.manual_clock import ManualClock


def gate(size: int) -> Gate:
    """A gate with one pool."""
    made = Gate(ManualClock())
    made.ledger.set_pools([Pool("agents", size)], 0)
    return made


def test_whoever_waits_for_memory_has_the_spares_ended() -> None:
    """A process and an instance; a spare itself waits for nobody, and nobody hears of it."""
    heard: list[str] = []
    made = gate(16 << 20)
    made.on_short = lambda: heard.append("short")
    assert made.ask_spare("python-0", "agents", "k_1")
    assert made.ask_spare("python-0", "agents", "k_2")
    assert not made.ask_spare("python-0", "agents", "k_3")
    assert heard == []
    service = Process(name="db", kind="service", argv=["x"], pool="agents", stage="s", envelope_bytes=8 << 20)
    assert not made.ask_process(service).ticket
    assert heard == ["short"]
    agent = Agent("a", "m", "1", "base", "agents", Limits(), 8 << 20, 1, 1, 0)
    assert not made.ask_instance(agent, "k_4").ticket
    assert heard == ["short"] * 2
    made.release("k_1")
    assert made.ask_process(service).ticket
