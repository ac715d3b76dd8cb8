"""`kill -9` of every kind of process under load: all come back, nothing accepted is lost, no effect doubles."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))
import kill_matrix


@pytest.mark.timeout(600)
def test_kill_every_process_under_load(capsys: pytest.CaptureFixture[str]) -> None:
    """One round of the matrix: 0 lost, 0 doubled, and work was accepted in each phase."""
    rows, load, lost, doubled = kill_matrix.run(kill_matrix.Choice())
    with capsys.disabled():
        kill_matrix.show(rows, load, lost, doubled)
    assert [row.killed for row in rows] == list(kill_matrix.TARGETS)
    assert all(row.accepted for row in rows)
    assert not [row.twins for row in rows if row.twins]
    assert not lost
    assert not doubled
