"""The metric ring: what was written is read again, whatever happens to the file or its writer."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sutazai.errors import UnavailableError
from sutazai.telemetry.ring import Query, Ring, Series
from sutazai.telemetry.ring_file import Geometry, RingFile


def _memory(process: str) -> Series:
    return Series("process_memory_bytes", (("process", process),))


def _points(ring: Ring, process: str, **more: object) -> list[tuple[int, float]]:
    query = Query("process_memory_bytes", {"process": (process,)}, **more)  # type: ignore[arg-type]
    found = ring.query(query)
    return found[0][1] if found else []


def test_reopening_keeps_the_data(tmp_path: Path) -> None:
    """What was appended before a restart is read after it, and appending goes on behind it."""
    ring = Ring.open(tmp_path / "ring", rows=10, columns=4)
    for second in range(1, 4):
        ring.append(second * 1_000, {_memory("a"): second, _memory("b"): second * 10})
    ring.close()
    again = Ring.open(tmp_path / "ring")
    assert again.newest_wall_ms() == 3_000
    again.append(4_000, {_memory("a"): 4})
    assert _points(again, "a") == [(1_000, 1), (2_000, 2), (3_000, 3), (4_000, 4)]
    assert _points(again, "b") == [(1_000, 10), (2_000, 20), (3_000, 30)]
    again.close()


def test_the_oldest_rows_are_written_over_and_the_file_never_grows(tmp_path: Path) -> None:
    """Ten rows hold the last ten seconds."""
    ring = Ring.open(tmp_path / "ring", rows=10, columns=4)
    size = (tmp_path / "ring").stat().st_size
    for second in range(1, 26):
        ring.append(second, {_memory("a"): second})
    assert _points(ring, "a") == [(second, second) for second in range(16, 26)]
    assert (tmp_path / "ring").stat().st_size == size == ring.statistics().file_bytes
    ring.close()


def test_a_torn_row_is_skipped(tmp_path: Path) -> None:
    """A row whose bytes were half written is left out; its neighbours are read."""
    ring = Ring.open(tmp_path / "ring", rows=10, columns=4)
    for second in range(1, 6):
        ring.append(second, {_memory("a"): second})
    ring.close()
    geometry = Geometry(10, 4)
    descriptor = os.open(tmp_path / "ring", os.O_RDWR)
    os.pwrite(descriptor, b"\xff\xff\xff", geometry.rows_at + 2 * geometry.row_bytes + 24)
    os.close(descriptor)
    again = Ring.open(tmp_path / "ring")
    assert _points(again, "a") == [(1, 1), (2, 2), (4, 4), (5, 5)]
    again.close()


def test_a_torn_table_entry_costs_its_series_only(tmp_path: Path) -> None:
    """A damaged owner frees its column; what a later owner finds there is not taken for its own."""
    ring = Ring.open(tmp_path / "ring", rows=10, columns=4)
    for second in range(1, 4):
        ring.append(second, {_memory("a"): 1, _memory("b"): 2})
    ring.close()
    descriptor = os.open(tmp_path / "ring", os.O_RDWR)
    os.pwrite(descriptor, b"\xff\xff", 4096 + 20)
    os.close(descriptor)
    again = Ring.open(tmp_path / "ring")
    again.append(4, {_memory("new"): 9, _memory("b"): 2})
    assert _points(again, "a") == []
    assert _points(again, "new") == [(4, 9)]
    assert len(_points(again, "b")) == 4
    again.close()


@pytest.mark.parametrize("damage", [b"", b"no ring at all", b"\0" * 10_000])
def test_a_file_that_is_no_ring_is_put_aside(tmp_path: Path, damage: bytes) -> None:
    """A damaged file is kept for a person and a new ring is begun."""
    (tmp_path / "ring").write_bytes(damage)
    ring = Ring.open(tmp_path / "ring", rows=10, columns=4)
    ring.append(1, {_memory("a"): 1})
    assert _points(ring, "a") == [(1, 1)]
    assert (tmp_path / "ring.damaged").read_bytes() == damage
    ring.close()


def test_a_file_cut_short_is_put_aside(tmp_path: Path) -> None:
    """A ring without its last rows is no whole ring."""
    Ring.open(tmp_path / "ring", rows=10, columns=4).close()
    os.truncate(tmp_path / "ring", Geometry(10, 4).file_bytes - 1)
    ring = Ring.open(tmp_path / "ring", rows=10, columns=4)
    assert (tmp_path / "ring.damaged").exists()
    ring.close()


def test_a_second_writer_is_refused(tmp_path: Path) -> None:
    """Two controls cannot write one ring."""
    ring = Ring.open(tmp_path / "ring", rows=10, columns=4)
    with pytest.raises(UnavailableError, match="another process"):
        Ring.open(tmp_path / "ring")
    ring.close()
    Ring.open(tmp_path / "ring").close()


def test_the_ring_grows_and_keeps_what_it_has(tmp_path: Path) -> None:
    """More series than columns double the file, up to the bound, without losing a point."""
    ring = Ring.open(tmp_path / "ring", rows=10, columns=2, columns_max=8)
    ring.append(1, {_memory("s0"): 0})
    ring.append(2, {_memory(f"s{number}"): number for number in range(7)})
    assert ring.statistics().columns == 8
    assert _points(ring, "s0") == [(1, 0), (2, 0)]
    assert _points(ring, "s6") == [(2, 6)]
    ring.close()
    again = Ring.open(tmp_path / "ring")
    assert _points(again, "s0") == [(1, 0), (2, 0)]
    again.close()


def test_at_the_bound_the_most_silent_series_gives_way_and_then_newcomers_are_counted(tmp_path: Path) -> None:
    """The set of series is bounded; what is not kept is counted, and a new owner sees none of the old values."""
    ring = Ring.open(tmp_path / "ring", rows=10, columns=2, columns_max=2)
    ring.append(1, {_memory("old"): 1})
    ring.append(2, {_memory("newer"): 2})
    ring.append(3, {_memory("newest"): 3})
    assert _points(ring, "old") == []
    assert _points(ring, "newer") == [(2, 2)]
    assert _points(ring, "newest") == [(3, 3)]
    ring.append(4, {_memory("newer"): 2, _memory("newest"): 3, _memory("one too many"): 4})
    assert ring.statistics().dropped == 1
    assert _points(ring, "one too many") == []
    ring.close()


def test_a_series_with_labels_beyond_the_bound_is_counted_and_hurts_nobody(tmp_path: Path) -> None:
    """A label of any length cannot break the table."""
    ring = Ring.open(tmp_path / "ring", rows=10, columns=4)
    ring.append(1, {_memory("x" * 10_000): 1, _memory("a"): 2})
    assert ring.statistics().dropped == 1
    assert _points(ring, "a") == [(1, 2)]
    ring.close()


def test_a_query_chooses_by_labels_and_window(tmp_path: Path) -> None:
    """Label values are alternatives; the window's ends belong to it; a series without a point is left out."""
    ring = Ring.open(tmp_path / "ring", rows=100, columns=4)
    for second in range(1, 11):
        ring.append(second, {_memory("a"): 1, _memory("b"): 2} if second < 5 else {_memory("a"): 1, _memory("c"): 3})
    both = ring.query(Query("process_memory_bytes", {"process": ("a", "b")}, since_ms=4, until_ms=6))
    assert [(series.labels[0][1], [at for at, _ in points]) for series, points in both] == [
        ("a", [4, 5, 6]),
        ("b", [4]),
    ]
    late = ring.query(Query("process_memory_bytes", {}, since_ms=6))
    assert [series.labels[0][1] for series, _ in late] == ["a", "c"]
    assert ring.query(Query("process_memory_bytes", {"pool": ("a",)})) == []
    assert ring.query(Query("process_up", {})) == []
    ring.close()


@pytest.mark.parametrize(("reduce", "expected"), [("mean", 2.5), ("max", 4), ("min", 1), ("last", 4)])
def test_a_bucket_shows_what_was_asked(tmp_path: Path, reduce: str, expected: float) -> None:
    """Mean, extremes and last value of each step; its time is its beginning; gaps do not count."""
    ring = Ring.open(tmp_path / "ring", rows=100, columns=4)
    for second, value in enumerate([1, 2, 3, 4, None, 7]):
        ring.append(60_000 + second * 1_000, {} if value is None else {_memory("a"): value})
    assert _points(ring, "a", step_ms=5_000, reduce=reduce) == [(60_000, expected), (65_000, 7)]
    ring.close()


def test_a_clock_set_back_gives_points_in_order_of_time(tmp_path: Path) -> None:
    """Rows keep their order of writing, answers are ordered by time."""
    ring = Ring.open(tmp_path / "ring", rows=100, columns=4)
    for at in (5_000, 6_000, 2_000, 3_000, 7_000):
        ring.append(at, {_memory("a"): at})
    assert _points(ring, "a") == [(at, at) for at in (2_000, 3_000, 5_000, 6_000, 7_000)]
    assert _points(ring, "a", step_ms=4_000) == [(0, 2_500), (4_000, 6_000)]
    ring.close()


_STEPS = st.lists(
    st.one_of(
        st.dictionaries(st.sampled_from("abcdef"), st.floats(allow_nan=False, allow_infinity=False), max_size=6),
        st.just("reopen"),
    ),
    max_size=40,
)


@given(_STEPS)
@settings(max_examples=60, deadline=None)
def test_the_ring_reads_like_a_list_of_rows(steps: list[dict[str, float] | str]) -> None:
    """Any sequence of appends and restarts: each series shows its values of the last rows, as a plain list would."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "ring"
        ring = Ring.open(path, rows=7, columns=2, columns_max=8)
        model: list[tuple[int, dict[str, float]]] = []
        at = 0
        for step in steps:
            if isinstance(step, dict):
                at += 1
                ring.append(at, {_memory(name): value for name, value in step.items()})
                model.append((at, step))
            else:
                ring.close()
                ring = Ring.open(path)
        for name in "abcdef":
            expected = [(when, values[name]) for when, values in model[-7:] if name in values]
            assert _points(ring, name) == expected
        ring.close()


_WRITER = """
import sys
from pathlib import Path
from sutazai.telemetry.ring import Ring, Series
ring = Ring.open(Path(sys.argv[1]), rows=50, columns=4)
at = 0
while True:
    at += 1
    new = {Series("process_up", (("process", f"p{at // 40 % 6}"),)): at, Series("host_load1", ()): at}
    ring.append(at, new)
    if at % 20 == 0:
        print(at, flush=True)
"""


@pytest.mark.parametrize("after", [1, 3, 10, 30])
def test_killing_the_writer_loses_no_row_that_was_written(tmp_path: Path, after: int) -> None:
    """``kill -9`` at any moment: every row that append had returned from is there and right, also while it grows."""
    path = tmp_path / "ring"
    with subprocess.Popen([sys.executable, "-c", _WRITER, str(path)], stdout=subprocess.PIPE, text=True) as writer:
        assert writer.stdout is not None
        said = [int(writer.stdout.readline()) for _ in range(after)]
        writer.send_signal(signal.SIGKILL)
        said += [int(line) for line in writer.stdout.read().split() if line.strip()]
        writer.wait()
    ring = Ring.open(path)
    (found,) = ring.query(Query("host_load1", {}))
    times = [at for at, _ in found[1]]
    assert times[-1] >= said[-1]
    assert times == list(range(times[0], times[-1] + 1))
    assert all(at == value for at, value in found[1])
    for _, points in ring.query(Query("process_up", {})):
        assert all(at == value for at, value in points)
    ring.append(times[-1] + 1, {Series("host_load1", ()): 1})
    ring.close()


def test_a_full_disk_is_said_and_leaves_no_half_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The space is taken when the ring is made, so it cannot run out later; without it nothing is left behind."""

    def refuse(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "posix_fallocate", refuse)
    with pytest.raises(OSError, match="No space"):
        RingFile.create(tmp_path / "ring", Geometry(10, 4))
    assert list(tmp_path.iterdir()) == []
