"""The checker of reports finds every number without a source, and does not cry where there is none."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sutazai.agents.incident_timeline_writer import trace
from sutazai.agents.incident_timeline_writer.ledger import Ledger
from sutazai.runtime.evidence import Measure

SOURCES = "\n## Sources\n\n- [m1] `metric:a@1..2`\n- [m2] `log:b@3+4`\n"


def problems(text: str, values: dict[str, list[str]] | None = None) -> list[str]:
    """Check a text with two sources."""
    return trace.check(text + SOURCES, values).problems


@pytest.mark.parametrize(
    "text",
    [
        "It grows by 1.66 MB/s [m1] in 48 s [m2].",
        "At 2026-01-02 03:04:05Z [m1] and at 03:04:05 [m2].",
        "It is 83.5 % [m1], or -3 [m2], or 1,024 [m1].",
        "`leaky-shop-2` said `503 after 12 s` [m1].",
        "```\n12 lines of 34 bytes\n```\nNo number here, R² is a name.",
        "python-x has no number, v[m1] neither.",
        "| 12 [m1] | x | 7 [m2] |",
        "Nothing at all.",
    ],
)
def test_traceable_texts_pass(text: str) -> None:
    """Numbers with references, quotations and names are fine."""
    assert problems(text) == []


@pytest.mark.parametrize(
    ("text", "what"),
    [
        ("It grows by 1.66 MB/s.", "no source after '1.66 MB/s'"),
        ("From 3 to 5 s [m1].", "no source after '3'"),
        ("It grew 12 [m9] times.", "not in the list of sources"),
        ("See [m7].", "[m7] is used and not in the list"),
        ("At 2026-01-02 03:04:05Z it fell.", "no source after"),
        ("40%[m1] and 50%", "no source after '50%'"),
        ("| 12 | 7 [m2] |", "no source after '12'"),
        ("## 3 restarts", "no source after '3'"),
    ],
)
def test_untraceable_texts_are_named(text: str, what: str) -> None:
    """Each number without a resolving reference is reported with its place."""
    assert any(what in problem for problem in problems(text))


def test_a_number_that_its_source_did_not_give_is_named() -> None:
    """A reference alone is not enough when the values are known: 1.67 is not 1.66."""
    assert problems("It is 1.66 MB/s [m1].", {"m1": ["1.66 MB/s"]}) == []
    assert problems("It is 1.67 MB/s [m1].", {"m1": ["1.66 MB/s"]}) != []


def test_a_report_without_sources_fails() -> None:
    """A reference needs the list."""
    assert trace.check("It is 4 [m1].").problems


@given(
    st.lists(
        st.tuples(
            st.floats(-1e15, 1e15, allow_nan=False),
            st.sampled_from(["bytes", "bytes/s", "s", "ratio", "count"]),
            st.text(min_size=1, max_size=40),
        ),
        min_size=1,
        max_size=10,
    )
)
@settings(max_examples=200, deadline=None)
def test_whatever_the_ledger_writes_is_traceable(given_: list[tuple[float, str, str]]) -> None:
    """Any value, any unit, any source text: what is written is found as one number with its resolving source."""
    ledger = Ledger()
    measures = [Measure(value=value, unit=unit, source=f"metric:{source}") for value, unit, source in given_]  # type: ignore[arg-type]
    body = " and ".join(ledger.write(measure) for measure in measures)
    listed = "\n".join(f"- [{item.id}] `{item.source}`" for item in ledger.sources())
    verdict = trace.check(f"{body}\n\n## Sources\n\n{listed}\n", ledger.values())
    assert verdict.problems == []
    assert verdict.numbers == len(measures)
