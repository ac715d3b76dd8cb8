"""A leak is told from noise, a step and a restart; the slope is right, and says how sure it is."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sutazai.agents.ram_hardware_optimizer import slopes

MB = 1_048_576
POINTS = st.lists(st.floats(0, 1e10, allow_nan=False), max_size=60).map(
    lambda values: [(1000 * index, value) for index, value in enumerate(values)]
)


def line(count: int, per_s: float, start: float = 20 * MB) -> list[slopes.Point]:
    """A straight curve, one point a second."""
    return [(1000 * second, start + per_s * second) for second in range(count)]


@given(POINTS, st.lists(st.integers(0, 60_000), max_size=5))
@settings(max_examples=200, deadline=None)
def test_lives_put_together_are_all_samples_above_zero(points: list[slopes.Point], restarts: list[int]) -> None:
    """Cutting loses nothing but the samples of a process that was not there, changes no order, makes no empty part."""
    parts = slopes.lives(points, restarts)
    assert [point for part in parts for point in part] == [point for point in points if point[1] > 0]
    assert all(parts)


@given(st.lists(st.floats(1, 1e9), min_size=1, max_size=60))
@settings(max_examples=200, deadline=None)
def test_a_curve_that_never_falls_is_one_life(steps: list[float]) -> None:
    """Without a fall and without a known restart there is no cut."""
    value, points = 1.0, []
    for index, step in enumerate(steps):
        value += step
        points.append((1000 * index, value))
    assert len(slopes.lives(points)) == 1


@given(st.lists(st.integers(12, 40), min_size=1, max_size=5), st.floats(0.5, 10))
@settings(max_examples=60, deadline=None)
def test_every_restart_of_a_saw_is_found_and_the_slope_survives_it(lengths: list[int], mb_per_s: float) -> None:
    """A leak that is restarted at any time has as many lives as it lived, and the slope of one tooth."""
    points: list[slopes.Point] = []
    for length in lengths:
        for second in range(length):
            points.append((1000 * len(points), 8 * MB + second * mb_per_s * MB))
    parts = slopes.lives(points)
    cuts = sum(1 for length in lengths[:-1] if (length - 1) * mb_per_s * MB > 0.3 / 0.7 * 8 * MB + MB)
    assert cuts + 1 <= len(parts) <= len(lengths)
    judged = slopes.judge(points, [1000 * sum(lengths[: index + 1]) for index in range(len(lengths) - 1)])
    assert judged.lives == len(lengths)
    assert judged.slope is not None
    assert judged.slope.per_s == pytest.approx(mb_per_s * MB, rel=1e-6)
    assert judged.verdict == "leaking"


def test_the_slope_holds_against_noise_and_its_interval_covers_it() -> None:
    """With noise and outliers the slope is within 5 %, and the truth lies in the interval."""
    chooser = np.random.default_rng(1)
    points = [(at, value + chooser.normal(0, MB / 4)) for at, value in line(60, 1.7 * MB)]
    points[30] = (points[30][0], points[30][1] + 40 * MB)
    found = slopes.judge(points)
    assert found.verdict == "leaking"
    assert found.confidence == "high"
    assert found.slope is not None
    assert found.slope.per_s == pytest.approx(1.7 * MB, rel=0.05)
    assert found.slope.low <= 1.7 * MB <= found.slope.high


@pytest.mark.parametrize(
    ("points", "verdict"),
    [
        (line(60, 0), "stable"),
        (line(60, 1000), "stable"),
        (line(60, 1.5 * MB), "leaking"),
        (line(60, -0.25 * MB, 60 * MB), "shrinking"),
        (line(30, 0) + [(30_000 + at, value + 30 * MB) for at, value in line(30, 0)], "unclear"),
        (line(8, MB), "not-enough-data"),
        ([], "not-enough-data"),
    ],
    ids=["constant", "tiny growth", "leak", "gives back", "one step", "too short", "empty"],
)
def test_verdicts(points: list[slopes.Point], verdict: str) -> None:
    """Each kind of curve has its own verdict; a step is no leak."""
    assert slopes.judge(points).verdict == verdict


def test_noise_is_no_leak() -> None:
    """In 50 runs of noise around a constant none is called a leak."""
    for seed in range(50):
        chooser = np.random.default_rng(seed)
        points = [(1000 * second, 50 * MB + chooser.normal(0, 2 * MB)) for second in range(60)]
        assert slopes.judge(points).verdict != "leaking"


def test_a_life_that_is_too_young_is_judged_by_the_one_before() -> None:
    """Just after a restart the previous life tells, and the answer says so."""
    points = line(48, 1.75 * MB, 14 * MB) + [(48_000 + at, value) for at, value in line(3, 1.75 * MB, 14 * MB)]
    found = slopes.judge(points)
    assert (found.verdict, found.basis, found.lives) == ("leaking", "previous-life", 2)


def test_samples_of_zero_between_two_lives_belong_to_none() -> None:
    """A long pause before a restart does not bend the slope of the next life."""
    pause = [(48_000 + 1000 * second, 0.0) for second in range(20)]
    points = line(48, 1.75 * MB, 14 * MB) + pause + [(68_000 + at, value) for at, value in line(30, 1.75 * MB, 14 * MB)]
    found = slopes.judge(points)
    assert found.lives == 2
    assert found.slope is not None
    assert found.slope.per_s == pytest.approx(1.75 * MB)


def test_growth_at_the_start_is_no_leak() -> None:
    """A program that loads for three seconds and then keeps its memory is stable."""
    points = [(0, 1.0 * MB), (1000, 20.0 * MB), (2000, 60.0 * MB)] + [(1000 * s, 61.0 * MB) for s in range(3, 40)]
    assert slopes.judge(points).verdict == "stable"


def test_time_to_the_limit_has_its_ends() -> None:
    """The earliest comes from the steep end of the interval; without sure growth there is no time."""
    found = slopes.Slope(10.0, 5.0, 20.0, 1.0, 20, 20_000, 200.0)
    assert slopes.time_to(100, 0, found) == (10.0, 5.0, 20.0)
    assert slopes.time_to(100, 200, found) == (0.0, 0.0, 0.0)
    assert slopes.time_to(0, 0, found) is None
    assert slopes.time_to(100, 0, slopes.Slope(1.0, -1.0, 2.0, 0.5, 20, 20_000, 20.0)) is None


def test_a_long_curve_is_thinned_and_keeps_its_slope() -> None:
    """7 200 points are judged on at most 400, with the same slope."""
    found = slopes.judge(line(7_200, 10_000))
    assert found.slope is not None
    assert found.slope.points <= 400
    assert found.slope.per_s == pytest.approx(10_000)
