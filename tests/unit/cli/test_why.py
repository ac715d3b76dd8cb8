"""``sutazai why``: all that holds an agent back, in one place; and plainly when nothing does."""

from __future__ import annotations

from typing import Any

from sutazai.cli.why import Facts, as_object, explain


def facts(**changes: Any) -> Facts:
    """An agent that nothing holds back, but for what is given."""
    usual: dict[str, Any] = {
        "agent": "shop", "instances_max": 2, "status": {"instances": [{"agent": "shop"}, {"agent": "other"}]},
        "stats": {}, "waiting": None, "failures": [], "now_wall_ms": 100_000,
    }  # fmt: skip
    return Facts(**{**usual, **changes})


def test_an_agent_that_is_well() -> None:
    """Its numbers, and that there is nothing to say."""
    assert explain(facts()) == [
        "shop: 0 queued, 0 running, 0 waiting for others; 1 of 2 instances awake", "nothing holds it back",
    ]  # fmt: skip


def test_an_open_circuit_is_named_with_its_cause_its_failures_and_what_waits() -> None:
    """Conditions of others appear when they explain one of this agent."""
    circuit = {"state": "open", "why": "5 tasks failed one after the other", "next_in_ms": 4_000, "for_ms": 1,
               "opened": 2, "refused": 1, "succeeded": 0, "failed": 5}  # fmt: skip
    conditions = [
        {"name": "CircuitOpen", "subject": "shop", "text": "left alone", "fix": "wait",
         "depends_on": ["LlmUnavailable/llm"]},
        {"name": "LlmUnavailable", "subject": "llm", "text": "away", "fix": "look"},
        {"name": "CpuPressure", "subject": "host", "text": "busy", "fix": "less"},
    ]  # fmt: skip
    failed = {"id": "t_1", "status": "dead", "finished_wall_ms": 40_000,
              "error": {"code": "skill-failed", "message": "no database"}}  # fmt: skip
    told = facts(
        status={"conditions": conditions},
        stats={"breakers": {"shop": circuit}, "queues": {"shop": {"queued": 7, "leased": 0, "waiting": 1, "dead": 1}},
               "budgets": {"shop": {"tokens": -2.5, "delayed": 3}}, "limited": {"shop": 1_500}},
        waiting={"id": "t_2", "why": "the circuit of shop is open"}, failures=[failed],
    )  # fmt: skip
    assert explain(told) == [
        "shop: 7 queued, 0 running, 1 waiting for others; 0 of 2 instances awake",
        "1 dead letters: sutazai task dead --agent shop",
        "● CircuitOpen shop: left alone", "    wait",
        "● LlmUnavailable llm: away", "    look",
        (
            "circuit: open, next probe in 4 s (5 tasks failed one after the other); in its window 5 tasks failed, "
            "0 succeeded; opened 2 times, refused 1"
        ),
        "retries: 0 may come at once, 3 had to wait for the budget so far",
        "rate: the next turn may start in 1.5 s",
        "waits: t_2: the circuit of shop is open",
        "dead 1 m 0 s ago: t_1: skill-failed: no database",
    ]  # fmt: skip
    assert as_object(told)["circuit"]["opened"] == 2
