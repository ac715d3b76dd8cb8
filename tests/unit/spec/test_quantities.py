"""What is said about quantities that are written wrongly."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sutazai.spec.quantities import CORES, DURATION, SHARE, SIZE, Quantity, explain


@pytest.mark.parametrize(
    ("kind", "text", "hint"),
    [
        (SIZE, "512", "write 512MB"),
        (SIZE, "4", "write 4MB or 4GB"),
        (SIZE, "536870912", "write 536870912MB, or 512MB if these were bytes"),
        (SIZE, "512Mi", "write 512MB"),
        (SIZE, "2g", "write 2GB"),
        (SIZE, "1 GB", "write 1GB"),
        (SIZE, "1,5GB", "write 1.5GB"),
        (SIZE, "lots", "write 512MB"),
        (SIZE, "-1MB", "write a size like 512MB"),
        (SIZE, "5 parsecs", "the units of a size: B, KB, MB, GB, TB"),
        (DURATION, "30", "write 30s"),
        (DURATION, "1500", "write 1500s or 1500ms"),
        (DURATION, "5 min", "write 5m"),
        (DURATION, "2hours", "write 2h"),
        (CORES, "2", "write 2c"),
        (CORES, "0.5 cores", "write 0.5c"),
        (CORES, "150%", "write 1.5c"),
        (SHARE, "50", "write 50%"),
    ],
)
def test_the_hint_is_what_to_write(kind: Quantity[int] | Quantity[float], text: str, hint: str) -> None:
    """Each wrong spelling gets the right one back."""
    with pytest.raises(ValueError, match=r".+"):
        kind.parse(text)
    assert explain(kind, text)[1] == hint


@given(st.text(max_size=30))
def test_any_text_is_explained(text: str) -> None:
    """No text, however strange, makes the explanation itself fail."""
    for kind in (SIZE, DURATION, CORES, SHARE):
        problem, hint = explain(kind, text)
        assert problem
        assert hint
