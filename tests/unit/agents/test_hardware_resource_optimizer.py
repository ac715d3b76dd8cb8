"""hardware-resource-optimizer follows its written rule, never proposes less than was seen, and does not guess."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from hypothesis import given
from hypothesis import strategies as st

from sutazai.agents.hardware_resource_optimizer import sizing
from sutazai.client import AgentCard, Event, Series, Status
from sutazai.errors import NonRetryableError, UnavailableError

if TYPE_CHECKING:
    import pytest

    from conftest import Broker

AGENT = "hardware-resource-optimizer"
MB = 1_048_576
NOW_MS = 1_764_000_300_000
RULE = sizing.policy(0.25, 60)


def flat(value: float, seconds: int = 100) -> list[tuple[int, float]]:
    """A constant curve, one sample a second."""
    return [(1_000 * second, value) for second in range(seconds + 1)]


def seen(use: Any, limit: int = 400 * MB, **more: Any) -> sizing.Observed:
    """An observed service."""
    return sizing.Observed("x", more.pop("kind", "service"), "standard", limit, use, source="test", **more)


def test_the_rule_by_hand() -> None:
    """100 MB seen: 125 MB, rounded up to 128; reservation 112; the saving is the difference."""
    found = sizing.judge(seen(flat(100 * MB)), RULE)
    assert found.verdict == "lower"
    assert found.proposed is not None
    assert found.proposed_start_peak is not None
    assert found.saving is not None
    assert (found.proposed.value, found.proposed_start_peak.value) == (128 * MB, 112 * MB)
    assert found.saving.value == 272 * MB


def test_a_small_process_gets_the_floor() -> None:
    """Of 2 MB a quarter is too little room: 8 MB are added."""
    found = sizing.judge(seen(flat(2 * MB), 64 * MB), RULE)
    assert found.proposed is not None
    assert found.proposed.value == 12 * MB


@given(
    values=st.lists(st.floats(min_value=0, max_value=2**40, allow_nan=False), min_size=70, max_size=120),
    peak=st.floats(min_value=0, max_value=2**40, allow_nan=False),
    limit=st.integers(min_value=0, max_value=2**41),
    margin=st.floats(min_value=0.05, max_value=2),
    kills=st.integers(min_value=0, max_value=2),
)
def test_never_below_the_worst_moment(values: list[float], peak: float, limit: int, margin: float, kills: int) -> None:
    """Whatever was seen: a proposed limit and reservation lie at or above all samples and the kernel's peak."""
    use = [(1_000 * place, value) for place, value in enumerate(values)]
    observed = seen(use, limit, peaks=[(500, peak)], kills=kills)
    found = sizing.judge(observed, sizing.policy(margin, 60))
    if found.proposed is not None and found.verdict != "raise":
        assert found.proposed_start_peak is not None
        assert float(found.proposed.value) >= max(*values, peak) - 0.5
        assert float(found.proposed_start_peak.value) >= min(max(*values, peak) - 0.5, float(found.proposed.value))
        assert int(found.proposed.value) % sizing.STEP_BYTES == 0
    if found.verdict == "raise":
        assert found.proposed is not None
        assert float(found.proposed.value) > limit


def test_short_and_patchy_observations_give_nothing() -> None:
    """Fifty seconds, and two samples an hour apart, are both too little; the numbers are said."""
    short = sizing.judge(seen(flat(100 * MB, 50)), RULE)
    assert (short.verdict, short.proposed, short.observed.value) == ("not-enough-data", None, 50)
    patchy = sizing.judge(seen([(0, 100 * MB), (3_600_000, 100 * MB)]), RULE)
    assert (patchy.verdict, patchy.observed.value) == ("not-enough-data", 0)
    assert sizing.judge(seen([]), RULE).verdict == "not-enough-data"


def test_start_spikes_are_told_apart_and_count() -> None:
    """A start at 300 MB and 100 MB afterwards: the limit follows the start."""
    use = [(1_000 * second, (300 if 2 <= second <= 10 else 100) * MB) for second in range(101)]
    found = sizing.judge(seen(use, 800 * MB, starts_ms=[0]), RULE)
    assert found.start_peak is not None
    assert found.steady_peak is not None
    assert found.proposed is not None
    assert (found.start_peak.value, found.steady_peak.value) == (300 * MB, 100 * MB)
    assert found.proposed.value == 376 * MB


def test_growth_kills_and_peaks_at_the_limit() -> None:
    """What grows gets no limit; killed without growing, or a peak at the limit, gets half as much again."""
    rising = [(1_000 * second, (50 + second) * MB) for second in range(101)]
    assert sizing.judge(seen(rising), RULE).verdict == "still-growing"
    assert sizing.judge(seen(rising, 151 * MB, kills=1), RULE).proposed is None
    killed = sizing.judge(seen(flat(90 * MB), 96 * MB, kills=2), RULE)
    assert killed.verdict == "raise"
    assert killed.proposed is not None
    assert killed.proposed.value == 144 * MB
    assert sizing.judge(seen(flat(95 * MB), 96 * MB), RULE).verdict == "raise"


def test_near_enough_no_limit_and_our_own() -> None:
    """A limit that fits stays; a process without one gets one; the product's own is not touched."""
    assert sizing.judge(seen(flat(100 * MB), 128 * MB), RULE).verdict == "keep"
    without = sizing.judge(seen(flat(100 * MB), 0), RULE)
    assert without.verdict == "no-limit"
    assert without.proposed is not None
    assert without.saving is None
    assert sizing.judge(seen(flat(100 * MB), kind="platform"), RULE).verdict == "fixed"


def live(broker: Broker, monkeypatch: pytest.MonkeyPatch) -> None:
    """A fleet of a model, a leaking shop, an agent that works and one that never woke."""
    flat_points = [[NOW_MS - 1_000 * back, 100.0 * MB] for back in range(300, -1, -1)]
    shop = [[at, (20 + place % 48 * 1.6) * MB] for place, (at, _) in enumerate(flat_points)]
    facts = {
        ("process_memory_bytes", "llm"): flat_points,
        ("process_memory_peak_bytes", "llm"): [[NOW_MS, 120.0 * MB]],
        ("process_memory_limit_bytes", "llm"): [[NOW_MS, 960.0 * MB]],
        ("process_memory_bytes", "leaky-shop"): shop,
        ("agent_memory_peak_bytes", "busy"): flat_points,
        ("agent_memory_limit_bytes", "busy"): [[NOW_MS, 256.0 * MB]],
    }

    def metrics(name: str, since_s: float = 600, **_: Any) -> list[Series]:
        label = "agent" if name.startswith("agent") else "process"
        return [
            Series(metric, {label: who}, points=points, source=f"metric:{metric}{{{label}={who}}}")
            for (metric, who), points in facts.items()
            if metric == name
        ]

    rows = [
        {"name": "llm", "kind": "llm", "pool": "infrastructure", "memory_limit_bytes": 960 * MB},
        {"name": "leaky-shop", "kind": "service", "pool": "standard", "memory_limit_bytes": 96 * MB},
    ]
    lives = [Event(NOW_MS - 1_000 * (300 - 48 * life), "process-restarted", "leaky-shop") for life in range(7)]
    kill = Event(NOW_MS - 60_000, "oom-killed", "leaky-shop")
    monkeypatch.setattr(broker.fleet, "metrics", metrics)
    monkeypatch.setattr(broker.fleet, "events", lambda **_: [*lives, kill])
    monkeypatch.setattr(broker.fleet, "status", lambda: Status.parse({"fleet": "t", "processes": rows}))
    monkeypatch.setattr(
        broker.fleet, "agents", lambda: [AgentCard("busy", pool="standard"), AgentCard("asleep", pool="standard")]
    )


def test_the_live_fleet(broker: Broker, monkeypatch: pytest.MonkeyPatch) -> None:
    """Processes and agents are joined from the metrics; savings are summed by pool; the patch is a manifest's."""
    live(broker, monkeypatch)
    result = broker.ask(AGENT, "rightsize", {"observe_min_s": 120}).require()
    verdicts = {one["name"]: one["verdict"] for one in result["proposals"]}
    assert verdicts == {"llm": "lower", "busy": "lower", "leaky-shop": "still-growing", "asleep": "not-enough-data"}
    assert result["saving_by_pool"]["infrastructure"]["value"] == (960 - 152) * MB
    assert result["saving"]["value"] == (960 - 152 + 256 - 128) * MB
    assert result["patch"] == {
        "llm": {"memory": "152MB", "start_peak": "132MB"},
        "agents": {"busy": {"memory": "128MB", "envelope": "112MB"}},
    }
    assert result["patch_yaml"].splitlines() == [
        "llm: {memory: 152MB, start_peak: 132MB}", "agents:", "  busy: {memory: 128MB, envelope: 112MB}",
    ]  # fmt: skip
    for finding in result["findings"]:
        assert not any(character.isdigit() for character in finding["text"])
        assert all(measure["source"] for measure in finding["measures"].values())
    one = broker.ask(AGENT, "rightsize", {"observe_min_s": 120, "subject": "busy"}).require()
    assert [entry["name"] for entry in one["proposals"]] == ["busy"]


def test_apply_plans_then_changes(broker: Broker, monkeypatch: pytest.MonkeyPatch) -> None:
    """A dry run asks the fleet and changes nothing; the real run changes what the fleet allows; each step says what."""
    live(broker, monkeypatch)
    acts: list[tuple[str, int, bool]] = []

    def act(action: str, arguments: dict[str, Any]) -> dict[str, Any]:
        assert action == "resize"
        acts.append((arguments["subject"], arguments["memory_bytes"], arguments["dry_run"]))
        return {"text": f"{arguments['subject']} fits"}

    broker.act = act
    plan = broker.ask(AGENT, "apply", {"observe_min_s": 120}).require()
    assert (plan["dry_run"], plan["status"]) == (True, "planned")
    assert acts == [("llm", 152 * MB, True), ("busy", 128 * MB, True)]
    acts.clear()
    done = broker.ask(AGENT, "apply", {"observe_min_s": 120, "dry_run": False}).require()
    assert acts == [("llm", 152 * MB, False), ("busy", 128 * MB, False)]
    assert (done["status"], [step["why"] for step in done["steps"]]) == ("applied", ["llm fits", "busy fits"])
    assert done["patch"] == plan["patch"]
    assert "sutazai up" in done["command"]


def test_what_the_fleet_refuses_is_told(broker: Broker, monkeypatch: pytest.MonkeyPatch) -> None:
    """A refusal stands at its step; all refused is refused, some is partly; without a fleet nothing is done."""
    live(broker, monkeypatch)

    def act(action: str, arguments: dict[str, Any]) -> dict[str, Any]:
        if arguments["subject"] == "llm":
            raise NonRetryableError("it uses more than that now")
        return {"text": "done"}

    broker.act = act
    done = broker.ask(AGENT, "apply", {"observe_min_s": 120, "dry_run": False}).require()
    assert done["status"] == "partly"
    assert [(step["name"], step["status"]) for step in done["steps"]] == [("llm", "refused"), ("busy", "applied")]
    assert "more than that" in done["steps"][0]["why"]
    broker.act = None
    nothing = broker.ask(AGENT, "apply", {"observe_min_s": 120, "dry_run": False}).require()
    assert (nothing["status"], {step["status"] for step in nothing["steps"]}) == ("refused", {"refused"})


def test_bad_input_and_a_silent_fleet(broker: Broker) -> None:
    """An unknown name is refused; a fleet that does not answer is unavailable."""
    error = broker.ask(AGENT, "rightsize", {"subject": "nobody"}).error
    assert error is not None
    assert (error["code"], "nobody" in error["message"]) == ("non-retryable", True)
    broker.fleet.fault = UnavailableError("control is away")
    error = broker.ask(AGENT, "apply", {}).error
    assert error is not None
    assert error["code"] == "unavailable"
