"""The event log and reading files from their end."""

from __future__ import annotations

import tempfile
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sutazai.errors import InternalError
from sutazai.limits import LINE_BYTES_MAX
from sutazai.telemetry.events import Event, EventLog
from sutazai.telemetry.tail import lines_backwards


def test_events_survive_a_restart_and_are_found_by_kind_subject_and_time(tmp_path: Path) -> None:
    """A new process reads what the old one wrote."""
    log = EventLog(tmp_path / "events.jsonl")
    log.append(Event(1, "process-started", "shop", "pid 7", {"pid": 7}))
    log.append(Event(2, "oom-killed", "shop", "1 kill"))
    log.append(Event(3, "process-started", "other", ""))
    log.close()
    again = EventLog(tmp_path / "events.jsonl")
    assert [event.at_wall_ms for event in again.read()[0]] == [1, 2, 3]
    assert again.read(kinds=("process-started",), subjects=("shop",))[0][0].data == {"pid": 7}
    assert [event.at_wall_ms for event in again.read(since_ms=2)[0]] == [2, 3]
    newest, truncated = again.read(limit=1)
    assert ([event.at_wall_ms for event in newest], truncated) == ([3], True)
    assert newest[0].source == "event:process-started/other@3"
    again.close()


def test_the_files_are_bounded_and_the_oldest_goes(tmp_path: Path) -> None:
    """A flood fills three files of bounded size and no more."""
    log = EventLog(tmp_path / "events.jsonl", bytes_max=2_000, files_kept=2)
    for at in range(500):
        log.append(Event(at, "process-ready", "shop", "x" * 50))
    assert sorted(path.name for path in tmp_path.iterdir()) == ["events.jsonl", "events.jsonl.1", "events.jsonl.2"]
    assert all(path.stat().st_size <= 2_000 for path in tmp_path.iterdir())
    kept = [event.at_wall_ms for event in log.read(limit=9_999)[0]]
    assert kept == list(range(kept[0], 500))
    log.close()


def test_a_torn_line_is_skipped_and_ended(tmp_path: Path) -> None:
    """Half a line of a crash is neither read nor joined with the next."""
    path = tmp_path / "events.jsonl"
    log = EventLog(path)
    log.append(Event(1, "process-ready", "shop", ""))
    log.close()
    with path.open("ab") as file:
        file.write(b'{"at_wall_ms":2,"kind":"proc')
    again = EventLog(path)
    again.append(Event(3, "process-ready", "shop", ""))
    assert [event.at_wall_ms for event in again.read()[0]] == [1, 3]
    again.close()


def test_an_unknown_kind_is_a_broken_invariant(tmp_path: Path) -> None:
    """A misspelt kind is not written."""
    log = EventLog(tmp_path / "events.jsonl")
    with pytest.raises(InternalError, match="misspelt"):
        log.append(Event(1, "misspelt", "shop", ""))
    log.close()


@given(st.lists(st.binary(max_size=200_000).map(lambda line: line.replace(b"\n", b" ")), max_size=8), st.booleans())
def test_reading_backwards_gives_the_same_lines_as_reading_forwards(lines: list[bytes], ended: bool) -> None:  # noqa: FBT001 drawn
    """Whatever the lengths, the lines and their offsets are right."""
    data = b"\n".join(lines) + (b"\n" if ended else b"")
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "log"
        path.write_bytes(data)
        found = list(lines_backwards(path))
    assert [line for _, line in reversed(found)] == [line for line in data.split(b"\n") if line]
    assert all(data[offset : offset + len(line)] == line for offset, line in found)


def test_an_endless_line_is_cut(tmp_path: Path) -> None:
    """A line of megabytes is given by its beginning only, and the lines around it are right."""
    path = tmp_path / "log"
    path.write_bytes(b"first\n" + b"x" * 3_000_000 + b"\nlast\n")
    found = list(lines_backwards(path))
    assert [(offset, len(line)) for offset, line in found] == [(3_000_007, 4), (6, LINE_BYTES_MAX), (0, 5)]


def test_a_missing_file_has_no_lines(tmp_path: Path) -> None:
    """A process that never wrote is no error."""
    assert list(lines_backwards(tmp_path / "none")) == []
