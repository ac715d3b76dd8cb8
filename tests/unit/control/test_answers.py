"""Questions are checked, answers are bounded, and every route is documented."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from sutazai.control.answers import POINTS_MAX, Answers
from sutazai.control.app import build
from sutazai.control.question import Question
from sutazai.control.sampler import Sampler
from sutazai.errors import InvalidInputError, NotFoundError, SutazaiError, UnavailableError
from sutazai.paths import FleetPaths
from sutazai.telemetry.ring import Ring, Series

if TYPE_CHECKING:
    from collections.abc import Iterator

DOCS = Path(__file__).parents[3] / "docs" / "reference" / "control-api.md"
NOW_MS = 1_764_000_000_000


@pytest.fixture
def sampler(tmp_path: Path) -> Iterator[Sampler]:
    """One that never ticked, with an open ring."""
    made = Sampler(FleetPaths(tmp_path / "state", tmp_path / "run"))
    made.ring = Ring.open(tmp_path / "ring", rows=1_000, columns=256)
    yield made
    made.stop()


def _ask(text: str) -> Question:
    pairs = [pair.partition("=") for pair in text.split("&") if pair]
    return Question(((name, value) for name, _, value in pairs), NOW_MS)


def test_every_route_is_documented(sampler: Sampler) -> None:
    """A page for each path, and no path of the page is missing."""
    text = DOCS.read_text()
    paths = {route.path for route in build(sampler).routes}  # type: ignore[attr-defined] # all of them are Routes
    assert {path for path in paths if f"`GET {path}`" not in text} == set()


@pytest.mark.parametrize(
    ("query", "since_ms"),
    [
        ("", 0),
        ("last_ms=5000", NOW_MS - 5_000),
        (f"since_ms={NOW_MS - 10}", NOW_MS - 10),
        (f"since_ms={NOW_MS - 10}&last_ms=5", NOW_MS - 5),
        (f"last_ms={NOW_MS * 2}", 0),
    ],
)
def test_a_window_begins_at_the_later_of_both(query: str, since_ms: int) -> None:
    """A time and a length may be given together."""
    assert _ask(query).since_ms() == since_ms


@pytest.mark.parametrize(
    "query", ["limit=-1", "limit=1.5", "limit=٣", "limit=1&limit=2", "limit=99999", "odd=1", "limit=" + "9" * 5_000]
)
def test_what_cannot_be_meant_is_refused(query: str) -> None:
    """Numbers are plain digits within a bound, each given once; unknown names are no silence."""
    question = _ask(query)

    def ask() -> None:
        question.limit()
        question.finish()

    with pytest.raises(InvalidInputError):
        ask()


def test_an_answer_is_bounded_and_says_how(sampler: Sampler) -> None:
    """Too many points widen the step; the values are those of the buckets."""
    assert sampler.ring is not None
    series = [Series("process_up", (("process", f"p{number}"),)) for number in range(200)]
    for second in range(1_000):
        sampler.ring.append(NOW_MS - (1_000 - second) * 1_000, dict.fromkeys(series, 1.0))
    answers = Answers(sampler)
    raw = answers.metrics(_ask("name=process_up&last_ms=1000000&process=p1&process=p2"))
    assert (raw["step_ms"], len(raw["series"]), raw["series"][0]["reduce"]) == (0, 2, "raw")
    full = answers.metrics(_ask("name=process_up&last_ms=1000000"))
    assert full["step_ms"] == 200 * 1_000 // POINTS_MAX * 1_000
    assert sum(bytes(entry["points"]).count(b"[") - 1 for entry in full["series"]) <= POINTS_MAX + 200
    assert full["series"][0]["reduce"] == "mean"


@pytest.mark.parametrize(
    ("query", "error"),
    [
        ("", InvalidInputError),
        ("name=nonsense", NotFoundError),
        ("name=process_up&pool=a", InvalidInputError),
        ("name=process_up&reduce=median", InvalidInputError),
    ],
)
def test_a_wrong_metric_question_is_explained(sampler: Sampler, query: str, error: type[SutazaiError]) -> None:
    """Missing name, unknown name, label of another metric, unknown word."""
    with pytest.raises(error):
        Answers(sampler).metrics(_ask(query))


def test_without_a_sample_facts_are_unavailable_not_empty(sampler: Sampler) -> None:
    """Nobody takes "no process" for an answer when nothing is known."""
    answers = Answers(sampler)
    for ask in (answers.status, answers.conditions, answers.agents, answers.memory, answers.events):
        with pytest.raises(UnavailableError):
            ask(_ask(""))
    assert answers.health(_ask(""))["status"] == "degraded"
