"""Notes for the next sutazaid: what is written is read again, and nothing that cannot be trusted is."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

from sutazai.supervisor.facts import Facts, ProcessFacts, Wish, boot_id

if TYPE_CHECKING:
    from pathlib import Path

    import pytest


def test_notes_come_back_as_they_were(tmp_path: Path) -> None:
    """All fields survive; no temporary file is left."""
    path = tmp_path / "adopt.json"
    facts = Facts(
        boot_id(), 5, {"a": ProcessFacts(pid=3, start_ticks=4, failures_wall_ms=[1], listen=["x"])}, [{"n": 1}]
    )
    facts.save(path)
    assert Facts.load(path) == facts
    assert [each.name for each in tmp_path.iterdir()] == ["adopt.json"]


def test_notes_of_another_boot_or_without_sense_count_as_none(tmp_path: Path) -> None:
    """After a reboot no pid means anything; half a file, another version or another type is no knowledge."""
    path = tmp_path / "adopt.json"
    assert Facts.load(path).processes == {}
    Facts("another-boot", 5, {"a": ProcessFacts(pid=3)}).save(path)
    assert Facts.load(path).processes == {}
    for text in ("", "{", "[]", '{"version": 99}', '{"version": 1, "boot_id": 5, "processes": []}'):
        path.write_text(text)
        assert Facts.load(path).processes == {}


def test_a_field_of_a_later_version_is_left_out(tmp_path: Path) -> None:
    """What this version does not know does not stop it from adopting."""
    path = tmp_path / "adopt.json"
    Facts(boot_id(), 5, {"a": ProcessFacts(pid=3)}).save(path)
    data = json.loads(path.read_text())
    data["processes"]["a"]["colour"] = "blue"
    path.write_text(json.dumps(data))
    assert Facts.load(path).processes["a"].pid == 3


def test_a_full_disk_is_said_and_survived(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    """Notes that cannot be written are a line in the log, not the end."""
    Facts().save(tmp_path / "missing" / "adopt.json")
    Wish(tmp_path / "missing" / "wish.json").write("down")
    assert capfd.readouterr().err.count("cannot") == 2


def test_the_last_wish_is_kept_and_up_is_the_default(tmp_path: Path) -> None:
    """Nothing written, or nonsense, means up."""
    wish = Wish(tmp_path / "wish.json")
    assert wish.read() == "up"
    wish.write("down")
    assert wish.read() == "down"
    wish.write("up")
    assert wish.read() == "up"
    (tmp_path / "wish.json").write_text("[]")
    assert wish.read() == "up"
