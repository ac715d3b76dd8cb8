"""The reference pages say what the tables say."""

from __future__ import annotations

from pathlib import Path

import pytest

from sutazai.telemetry.events import EVENT_KINDS
from sutazai.telemetry.reference import conditions_page, metrics_page

DOCS = Path(__file__).parents[3] / "docs" / "reference"


@pytest.mark.parametrize(("name", "expected"), [("metrics.md", metrics_page()), ("conditions.md", conditions_page())])
def test_a_page_is_up_to_date(name: str, expected: str) -> None:
    """Whoever changes a table writes its page anew: ``python -m sutazai.telemetry.reference docs/reference``."""
    assert (DOCS / name).read_text() == expected


def test_every_event_kind_is_documented() -> None:
    """The table of events in the API's page is complete."""
    text = (DOCS / "control-api.md").read_text()
    assert [kind for kind in sorted(EVENT_KINDS) if f"`{kind}`" not in text] == []
