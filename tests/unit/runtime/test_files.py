"""Files reach an agent from allowed folders only, within bounds, and whatever else is there is refused by name."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from sutazai.runtime import NonRetryableError, files

if TYPE_CHECKING:
    from pathlib import Path


def test_a_tree_is_read_within_its_bounds(tmp_path: Path) -> None:
    """Names are relative and in order; other endings, hidden folders and bytes that are no text are left out."""
    for name, data in {"b.py": b"2", "a/x.py": b"1", "a/.git/c.py": b"3", "n.txt": b"4", "bad.py": b"\xff\xfe"}.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_bytes(data)
    settings = {"folders": [str(tmp_path)]}
    assert files.read_tree(str(tmp_path), settings, (".py",), files_max=9, bytes_max=99) == {"a/x.py": "1", "b.py": "2"}
    for bounds in ({"files_max": 1, "bytes_max": 99}, {"files_max": 9, "bytes_max": 2}):
        with pytest.raises(NonRetryableError, match=r"give a smaller folder|the limit is"):
            files.read_tree(str(tmp_path), settings, (".py",), **bounds)
    with pytest.raises(NonRetryableError, match=r"no file that ends in \.rs"):
        files.read_tree(str(tmp_path), settings, (".rs",), files_max=9, bytes_max=99)


def test_settings_that_are_no_list_of_folders_are_refused() -> None:
    """A relative folder or another type in the manifest is a mistake that is told, not an open door."""
    for wrong in ("/srv", ["srv"], [1]):
        with pytest.raises(NonRetryableError, match="a list of absolute paths"):
            files.read("/srv/a", {"folders": wrong}, 10)


def test_a_folder_that_is_a_link_leads_nowhere_else(tmp_path: Path) -> None:
    """A link inside of an allowed folder does not open what lies outside."""
    (tmp_path / "in").mkdir()
    (tmp_path / "out").mkdir()
    (tmp_path / "out/secret").write_text("x")
    (tmp_path / "in/door").symlink_to(tmp_path / "out")
    with pytest.raises(NonRetryableError, match="outside of the folders"):
        files.read(str(tmp_path / "in/door/secret"), {"folders": [str(tmp_path / "in")]}, 10)


def test_a_file_beyond_the_limit_is_named_with_both_sizes(tmp_path: Path) -> None:
    """The message says how large it is and how large it may be."""
    (tmp_path / "a").write_bytes(b"x" * 2048)
    with pytest.raises(NonRetryableError, match="2 KB; the limit is 1 KB"):
        files.read(str(tmp_path / "a"), {"folders": [str(tmp_path)]}, 1024)


@pytest.mark.parametrize("name", ["", "/a", "../a", "a/../../b", ".a", "a/.b", "a\\b", "a/", "a\0"])
def test_a_name_that_leads_elsewhere_is_refused(name: str, tmp_path: Path) -> None:
    """Nothing is written outside of the folder, whatever the name."""
    with pytest.raises(NonRetryableError, match="no relative name"):
        files.write_tree(tmp_path, {name: "x"})
    assert list(tmp_path.iterdir()) == []
