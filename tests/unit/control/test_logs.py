"""Reading logs: times, levels, order, rotation."""

from __future__ import annotations

import os
from datetime import UTC, datetime
from typing import TYPE_CHECKING

import pytest

from sutazai.control.logclock import LogClock
from sutazai.control.logs import SCAN_BYTES_MAX, LogReader, Wanted, parse
from sutazai.errors import NotFoundError

if TYPE_CHECKING:
    from pathlib import Path

NOON_MS = int(datetime(2026, 1, 2, 12, 0, 0, tzinfo=UTC).timestamp() * 1_000)


@pytest.mark.parametrize(
    ("raw", "at", "time", "level", "text"),
    [
        (b'{"at_wall_ms": 5, "level": "WARN", "text": "low"}', 5, "line", "warning", "low"),
        (b'{"level": "fatal", "message": "over"}', 9, "observed", "error", "over"),
        (b'{"no": "text"}', 9, "observed", "info", ""),
        (b'{"broken": ', 9, "observed", "info", '{"broken": '),
        (b"[1, 2]", 9, "observed", "info", "[1, 2]"),
        (b"2026-01-02T12:00:00.250Z ERROR no", NOON_MS + 250, "line", "error", "2026-01-02T12:00:00.250Z ERROR no"),
        (b"[2026-01-02 14:00:00,5 +0200] ok", NOON_MS + 500, "line", "info", "[2026-01-02 14:00:00,5 +0200] ok"),
        (b"2026-99-99T12:00:00Z odd", 9, "observed", "info", "2026-99-99T12:00:00Z odd"),
        (b"Traceback (most recent call last):", 9, "observed", "error", "Traceback (most recent call last):"),
        (b"sqlite3.OperationalError: full", 9, "observed", "error", "sqlite3.OperationalError: full"),
        (b"WARNING: hot", 9, "observed", "warning", "WARNING: hot"),
        (b"terror is no level", 9, "observed", "info", "terror is no level"),
        (b"\xff\xfe\r", 9, "observed", "info", "\ufffd\ufffd"),
    ],
)
def test_a_line_is_understood(raw: bytes, at: int, time: str, level: str, text: str) -> None:
    """JSON, stamped, plain and broken lines each get a time, a level and a text."""
    line = parse("shop", raw, 0, (9, True))
    assert (line.at_wall_ms, line.time, line.level, line.text) == (at, time, level, text)


def test_further_keys_of_a_json_line_are_kept() -> None:
    """They are the numbers that an agent computes with."""
    assert parse("shop", b'{"text": "x", "status": 500}', 0, (9, False)).fields == {"status": 500}


def test_plain_lines_get_the_time_at_which_the_file_grew(tmp_path: Path) -> None:
    """Between two looks the later one counts; before the first look only a bound is known; rotation keeps the times."""
    log = tmp_path / "shop.log"
    clock = LogClock(tmp_path)
    reader = LogReader(tmp_path, clock)
    log.write_bytes(b"old\n")
    clock.tick(1_000)
    with log.open("ab") as file:
        file.write(b"first\n")
    clock.tick(2_000)
    clock.tick(3_000)
    with log.open("ab") as file:
        file.write(b"second\n")
    clock.tick(4_000)
    found = [(line.text, line.at_wall_ms, line.time) for line in reader.read(Wanted())[0]]
    assert found == [("old", 1_000, "file"), ("first", 2_000, "observed"), ("second", 4_000, "observed")]
    (tmp_path / "shop.log.1").write_bytes(log.read_bytes()[4:])  # rotation keeps the last bytes only
    log.write_bytes(b"new\n")
    clock.tick(5_000)
    found = [(line.text, line.at_wall_ms, line.time) for line in reader.read(Wanted())[0]]
    assert found == [("first", 2_000, "observed"), ("second", 4_000, "observed"), ("new", 5_000, "observed")]


def test_logs_are_merged_by_time_and_filtered(tmp_path: Path) -> None:
    """Newest lines of all logs, oldest first; level, text, window and process choose."""
    for name, lines in {
        "a": [(1, "info", "one"), (30_000, "error", "Three")],
        "b": [(20_000, "debug", "two"), (40_000, "info", "four")],
    }.items():
        text = "".join(f'{{"at_wall_ms": {at}, "level": "{level}", "text": "{text}"}}\n' for at, level, text in lines)
        (tmp_path / f"{name}.log").write_text(text)
    reader = LogReader(tmp_path, LogClock(tmp_path))

    def texts(wanted: Wanted) -> list[str]:
        return [line.text for line in reader.read(wanted)[0]]

    assert texts(Wanted()) == ["one", "two", "Three", "four"]
    assert texts(Wanted(level="info")) == ["one", "Three", "four"]
    assert texts(Wanted(contains="three")) == ["Three"]
    assert texts(Wanted(since_ms=20_000)) == ["two", "Three", "four"]
    assert texts(Wanted(processes=("b",))) == ["two", "four"]
    lines, truncated = reader.read(Wanted(limit=2))
    assert ([line.text for line in lines], truncated) == (["Three", "four"], True)
    assert lines[0].to_json()["source"] == f"log:a@30000+{lines[0].offset}"
    with pytest.raises(NotFoundError, match="a, b"):
        reader.read(Wanted(processes=("../a",)))


def test_reading_is_bounded(tmp_path: Path) -> None:
    """A search through too much stops and says so."""
    with (tmp_path / "a.log").open("wb") as file:
        file.write(b"y" * 99 + b"\n")
        file.writelines([b"x" * 99_999 + b"\n"] * (SCAN_BYTES_MAX // 100_000 + 1))
    lines, truncated = LogReader(tmp_path, LogClock(tmp_path)).read(Wanted(contains="yyy"))
    assert (lines, truncated) == ([], True)


def test_an_old_file_is_not_read_for_a_new_window(tmp_path: Path) -> None:
    """What was last written before the window cannot hold a line of it."""
    (tmp_path / "a.log").write_text("plain\n")
    os.utime(tmp_path / "a.log", (1_000, 1_000))
    assert LogReader(tmp_path, LogClock(tmp_path)).read(Wanted(since_ms=2_000_000)) == ([], False)


def test_a_folder_that_is_missing_has_no_logs(tmp_path: Path) -> None:
    """Before the first process there is no folder."""
    clock = LogClock(tmp_path / "none")
    clock.tick(1)
    assert LogReader(tmp_path / "none", clock).read(Wanted()) == ([], False)
