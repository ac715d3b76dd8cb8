"""Why it exists: a model's path becomes an answer with units, sources and honest words. Pure: facts come in."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal

import numpy as np

from sutazai.agents.system_performance_forecaster import forecasting, series
from sutazai.agents.system_performance_forecaster.models import Backtest, Exhaustion, Forecast, Point
from sutazai.runtime.evidence import Finding, Measure

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

_POINTS_GIVEN_MAX = 60
_STEPS_MAX = 2_000
_CEILING_STEP_SHARE = 0.5
_UNITS: Mapping[str, Literal["bytes", "s", "ratio", "count"]] = {
    "bytes": "bytes",
    "seconds": "s",
    "ratio": "ratio",
    "count": "count",
}


@dataclass(frozen=True, slots=True)
class Observed:
    """A series as it was read.

    Attributes:
        metric: its name.
        labels: what picks it out.
        unit: as the metric table says.
        points: (wall milliseconds, value) in order.
        source: where they come from.
        restarts_ms: known restarts of the process that it is about.
    """

    metric: str
    points: Sequence[tuple[int, float]]
    source: str
    unit: str = "count"
    labels: Mapping[str, str] = field(default_factory=dict)
    restarts_ms: Sequence[int] = ()

    def lives(self) -> list[list[tuple[int, float]]]:
        """The points cut at restarts; memory of zero is left out: the process was not there."""
        present = [point for point in self.points if point[1] > 0] if self.unit == "bytes" else self.points
        return series.split(present, self.restarts_ms)

    def measure(self, value: float, what: str) -> Measure:
        """Give a number of this series its unit and source."""
        return Measure(value=_rounded(value), unit=_UNITS.get(self.unit, "count"), source=f"{what} {self.source}"[:400])


@dataclass(frozen=True, slots=True)
class Ceiling:
    """What a memory curve may not exceed."""

    subject: str
    kind: Literal["process", "pool"]
    limit: float
    source: str


def _rounded(value: float) -> float | int:
    return round(value) if abs(value) >= 10_000 else round(value, 6)  # noqa: PLR2004 large values have no fractions


def _counted(observed: Observed) -> tuple[Measure, Measure]:
    parts = observed.lives()
    points = len(parts[-1]) if parts else 0
    return (
        Measure(value=points, unit="count", source=f"points since the last restart of {observed.source}"[:400]),
        Measure(value=series.POINTS_MIN, unit="count", source="parameter:points that a model needs"),
    )


def forecast(observed: Observed, horizon_s: float, level: float) -> Forecast:
    """Forecast one series."""
    points, needed = _counted(observed)
    answer = Forecast(
        status="not-enough-data",
        metric=observed.metric,
        labels=dict(observed.labels),
        model="none",
        level=Measure(value=level, unit="ratio", source="parameter:level"),
        observed=points,
        needed=needed,
    )
    even = series.grid(observed.lives(), horizon_s)
    if even is None:
        answer.notes.append(f"not enough data: {points.value} points, {needed.value} are needed")
        answer.findings.append(_too_short(observed.metric, "", points, needed))
        return answer
    steps = max(1, min(_STEPS_MAX, round(horizon_s * 1000 / even.step_ms)))
    outcome = forecasting.forecast(even.values, steps, level)
    answer.status = "constant" if outcome.model == "constant" else "ok"
    answer.model = outcome.model
    what = f"{outcome.model} forecast of"
    answer.now = observed.measure(float(even.values[-1]), "last value of")
    answer.end = observed.measure(float(outcome.path.middle[-1]), what)
    answer.end_low = observed.measure(float(outcome.path.low[-1]), f"lower end of {what}")
    answer.end_high = observed.measure(float(outcome.path.high[-1]), f"upper end of {what}")
    answer.points = _points(even, outcome.path)
    answer.backtest = _backtest(observed, outcome, even)
    answer.findings.append(_forecast_finding(answer, horizon_s))
    if answer.backtest is None and outcome.model != "constant":
        answer.notes.append("too few points for a back test: the interval is the model's own")
    return answer


def _too_short(what: str, subject: str, points: Measure, needed: Measure) -> Finding:
    return Finding(
        section="forecast",
        subject=subject,
        text=f"There is not enough data to forecast `{what}`: {{points}} points, {{needed}} are needed.",
        measures={"points": points, "needed": needed},
    )


def _points(even: series.Grid, path: forecasting.Path) -> list[Point]:
    steps = len(path.middle)
    chosen = sorted({int(index) for index in np.linspace(0, steps - 1, min(steps, _POINTS_GIVEN_MAX))})
    return [
        Point(
            at_wall_ms=even.end_ms + (index + 1) * even.step_ms,
            value=_rounded(float(path.middle[index])),
            low=_rounded(float(path.low[index])),
            high=_rounded(float(path.high[index])),
        )
        for index in chosen
    ]


def _backtest(observed: Observed, outcome: forecasting.Outcome, even: series.Grid) -> Backtest | None:
    score = outcome.score
    if not score.folds:
        return None
    where = f"back test of {observed.source}"[:400]
    return Backtest(
        folds=Measure(value=score.folds, unit="count", source=where),
        horizon=Measure(value=round(score.steps * even.step_ms / 1000, 1), unit="s", source=where),
        error=observed.measure(score.error, f"mean absolute error, {outcome.model}, back test of"),
        naive_error=observed.measure(score.naive_error, "mean absolute error, naive, back test of"),
        coverage=Measure(value=round(score.coverage, 3), unit="ratio", source=where),
    )


def _forecast_finding(answer: Forecast, horizon_s: float) -> Finding:
    measures = {
        "now": answer.now,
        "end": answer.end,
        "low": answer.end_low,
        "high": answer.end_high,
        "horizon": Measure(value=horizon_s, unit="s", source="input:horizon_s"),
    }
    text = f"`{answer.metric}` is {{now}} and will be {{end}} ({{low}} to {{high}}) in {{horizon}}"
    text += f" by the {answer.model} model"
    if answer.backtest is not None:
        measures |= {"error": answer.backtest.error, "naive": answer.backtest.naive_error}
        text += "; in the back test it was wrong by {error} on average, the naive model by {naive}"
    return Finding(
        section="forecast",
        subject=next(iter(answer.labels.values()), ""),
        text=text + ".",
        measures={name: item for name, item in measures.items() if item is not None},
    )


def exhaustion(observed: Observed, ceiling: Ceiling, horizon_s: float, level: float) -> Exhaustion:
    """Say when a memory curve meets its limit, with the interval of the forecast.

    A process that has just been started anew has no curve yet: then its earlier lives tell how long it usually lasts.
    """
    points, needed = _counted(observed)
    answer = Exhaustion(
        status="not-enough-data",
        subject=ceiling.subject,
        kind=ceiling.kind,
        method="none",
        horizon=Measure(value=horizon_s, unit="s", source="input:horizon_s"),
        observed=points,
        needed=needed,
    )
    if observed.points:
        answer.now = observed.measure(observed.points[-1][1], "last value of")
    if ceiling.limit <= 0:
        answer.status = "no-limit"
        answer.notes.append(f"{ceiling.subject} has no memory limit, so none can be met")
        return answer
    answer.limit = Measure(value=round(ceiling.limit), unit="bytes", source=ceiling.source)
    even = series.grid(observed.lives(), horizon_s)
    if even is not None:
        _by_forecast(answer, observed, even, level)
    else:
        _by_earlier_lives(answer, observed, ceiling)
    answer.findings.append(_exhaustion_finding(answer))
    return answer


def _by_forecast(answer: Exhaustion, observed: Observed, even: series.Grid, level: float) -> None:
    limit = float(answer.limit.value) if answer.limit else 0.0
    horizon_s = float(answer.horizon.value)
    steps = max(1, min(_STEPS_MAX, round(horizon_s * 1000 / even.step_ms)))
    outcome = forecasting.forecast(even.values, steps, level)
    now = float(even.values[-1])
    crossings = [_crossing(now, line, limit) for line in (outcome.path.middle, outcome.path.high, outcome.path.low)]
    left, earliest, latest = (None if at is None else at * even.step_ms / 1000 for at in crossings)
    answer.method, answer.model = "forecast", outcome.model
    answer.backtest = _backtest(observed, outcome, even)
    what = f"{outcome.model} forecast meets the limit; {observed.source}"[:400]
    answer.earliest = (
        None if earliest is None else Measure(value=round(earliest, 1), unit="s", source=f"high end, {what}")
    )
    answer.latest = None if latest is None else Measure(value=round(latest, 1), unit="s", source=f"low end, {what}")
    if left is None:
        answer.status = "not-within-horizon"
        return
    answer.status = "exhausts"
    answer.left = Measure(value=round(left, 1), unit="s", source=what)
    answer.at = Measure(value=even.end_ms + round(left * 1000), unit="wall_ms", source=what)


def _crossing(now: float, line: forecasting.Array, limit: float) -> float | None:
    """Steps until a path meets the limit, between two steps by a straight line."""
    if now >= limit:
        return 0.0
    above = np.nonzero(line >= limit)[0]
    if not len(above):
        return None
    index = int(above[0])
    before = now if index == 0 else float(line[index - 1])
    rise = float(line[index]) - before
    return index + ((limit - before) / rise if rise > 0 else _CEILING_STEP_SHARE)


def _by_earlier_lives(answer: Exhaustion, observed: Observed, ceiling: Ceiling) -> None:
    past = series.earlier_lives(observed.lives(), ceiling.limit)
    if not past:
        answer.notes.append(
            f"not enough data: {answer.observed.value} points since the last restart, {answer.needed.value} are needed"
        )
        return
    current = observed.lives()[-1]
    age_s = (current[-1][0] - current[0][0]) / 1000
    lasted = sorted((life.end_ms - life.start_ms) / 1000 for life in past)
    what = f"lengths of n={len(lasted)} earlier lives minus age, {observed.source}"[:400]

    def left(total_s: float) -> Measure:
        return Measure(value=round(max(0.0, total_s - age_s), 1), unit="s", source=what)

    middle = lasted[len(lasted) // 2]
    answer.status, answer.method = "exhausts", "earlier-lives"
    answer.left, answer.earliest, answer.latest = left(middle), left(lasted[0]), left(lasted[-1])
    at_ms = current[0][0] + round(middle * 1000)
    answer.at = Measure(value=max(at_ms, current[-1][0]), unit="wall_ms", source=what)
    answer.notes.append("it was started anew too short ago for a forecast: its earlier lives are used")


def _exhaustion_finding(answer: Exhaustion) -> Finding:
    subject = answer.subject
    if answer.status == "not-enough-data" or answer.now is None or answer.limit is None:
        return _too_short(f"memory of {subject}", subject, answer.observed, answer.needed)
    measures = {"now": answer.now, "limit": answer.limit}
    if answer.left is None or answer.at is None:
        text = f"`{subject}` will not meet its limit within {{horizon}}: it holds {{now}} of {{limit}}."
        return Finding(section="forecast", subject=subject, text=text, measures={**measures, "horizon": answer.horizon})
    measures |= {"left": answer.left, "at": answer.at}
    text = f"`{subject}` holds {{now}} of {{limit}} and meets its limit in {{left}}, at {{at}}"
    if answer.earliest is not None:
        measures["earliest"] = answer.earliest
        text += " (earliest in {earliest}"
        if answer.latest is not None:
            measures["latest"] = answer.latest
            text += ", latest in {latest}"
        text += ")"
    how = f"the {answer.model} model" if answer.method == "forecast" else "the length of its earlier lives"
    return Finding(section="forecast", subject=subject, text=f"{text}, by {how}.", measures=measures)


def urgency(observed: Observed, limit: float) -> float:
    """Rank a curve: the share of its remaining room that it took over its last life; higher is more urgent."""
    part = next(reversed(observed.lives()), [])
    if not part:
        return 0.0
    room = max(1.0, limit - part[-1][1])
    return (part[-1][1] - part[0][1]) / room
