"""Files that are hostile, broken, or no manifest at all."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import pytest

from sutazai import spec
from sutazai.errors import ConfigError, ConfigErrors
from sutazai.limits import MANIFEST_BYTES_MAX, MANIFEST_MISTAKES_MAX

if TYPE_CHECKING:
    from pathlib import Path

    from conftest import Load, Wrong


def only(path: Path) -> ConfigError:
    """Load a path that cannot be loaded for one reason."""
    with pytest.raises(ConfigErrors) as caught:
        spec.load(path)
    assert len(caught.value.exceptions) == 1
    mistake = caught.value.exceptions[0]
    assert isinstance(mistake, ConfigError)
    return mistake


def test_missing_file_names_the_one_that_was_meant(tmp_path: Path) -> None:
    """A missing file is named, and a file with a near name is proposed."""
    (tmp_path / "sutazai.yaml").write_text("fleet: a\n")
    mistake = only(tmp_path / "sutazi.yaml")
    assert mistake.problem == "there is no such file"
    assert "sutazai.yaml" in mistake.hint


def test_missing_folder_is_said(tmp_path: Path) -> None:
    """When the folder is missing too, that is the better news."""
    assert "does not exist either" in only(tmp_path / "no" / "sutazai.yaml").hint


def test_directory(tmp_path: Path) -> None:
    """A directory is refused, and the YAML file in it is proposed."""
    (tmp_path / "fleet.yaml").write_text("fleet: a\n")
    mistake = only(tmp_path)
    assert mistake.problem == "is a directory, not a file"
    assert "fleet.yaml" in mistake.hint


@pytest.mark.skipif(os.geteuid() == 0, reason="root reads everything")
def test_unreadable_file(tmp_path: Path) -> None:
    """A file without read permission says what to run."""
    path = tmp_path / "a.yaml"
    path.write_text("fleet: a\n")
    path.chmod(0)
    assert "chmod" in only(path).hint


def test_unreadable_file_by_any_user(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The same, with the kernel's refusal played, because root is never refused."""
    path = tmp_path / "a.yaml"
    path.write_text("fleet: a\n")

    def refuse(*_args: object, **_kw: object) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(type(path), "open", refuse)
    mistake = only(path)
    assert mistake.problem == "you may not read this file"
    assert "chmod +r" in mistake.hint


def test_io_error_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Any other refusal of the kernel comes with its own words."""
    path = tmp_path / "a.yaml"
    path.write_text("fleet: a\n")

    def refuse(*_args: object, **_kw: object) -> None:
        raise OSError(5, "Input/output error")

    monkeypatch.setattr(type(path), "open", refuse)
    assert only(path).problem == "cannot be read: Input/output error"


def test_fifo_is_refused_without_reading(tmp_path: Path) -> None:
    """A named pipe would be waited for without an end; it is refused."""
    path = tmp_path / "pipe.yaml"
    os.mkfifo(path)
    assert only(path).problem == "is no ordinary file"


@pytest.mark.parametrize("text", ["", "   \n\n", "\ufeff"])
def test_empty_file(tmp_path: Path, text: str) -> None:
    """An empty file, also one of blanks or of a byte order mark only, proposes an example."""
    path = tmp_path / "a.yaml"
    path.write_text(text)
    assert only(path).problem == "the file is empty"


def test_only_comments(tmp_path: Path) -> None:
    """A file of comments holds nothing to run."""
    path = tmp_path / "a.yaml"
    path.write_text("# nothing\n")
    assert only(path).problem == "the file holds only comments"


def test_ten_megabytes_are_refused_unread(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A 10 MB file is refused by its size alone; it is not opened."""
    path = tmp_path / "a.yaml"
    path.write_bytes(b"a: 1\n" * (10 * 1024 * 1024 // 5))
    monkeypatch.setattr(type(path), "open", lambda *_a, **_k: pytest.fail("it was opened"))
    mistake = only(path)
    assert "10 MB long" in mistake.problem
    assert "4 MB" in mistake.problem


def test_file_that_grows_while_read_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The limit also holds for what is read, not only for what the size says (a file in /proc has size 0)."""
    path = tmp_path / "a.yaml"
    path.write_bytes(b"#" * (MANIFEST_BYTES_MAX + 10))
    real = path.stat()

    class Small:
        st_mode = real.st_mode
        st_size = 0

    monkeypatch.setattr(type(path), "stat", lambda *_a, **_k: Small())
    assert "long" in only(path).problem


def test_alias_bomb(wrong: Wrong) -> None:
    """Nine aliases that stand for ten each would unfold to a billion values; they are refused at once."""
    lines = ["a0: &a0 [x, x, x, x, x, x, x, x, x, x]"]
    lines += [f"a{i}: &a{i} [{', '.join([f'*a{i - 1}'] * 10)}]" for i in range(1, 10)]
    (mistake,) = wrong("\n".join(lines))
    assert "unfolds to more than" in mistake.problem
    assert mistake.line > 1


def test_alias_into_itself(wrong: Wrong) -> None:
    """A value that contains itself is refused."""
    (mistake,) = wrong("fleet: a\nservices: &s\n  x: *s\n")
    assert mistake.problem == "the alias *s contains itself"


def test_alias_without_anchor(wrong: Wrong) -> None:
    """An alias without an anchor says which anchor is missing."""
    (mistake,) = wrong("fleet: *name\n")
    assert mistake.problem == "the alias *name has no anchor"


def test_anchors_and_merge_keys_work(load: Load) -> None:
    """Anchors, aliases and merge keys are as in Compose; a written key wins over a merged one."""
    manifest = load(
        "fleet: a\n"
        "services:\n"
        "  one: &base {command: sleep 1, memory: 64MB, weight: 50}\n"
        "  two:\n    <<: *base\n    memory: 96MB\n"
    )
    assert manifest.services["two"].memory_bytes == 96 * 2**20
    assert manifest.services["two"].cpu.weight == 50


def test_merge_of_a_word(wrong: Wrong) -> None:
    """A merge key takes keys with values only."""
    (mistake,) = wrong("fleet: a\nservices:\n  a:\n    <<: nonsense\n    command: x\n    memory: 1MB\n")
    assert "<< takes an alias" in mistake.problem


def test_deep_nesting(wrong: Wrong) -> None:
    """A hundred thousand brackets neither hang nor end the stack."""
    (mistake,) = wrong("a: " + "[" * 100_000)
    assert "nested deeper than" in mistake.problem


def test_tab(wrong: Wrong) -> None:
    """A tab as indentation is named as what it is."""
    (mistake,) = wrong("fleet: a\nhost:\n\tmemory: 4GB\n")
    assert mistake.problem == "a tab is used as indentation"
    assert (mistake.line, mistake.column) == (3, 1)
    assert "spaces" in mistake.hint


def test_byte_order_mark_is_fine(load: Load) -> None:
    """Editors of another system put a mark first; that is no mistake."""
    assert load("\ufefffleet: a\n").fleet == "a"


def test_not_utf8(wrong: Wrong) -> None:
    """A Latin-1 file shows the line and column of the first wrong byte."""
    (mistake,) = wrong(b"fleet: a\n# caf\xe9\n")
    assert "0xe9" in mistake.problem
    assert (mistake.line, mistake.column) == (2, 6)


def test_utf16(wrong: Wrong) -> None:
    """UTF-16 is recognised and named."""
    (mistake,) = wrong("fleet: a\n".encode("utf-16"))
    assert mistake.problem == "is UTF-16, not UTF-8"


def test_control_character(wrong: Wrong) -> None:
    """A control character is named with its place."""
    (mistake,) = wrong(b"fleet: a\nhost: \x07\n")
    assert "U+0007" in mistake.problem
    assert mistake.line == 2


@pytest.mark.parametrize(
    ("text", "kind"), [("- a\n- b\n", "a list"), ("just words\n", "a single value"), ("12\n", "a single value")]
)
def test_no_mapping(wrong: Wrong, text: str, kind: str) -> None:
    """A list or a single value is no manifest."""
    (mistake,) = wrong(text)
    assert mistake.problem.startswith(f"holds {kind}")


def test_two_documents(wrong: Wrong) -> None:
    """One file holds one fleet."""
    (mistake,) = wrong("fleet: a\n---\nfleet: b\n")
    assert mistake.problem == "a second document begins here"
    assert mistake.line == 2


def test_tags_are_refused(wrong: Wrong) -> None:
    """Tags that could make objects are refused, and so are all others."""
    (mistake,) = wrong("fleet: !!python/object/apply:os.system ['true']\n")
    assert "tag" in mistake.problem


@pytest.mark.parametrize("text", ["fleet: a: b\n", "fleet: [a\n", 'fleet: "a\n', "fleet a\nhost: b\n", "fleet: @a\n"])
def test_broken_yaml_has_a_place_and_a_hint(wrong: Wrong, text: str) -> None:
    """What the parser refuses has a line, a column and a hint."""
    (mistake,) = wrong(text)
    assert mistake.problem.startswith("is no YAML")
    assert mistake.line >= 1
    assert mistake.column >= 1
    assert mistake.hint


def test_duplicate_key(wrong: Wrong) -> None:
    """A key that is written twice names both lines."""
    (mistake,) = wrong("fleet: a\nport_offset: 1\nfleet: b\n")
    assert mistake.problem == "fleet is written twice"
    assert mistake.line == 3
    assert "line 1" in mistake.hint


def test_duplicate_service_is_a_duplicate_key(wrong: Wrong) -> None:
    """Two services of one name are found although they stand far apart."""
    (mistake,) = wrong("fleet: a\nservices:\n  x: {command: y, memory: 1MB}\n  x: {command: z, memory: 1MB}\n")
    assert mistake.problem == "x is written twice"


def test_key_that_is_a_list(wrong: Wrong) -> None:
    """A list as a key is refused."""
    assert any("a key must be a plain word" in mistake.problem for mistake in wrong("fleet: a\n? [a, b]\n: c\n"))


def test_more_mistakes_than_are_shown(wrong: Wrong, tmp_path: Path) -> None:
    """Beyond the limit mistakes are counted, not printed."""
    text = "fleet: a\n" + "".join(f"zz{number}: 1\n" for number in range(MANIFEST_MISTAKES_MAX + 20))
    assert len(wrong(text)) == MANIFEST_MISTAKES_MAX
    with pytest.raises(ConfigErrors, match="120 mistakes, the first 100 are shown"):
        spec.load(tmp_path / "sutazai.yaml")


def test_mistakes_come_in_the_order_of_the_file(wrong: Wrong) -> None:
    """All mistakes are given at once, sorted by line."""
    found = wrong("fleet: A\nport_offset: x\nnonsense: 1\nhost: {memory: 5}\n")
    assert [mistake.line for mistake in found] == [1, 2, 3, 4]
    assert str(found[3]).endswith("sutazai.yaml:4:16: host.memory: 5 has no unit (write 5MB or 5GB)")
