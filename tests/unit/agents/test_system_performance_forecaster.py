"""system-performance-forecaster gives intervals, its own error in a back test, and says when it does not know."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sutazai.agents.system_performance_forecaster import forecasting, series

if TYPE_CHECKING:
    from conftest import Broker

MB = 1_048_576
AGENT = "system-performance-forecaster"


def ramp(count: int, per_s: float, noise: float = 0.0, seed: int = 3) -> list[list[float]]:
    """A line with noise, one point a second."""
    chooser = np.random.default_rng(seed)
    return [[1000 * second, 20 * MB + per_s * second + chooser.normal(0, noise)] for second in range(count)]


def test_a_line_goes_on_and_naive_is_worse(broker: Broker) -> None:
    """The end of the forecast is right, and the back test shows how much the naive model was worse."""
    result = broker.ask(AGENT, "forecast", {"metric": "m", "points": ramp(80, MB, MB / 10), "horizon_s": 30}).require()
    assert result["status"] == "ok"
    assert result["model"] in {"holt", "drift"}
    assert result["end"]["value"] == pytest.approx(20 * MB + 109 * MB, rel=0.01)
    assert result["end_low"]["value"] <= 129 * MB <= result["end_high"]["value"]
    assert result["backtest"]["error"]["value"] < result["backtest"]["naive_error"]["value"] / 10
    assert len(result["points"]) == 30


def test_a_constant_series_is_called_constant(broker: Broker) -> None:
    """No model is fitted: value and interval are the constant itself."""
    result = broker.ask(AGENT, "forecast", {"metric": "m", "points": [[1000 * s, 5.0] for s in range(50)]}).require()
    assert (result["status"], result["model"]) == ("constant", "constant")
    assert {result["end"]["value"], result["end_low"]["value"], result["end_high"]["value"]} == {5.0}


@pytest.mark.parametrize("count", [1, 2, 19])
def test_too_few_points_are_said_with_the_number_needed(broker: Broker, count: int) -> None:
    """A short series gets no forecast, but the numbers that are there and that are needed."""
    result = broker.ask(AGENT, "forecast", {"metric": "m", "points": ramp(count, MB)}).require()
    assert result["status"] == "not-enough-data"
    assert (result["observed"]["value"], result["needed"]["value"]) == (count, series.POINTS_MIN)
    assert result["notes"]
    assert result["end"] is None


@given(st.lists(st.floats(-1e9, 1e9, allow_nan=False), min_size=20, max_size=60), st.integers(1, 40))
@settings(max_examples=8, deadline=None)
def test_any_series_gets_a_finite_ordered_interval(values: list[float], steps: int) -> None:
    """Whatever the numbers: no exception, nothing infinite, low ≤ middle ≤ high."""
    outcome = forecasting.forecast(np.array(values, dtype=np.float64), steps, 0.9)
    path = outcome.path
    assert len(path.middle) == steps
    assert np.isfinite(np.concatenate([path.low, path.middle, path.high])).all()
    slack = 1e-6 * max(1.0, float(np.max(np.abs(values))))
    assert (path.low <= path.middle + slack).all()
    assert (path.middle <= path.high + slack).all()


def test_intervals_hold_what_they_promise() -> None:
    """Over 12 noisy lines a 90 % interval covers the true future in 75 to 100 % of the points."""
    hits = []
    for seed in range(12):
        values = np.array([value for _, value in ramp(90, MB / 2, MB, seed)], dtype=np.float64)
        path = forecasting.forecast(values[:70], 20, 0.9).path
        hits.append(np.mean((values[70:] >= path.low) & (values[70:] <= path.high)))
    assert 0.75 <= float(np.mean(hits)) <= 1.0


def test_a_reset_is_cut_off_and_noise_is_not() -> None:
    """A restart begins a new life; a series that often falls is one."""
    saw = [(1000 * s, 10.0 + s % 30) for s in range(75)]
    assert [len(part) for part in series.split(saw)] == [30, 30, 15]
    chooser = np.random.default_rng(2)
    noise = [(1000 * s, chooser.uniform(0.1, 1.0)) for s in range(100)]
    assert len(series.split(noise)) == 1


def test_exhaustion_of_a_line_is_exact(broker: Broker) -> None:
    """1 MB/s with 40 MB of room: 40 seconds, at that time of day, inside its interval."""
    data = {"points": ramp(60, MB), "limit_bytes": 20 * MB + 99 * MB, "subject": "recorded"}
    result = broker.ask(AGENT, "exhaustion", data).require()
    assert result["status"] == "exhausts"
    assert result["left"]["value"] == pytest.approx(40, abs=0.5)
    assert result["at"]["value"] == pytest.approx(99_000, abs=500)
    assert result["earliest"]["value"] <= result["left"]["value"] <= result["latest"]["value"]


def test_no_exhaustion_in_sight_is_said(broker: Broker) -> None:
    """A constant curve does not meet its limit; a missing limit cannot be met."""
    points = [[1000 * s, 20.0 * MB] for s in range(60)]
    data = {"points": points, "limit_bytes": 96 * MB, "horizon_s": 600}
    assert broker.ask(AGENT, "exhaustion", data).require()["status"] == "not-within-horizon"
    assert broker.ask(AGENT, "exhaustion", {"points": points}).require()["status"] == "no-limit"


def test_a_young_life_is_forecast_by_the_earlier_ones(broker: Broker) -> None:
    """The shop is 12 s old and lives 48 s: about 35 s are left, and the method says where that comes from."""
    result = broker.ask(AGENT, "exhaustion", {"subject": "leaky-shop"}).require()
    assert (result["status"], result["method"]) == ("exhausts", "earlier-lives")
    assert result["left"]["value"] == 35
    assert result["limit"]["value"] == 96 * MB


def test_without_a_name_the_most_urgent_process_is_taken(broker: Broker) -> None:
    """Of all processes with a limit, the one that goes up to it the fastest is forecast."""
    broker.fleet.memory_points = broker.fleet.memory_points[:-13]
    result = broker.ask(AGENT, "exhaustion", {}).require()
    assert result["subject"] == "leaky-shop"
    assert result["method"] == "forecast"


def test_bad_questions_fail_for_good(broker: Broker) -> None:
    """Process and pool at once, and a metric with several series: trying again would not help."""
    for skill, data in (
        ("exhaustion", {"subject": "a", "pool": "b"}),
        ("forecast", {"metric": "process_memory_bytes"}),
    ):
        answer = broker.ask(AGENT, skill, data)
        assert answer.error is not None
        assert answer.error["code"] == "non-retryable"
