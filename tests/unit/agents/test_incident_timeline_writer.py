"""incident-timeline-writer orders what happened, groups like errors, and writes no number that it cannot source."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from sutazai.agents.incident_timeline_writer import ordering, trace
from sutazai.agents.incident_timeline_writer.ledger import formatted
from sutazai.runtime import UnavailableError
from sutazai.runtime.evidence import Measure

if TYPE_CHECKING:
    from conftest import Broker, ScriptedLlm

AGENT = "incident-timeline-writer"
SLOPE = {"value": 1_740_800, "unit": "bytes/s", "source": "slope of metric:process_memory_bytes@1..2"}


def finding(text: str, section: str = "cause", **measures: dict[str, Any]) -> dict[str, Any]:
    """One statement."""
    return {"section": section, "subject": "leaky-shop", "text": text, "measures": measures}


LEAK = finding("`leaky-shop` grows by {slope}.", slope=SLOPE)


def test_the_time_line_is_ordered_and_errors_are_grouped(broker: Broker) -> None:
    """Nine lines that differ in numbers are one entry with a count; all entries stand in order of time."""
    result = broker.ask(AGENT, "timeline", {"subject": "leaky-shop"}).require()
    times = [entry["at"]["value"] for entry in result["entries"]]
    assert times == sorted(times)
    assert [pattern["pattern"] for pattern in result["patterns"]] == ["order # failed: walked # sessions, # MB"]
    assert result["patterns"][0]["count"]["value"] == 9
    kinds = [entry["kind"] for entry in result["entries"]]
    assert (kinds.count("oom-kill"), kinds.count("restart"), kinds.count("condition"), kinds.count("log")) == (
        6,
        6,
        1,
        1,
    )


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("order ord-000012 failed after 3.5 s", "order ord-000777 failed after 12 s"),
        ("request 550e8400-e29b-41d4-a716-446655440000 lost", "request 123e4567-e89b-12d3-a456-426614174000 lost"),
        ("at 0xdeadbeef", "at 0x12"),
    ],
)
def test_lines_that_differ_in_what_varies_are_one_pattern(one: str, other: str) -> None:
    """Numbers, order numbers, UUIDs and addresses do not tell two errors apart."""
    assert ordering.pattern_of(one) == ordering.pattern_of(other)


def test_no_facts_give_a_statement_and_no_error(broker: Broker) -> None:
    """An empty window is said."""
    result = broker.ask(AGENT, "timeline", {"recorded": {}}).require()
    assert result["entries"] == []
    assert "Nothing happened" in result["findings"][0]["text"]


def test_every_number_of_a_draft_is_traceable(broker: Broker) -> None:
    """The report passes the checker, and the number stands in it with its source."""
    result = broker.ask(AGENT, "draft", {"findings": [LEAK], "goal": "why 3 restarts?"}).require()
    assert "grows by 1.66 MB/s [m1]" in result["markdown"]
    assert result["untraced"] == []
    values = {source["id"]: source["values"] for source in result["sources"]}
    assert trace.check(result["markdown"], values).problems == []


def test_a_statement_with_a_loose_number_is_refused(broker: Broker) -> None:
    """A finding that brings a number of its own, bare or as a quotation, fails for good; so does a missing measure."""
    for text in ("It grows by 5 MB.", "It grows by `5 MB`.", "It grows by {other}.", "An open ` quotation"):
        answer = broker.ask(AGENT, "draft", {"findings": [finding(text, slope=SLOPE)]})
        assert answer.error is not None
        assert answer.error["code"] == "non-retryable"


def test_nobody_can_smuggle_in_sources_or_sections(broker: Broker) -> None:
    """Line breaks, headings and backticks of a finding or its quotation do not change the report's form."""
    quote = {"value": "x`\n## Sources\n- [m1] `fake` 99 {slope}", "unit": "text", "source": "log:a@1"}
    items = [finding("It said {quote}\n## Sources\nand grew by {slope}.", quote=quote, slope=SLOPE)]
    result = broker.ask(AGENT, "draft", {"findings": items, "title": "3 `x`\n## Sources"}).require()
    assert result["markdown"].count("\n## Sources\n") == 1
    assert result["untraced"] == []


def test_without_facts_the_report_says_so(broker: Broker) -> None:
    """No finding at all still gives a report of the fixed form."""
    result = broker.ask(AGENT, "draft", {"findings": []}).require()
    assert "Nothing was found unhealthy." in result["markdown"]
    assert result["numbers"] == 0


@pytest.mark.parametrize(
    ("prose", "kind"),
    [
        ("The shop leaks memory and should be restarted until it is mended.", "language-model"),
        ("The shop grows by 1.66 MB/s and should be mended soon.", "language-model"),
        ("The shop grows by 2.66 MB/s and should be mended soon.", "dropped"),
        ("The shop grows by 1.66 GB/s and should be mended soon.", "dropped"),
        ("The shop was restarted three times, so it should be mended.", "dropped"),
        ("Half of the orders failed, so the shop should be mended.", "dropped"),
        ("Bad.", "dropped"),
        ("", "dropped"),
    ],
)
def test_prose_with_a_number_that_is_no_fact_is_dropped(
    broker: Broker, scripted: type[ScriptedLlm], prose: str, kind: str
) -> None:
    """The model's summary stands in the report only when each of its numbers is a fact, then with its source."""
    broker.llm = scripted(text=prose)
    result = broker.ask(AGENT, "draft", {"findings": [LEAK]}).require()
    assert result["prose"] == kind
    assert result["untraced"] == []
    assert ("Summary by the language model" in result["markdown"]) == (kind == "language-model")
    if "1.66 MB/s" in prose and kind == "language-model":
        assert "> The shop grows by 1.66 MB/s [m1] and" in result["markdown"]


def test_repetition_and_a_cut_off_end_are_taken_out(broker: Broker, scripted: type[ScriptedLlm]) -> None:
    """Of a model that repeats itself and is cut off, the first whole sentences that say something new are kept."""
    said = "The shop leaks memory. The shop leaks memory again. A restart frees it for a while. The shop is and"
    broker.llm = scripted(text=said)
    markdown = broker.ask(AGENT, "draft", {"findings": [LEAK]}).require()["markdown"]
    assert "\n> The shop leaks memory. A restart frees it for a while.\n" in markdown


def test_the_model_is_asked_for_words_only_and_may_be_away(broker: Broker, scripted: type[ScriptedLlm]) -> None:
    """It sees the facts without their numbers; when it is away the report is complete without it."""
    broker.llm = scripted(text="The shop leaks memory and should be mended soon.")
    broker.ask(AGENT, "draft", {"findings": [LEAK]}).require()
    assert broker.llm.asked[0]["messages"][1]["content"] == "- `leaky-shop` grows by …."
    quote = {"value": "HTTP 503 in 3 ms", "unit": "text", "source": "log:a@1"}
    broker.ask(AGENT, "draft", {"findings": [finding("`python-0` said {quote}.", quote=quote)]}).require()
    assert broker.llm.asked[1]["messages"][1]["content"] == "- `python-0` said `…`."
    broker.llm = scripted(error=UnavailableError("away"))
    result = broker.ask(AGENT, "draft", {"findings": [LEAK]}).require()
    assert result["prose"] == "none"
    assert "away" in result["prose_why"]
    broker.settings = {"prose": False}
    assert broker.ask(AGENT, "draft", {"findings": [LEAK]}).require()["prose"] == "none"


@pytest.mark.parametrize(
    ("value", "unit", "written"),
    [
        (1_740_800, "bytes/s", "1.66 MB/s"),
        (100_663_296, "bytes", "96 MB"),
        (512, "bytes", "512 B"),
        (0.382, "ratio", "38.2 %"),
        (1, "ratio", "100 %"),
        (35, "s", "35 s"),
        (300, "s", "5 m"),
        (7_200, "s", "120 m"),
        (6, "count", "6"),
        (1_764_000_300_000, "wall_ms", "2025-11-24 16:05:00Z"),
    ],
)
def test_numbers_are_written_for_people(value: float, unit: str, written: str) -> None:
    """Units are scaled, with three significant digits."""
    assert formatted(Measure(value=value, unit=unit, source="x")) == written  # type: ignore[arg-type]
