"""Results that are too large for a commit: how they come in and go out, and that no file is lost or left over."""

from __future__ import annotations

import hashlib
import os
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import msgspec
import pytest
from broker_rig import Peer, Rig

from sutazai.bus.group import run_group, settle
from sutazai.bus.spill_files import SpillFiles
from sutazai.limits import PART_BYTES_MAX, SPILLED_SWEEP_MS
from sutazai.store.model import Purge
from sutazai.store.protocol import DiskFullError
from sutazai.wire.planfacts import AgentFacts

if TYPE_CHECKING:
    from pathlib import Path

DATA = b'"' + b"x" * (PART_BYTES_MAX + 1_000) + b'"'
DIGEST = f"sha256:{hashlib.sha256(DATA).hexdigest()}"
AGENTS = {name: AgentFacts(name, "m", skills=[{"name": "do"}], instances_max=9) for name in ("a", "b")}


class Parts(Peer):
    """A peer that keeps raw bytes too."""

    def send(self, message: dict[str, Any], blobs: Any = (), /) -> None:
        super().send(message)
        self.heard[-1]["parts"] = list(blobs)


class Desk(Rig):
    """A rig with a folder for large results."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.later: list[Any] | None = None
        super().__init__()

    def start(self, **_: Any) -> None:
        super().start(is_open=True, agents=AGENTS)
        self.broker.spill.serve(SpillFiles(self.folder, 0), self.run)
        self.broker.tick()
        self.settle()

    def run(self, step: Any, done: Any) -> None:
        """Do a step now, or when ``catch_up`` says so."""
        if self.later is not None:
            self.later.append((step, done))
            return
        try:
            found = step()
        except Exception as error:  # noqa: BLE001 as the thread does it
            found = error
        done(found)

    def catch_up(self) -> None:
        """Do the steps that wait."""
        steps, self.later = self.later or [], None
        for step, done in steps:
            self.run(step, done)
        self.settle()

    def connect(self, hello: dict[str, Any]) -> tuple[Peer, Any]:
        peer = Parts()
        session = self.broker.connected(peer)
        self.broker.received(session, {**hello, "files": hello.get("files", True)})
        self.settle()
        return peer, session

    def turn(self, agent: str = "a", ticket: str = "k", **hello: Any) -> tuple[Any, Peer, dict[str, Any]]:
        """Have an instance take a turn."""
        peer, session = self.instance(agent, ticket, **hello)
        self.say(session, {"t": "pull"})
        return session, peer, next(message for message in peer.heard if message["t"] == "turn")

    def ask(self, session: Any, message: dict[str, Any], blobs: tuple[bytes, ...] = ()) -> dict[str, Any]:
        """Ask and give the answer."""
        self.broker.received(session, {**message, "id": 7}, blobs)
        self.settle()
        answer = session.peer.heard.pop()
        assert answer["re"] == 7, answer
        return answer

    def upload(self, session: Any, turn: dict[str, Any], data: bytes = DATA, **fields: Any) -> dict[str, Any]:
        """Send a result in parts; gives the last answer."""
        for offset in range(0, len(data), PART_BYTES_MAX):
            message = {"t": "upload", **held(turn), "offset": offset, "bytes": len(data), "digest": DIGEST, **fields}
            answer = self.ask(session, message, (data[offset : offset + PART_BYTES_MAX],))
            if answer["t"] == "error":
                break
        return answer

    def files(self) -> list[str]:
        """What lies in the folder."""
        return sorted(path.name for path in self.folder.iterdir())

    def sweep(self) -> None:
        """Let time pass until the folder has been looked through."""
        self.pass_time(SPILLED_SWEEP_MS + 1_000)


def held(turn: dict[str, Any]) -> dict[str, Any]:
    """Which turn is meant."""
    return {"task": turn["task"]["id"], "fence": turn["fence"]}


def commit(turn: dict[str, Any], **fields: Any) -> dict[str, Any]:
    """Commit the large result."""
    reference = {"bytes": len(DATA), "digest": DIGEST}
    return {"t": "commit", **held(turn), "outcome": "result", "result_ref": reference, **fields}


@pytest.fixture
def desk(tmp_path: Path) -> Desk:
    """A broker with a folder."""
    return Desk(tmp_path / "payloads")


def test_a_result_comes_in_parts_and_its_row_names_the_file(desk: Desk) -> None:
    """The commit is asked for it, takes it when it is whole, and the same commit again is answered the same."""
    task = desk.submit(deadline_ms=10_000_000)
    session, _, turn = desk.turn()
    assert desk.ask(session, commit(turn))["code"] == "upload-missing"
    assert desk.status(task) == "leased"
    assert desk.upload(session, turn) == {"t": "uploaded", "offset": len(DATA), "re": 7, "parts": []}
    assert desk.ask(session, commit(turn))["status"] == "succeeded"
    assert desk.ask(session, commit(turn))["status"] == "succeeded"
    client, talk = desk.client()
    desk.say(talk, {"t": "get", "id": 1, "task": task})
    reference = client.heard.pop()["task"]["result_ref"]
    assert (reference["bytes"], reference["digest"], reference["media"]) == (len(DATA), DIGEST, "application/json")
    assert desk.files() == [reference["file"]]
    assert (desk.folder / reference["file"]).read_bytes() == DATA
    assert (desk.folder / reference["file"]).stat().st_mode & 0o777 == 0o600
    desk.sweep()
    assert desk.files() == [reference["file"]], "what a row names stays"


@pytest.mark.parametrize(
    ("fields", "data", "code"),
    [
        ({"offset": 5}, b"x", "upload-missing"),
        ({"bytes": 2}, b"xxx", "upload-missing"),
        ({"bytes": 3}, b"xxx", "invalid-input"),  # another digest
        ({"bytes": 64 * 1024 * 1024 + 1}, b"x", "invalid-input"),
        ({"digest": "sha256:00"}, b"x", "invalid-input"),
        ({"fence": 99}, b"x", "fenced"),
        ({}, b"", "invalid-input"),
        ({}, b"x" * (PART_BYTES_MAX + 1), "invalid-input"),
    ],
)
def test_a_wrong_part_is_refused(desk: Desk, fields: dict[str, Any], data: bytes, code: str) -> None:
    """With a reason; nothing of it stays on the disk, and the turn goes on."""
    task = desk.submit()
    session, _, turn = desk.turn()
    message = {"t": "upload", **held(turn), "offset": 0, "bytes": len(DATA), "digest": DIGEST, **fields}
    answer = desk.ask(session, message, (data,))
    assert (answer["t"], answer["code"]) == ("error", code), answer
    assert not [name for name in desk.files() if not name.endswith(".part")]
    desk.sweep()
    assert desk.files() == []
    assert desk.status(task) in {"leased", "queued", "expired"}


def test_a_result_above_the_limit_says_what_to_do(desk: Desk) -> None:
    """The message names the agent, its limit, and the setting."""
    desk.submit()
    session, _, turn = desk.turn()
    message = {"t": "upload", **held(turn), "offset": 0, "bytes": 80 * 1024 * 1024, "digest": DIGEST}
    answer = desk.ask(session, message, (b"x",))
    assert "80 MB" in answer["detail"]
    assert "limit of a is 64 MB" in answer["detail"]
    assert "result_max" in answer["detail"]


def test_raw_parts_belong_to_uploads_alone(desk: Desk) -> None:
    """One to each."""
    desk.submit()
    session, _, turn = desk.turn()
    message = {"t": "upload", **held(turn), "offset": 0, "bytes": 2, "digest": DIGEST}
    for wrong, blobs in ((message, (b"x", b"x")), ({"t": "heartbeat", **held(turn)}, (b"x",))):
        assert desk.ask(session, wrong, blobs)["code"] == "invalid-input"
    assert desk.ask(session, message)["code"] == "invalid-input"


def test_a_second_part_waits_for_the_first_one(desk: Desk) -> None:
    """So the broker holds one part of each upload; while the disk is slow the lease is kept."""
    desk.submit(deadline_ms=10_000_000)
    session, peer, turn = desk.turn()
    desk.later = []
    message = {"t": "upload", **held(turn), "offset": 0, "bytes": len(DATA), "digest": DIGEST, "id": 8}
    desk.broker.received(session, message, (DATA[:PART_BYTES_MAX],))
    assert desk.ask(session, {**message, "offset": PART_BYTES_MAX}, (DATA[PART_BYTES_MAX:],))["code"] == "queue-full"
    desk.pass_time(60_000)
    desk.catch_up()
    assert [entry["offset"] for entry in peer.heard if entry["t"] == "uploaded"] == [PART_BYTES_MAX]
    last = {**message, "offset": PART_BYTES_MAX}
    assert desk.ask(session, last, (DATA[PART_BYTES_MAX:],))["offset"] == len(DATA)
    assert desk.ask(session, commit(turn))["status"] == "succeeded"


def test_a_full_disk_refuses_it_and_the_turn_keeps_it(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    """Before a byte is written, and in the middle; nothing stays; later the same upload is taken."""
    task = desk.submit()
    session, _, turn = desk.turn()
    real, left = os.statvfs, [1]
    monkeypatch.setattr(os, "statvfs", lambda _: SimpleNamespace(f_bavail=left[0], f_frsize=1))
    assert desk.upload(session, turn)["code"] == "storage-full"
    left[0] = 10 * PART_BYTES_MAX
    message = {"t": "upload", **held(turn), "offset": 0, "bytes": len(DATA), "digest": DIGEST}
    assert desk.ask(session, message, (DATA[:PART_BYTES_MAX],))["t"] == "uploaded"
    left[0] = 1
    last = {**message, "offset": PART_BYTES_MAX}
    assert desk.ask(session, last, (DATA[PART_BYTES_MAX:],))["code"] == "storage-full"
    assert desk.files() == []
    monkeypatch.setattr(os, "statvfs", real)
    assert desk.upload(session, turn)["t"] == "uploaded"
    assert desk.ask(session, commit(turn))["status"] == "succeeded"
    assert desk.status(task) == "succeeded"


def test_an_error_of_the_disk_is_told_as_one_that_may_pass(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    """The instance tries again; the broker lives on."""
    desk.submit()
    session, _, turn = desk.turn()

    def fail(_: int) -> None:
        raise OSError(5, "Input/output error")

    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", fail)
        answer = desk.upload(session, turn)
    assert (answer["code"], "Input/output" in answer["detail"]) == ("unavailable", True)
    assert desk.upload(session, turn)["t"] == "uploaded"


def test_an_upload_of_a_lost_turn_leaves_nothing(desk: Desk) -> None:
    """Neither a half one nor a whole one."""
    for whole in (False, True):
        desk.submit(attempts_max=1)
        session, _, turn = desk.turn(ticket=f"k{whole}")
        if whole:
            desk.upload(session, turn)
        else:
            message = {"t": "upload", **held(turn), "offset": 0, "bytes": len(DATA), "digest": DIGEST}
            desk.ask(session, message, (DATA[:PART_BYTES_MAX],))
        assert len(desk.files()) == 1
        desk.broker.disconnected(session)
        desk.pass_time(5_000)
        assert desk.files() == []


def test_a_sweep_takes_no_file_that_a_commit_under_way_names(desk: Desk) -> None:
    """The sweep's question to the store stands in the same group as the commit, before it and behind it."""
    for commit_first in (True, False):
        task = desk.submit()
        session, peer, turn = desk.turn(ticket=f"k{commit_first}")
        desk.upload(session, turn)
        name = next(iter(set(desk.files()) - desk_rows(desk)))

        def ask(session: Any = session, turn: dict[str, Any] = turn) -> None:
            desk.broker.received(session, {**commit(turn), "id": 9})

        if commit_first:
            ask()
        desk.broker.spill._listed([*desk.files(), f"{'0' * 64}-{'0' * 16}"])
        desk.broker.spill._forget([name])
        if not commit_first:
            ask()
        broker = desk.broker
        group = run_group(desk.store, desk.broker_clock, broker.journal.take(), broker.hooks)
        desk.store.commit(desk.broker_clock.reading())
        broker.committed(group.done)
        settle(group.done)
        desk.settle()
        assert desk.status(task) == "succeeded"
        assert name in desk.files()
        desk.sweep()
        assert name in desk.files()
        assert peer.heard


def desk_rows(desk: Desk) -> set[str]:
    """Files that rows name."""
    return {name for (name,) in desk.store._connection.execute("SELECT file FROM spilled")}


def test_a_commit_that_is_refused_for_a_full_disk_keeps_its_file(desk: Desk) -> None:
    """It is repeated without a new upload; a commit that is refused for good leaves none."""
    desk.submit()
    session, _, turn = desk.turn()
    desk.upload(session, turn)
    desk.broker.received(session, {**commit(turn), "id": 9})
    for entry in desk.broker.journal.take():
        entry.done(DiskFullError("full"))
    desk.pass_time(1_000)
    assert len(desk.files()) == 1
    assert desk.ask(session, commit(turn, emits=[{"agent": "nobody", "skill": "x"}]))["status"] == "failed"
    desk.pass_time(1_000)
    assert desk.files() == []


def test_a_restart_removes_what_no_row_names(desk: Desk) -> None:
    """Half files at once, whole ones with the first sweep; the instance uploads again and is committed once."""
    kept = desk.submit()
    session, _, turn = desk.turn()
    desk.upload(session, turn)
    desk.ask(session, commit(turn))
    task = desk.submit(deadline_ms=10_000_000)
    session, _, turn = desk.turn(ticket="k2")
    desk.upload(session, turn)
    (desk.folder / "half.part").write_bytes(b"x")
    assert len(desk.files()) == 3
    desk.start()
    desk.sweep()
    assert set(desk.files()) == desk_rows(desk)
    assert desk.status(kept) == "succeeded"
    _, session = desk.instance("a", "k3")
    desk.say(session, {"t": "pull"})
    turn = next(message for message in session.peer.heard if message["t"] == "turn")
    assert (turn["task"]["id"], desk.ask(session, commit(turn))["code"]) == (task, "upload-missing")
    desk.upload(session, turn)
    assert desk.ask(session, commit(turn))["status"] == "succeeded"
    assert len(desk.files()) == 2


def test_a_forgotten_task_takes_its_file_along(desk: Desk) -> None:
    """After the commit that forgets it."""
    desk.submit()
    session, _, turn = desk.turn()
    desk.upload(session, turn)
    desk.ask(session, commit(turn, pull=False))
    assert len(desk.files()) == 1
    desk.store.begin()
    outcome = desk.store.apply(Purge(0), desk.broker_clock.now_ms(), 0)
    assert (outcome.reply, len(outcome.files)) == (1, 1)
    desk.store.rollback()
    desk.broker.journal.enqueue(Purge(0), lambda _: None)
    desk.settle()
    assert desk.files() == []


def parent_of_large(desk: Desk, **hello: Any) -> tuple[Any, dict[str, Any]]:
    """Have a task of ``a`` wait for one of ``b`` whose result is large; gives the turn that goes on."""
    desk.submit("a", deadline_ms=10_000_000)
    boss, peer, turn = desk.turn("a", "boss", **hello)
    emits = [{"id": "child", "agent": "b", "skill": "do", "input": {}}]
    wait = {"tasks": ["child"], "then": "go", "carry": None}
    desk.ask(boss, {"t": "commit", **held(turn), "outcome": "wait", "emits": emits, "wait": wait})
    session, _, inner = desk.turn("b", "child")
    desk.upload(session, inner)
    desk.ask(session, commit(inner))
    peer.heard.clear()
    desk.say(boss, {"t": "pull"})
    return boss, next(message for message in peer.heard if message["t"] == "turn")


def test_a_parent_reads_the_result_of_its_child_in_parts(desk: Desk) -> None:
    """As they were stored; who did not ask for the task, and who holds no turn, gets nothing."""
    boss, turn = parent_of_large(desk)
    (result,) = turn["task"]["results"]
    assert (result["result"], result["error"], result["result_ref"]["digest"]) == (None, None, DIGEST)
    got = b""
    while len(got) < result["result_ref"]["bytes"]:
        answer = desk.ask(boss, {"t": "download", **held(turn), "of": "child", "offset": len(got)})
        assert (answer["t"], answer["bytes"], answer["digest"]) == ("downloaded", len(DATA), DIGEST)
        (part,) = answer["parts"]
        assert len(part) <= PART_BYTES_MAX
        got += part
    assert msgspec.json.decode(got) == msgspec.json.decode(DATA)
    question = {"t": "download", **held(turn), "of": "child", "offset": 0}
    assert desk.ask(boss, {**question, "fence": 99})["code"] == "fenced"
    assert desk.ask(boss, {**question, "of": "t_nobody"})["code"] == "not-found"
    own = desk.submit("b")
    assert desk.ask(boss, {**question, "of": own})["code"] == "refused"
    (desk.folder / desk.files()[0]).unlink()
    assert desk.ask(boss, question)["code"] == "not-found"


def test_a_worker_that_reads_no_files_is_told_so(desk: Desk) -> None:
    """An older one, or one of another language: the child succeeded, and why its result is not there."""
    boss, turn = parent_of_large(desk, files=False)
    (result,) = turn["task"]["results"]
    assert (result["status"], result["result_ref"], result["error"]["code"]) == ("succeeded", None, "results-too-large")
    answer = desk.ask(boss, {"t": "recall", **held(turn), "results": ["child"]})
    assert answer["results"][0]["error"]["code"] == "results-too-large"
