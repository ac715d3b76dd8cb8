"""Answers for people: texts as text, the rest as an aligned listing, nothing of it steers the terminal."""

from __future__ import annotations

import io
import json
import sys
from typing import TYPE_CHECKING, Any, Self

import pytest

from sutazai.cli import ask, fleets, logs, restart, task
from sutazai.cli.exits import REFUSED, CliError
from sutazai.cli.reading import readable
from sutazai.errors import NotFoundError
from sutazai.paths import FleetPaths

if TYPE_CHECKING:
    from pathlib import Path


@pytest.mark.parametrize("field", ["report", "markdown", "text"])
def test_a_text_field_is_the_answer_and_the_rest_is_named(field: str) -> None:
    """Markdown comes as it was written; what is not shown is told, so that nothing hides."""
    given = {"complete": False, field: "# Title\n\n- one\n", "missing": ["b"]}
    assert readable(given) == ("# Title\n\n- one", ["complete", "missing"])


def test_an_empty_text_field_does_not_hide_the_findings() -> None:
    """A report that could not be written is no answer: all fields are listed."""
    text, left_out = readable({"report": "", "findings": [1]})
    assert (text.splitlines(), left_out) == (['report    ""', "findings  1"], [])


@pytest.mark.parametrize(
    ("given", "shown"),
    [
        ("Hello", "Hello"),
        ("", '""'),
        (None, "null"),
        (1.5, "1.5"),
        (True, "true"),
        ({}, "{}"),
        ([], "[]"),
        (["a", "b"], "- a\n- b"),
        ({"n": 1, "long_name": None, "tags": ["x", "y"]}, "n          1\nlong_name  null\ntags       x, y"),
        ({"a": {"b": 1, "cc": {}}}, "a\n  b   1\n  cc  {}"),
        ({"a": [{"b": 1, "c": 2}, 3]}, "a\n  - b  1\n    c  2\n  - 3"),
        ({"a": "one\ntwo", "b": [[1, 2]]}, "a\n  one\n  two\nb\n  - 1, 2"),
    ],
)
def test_anything_else_is_a_listing(given: Any, shown: str) -> None:
    """A string is itself; names are aligned, and each level is indented below its own."""
    assert readable(given) == (shown, [])


@pytest.mark.parametrize(
    "given", ["a\x1b[2Jb", {"text": "a\x1b[2Jb"}, {"a\x1b[2Jb": 1}, ["a\x9b2Jb\r"], {"x": "\u202ea"}]
)
def test_an_answer_cannot_steer_the_terminal(given: Any) -> None:
    """An agent, or the text that it read, may hold escape sequences: they are shown as a replacement character."""
    text, _ = readable(given)
    assert "\N{REPLACEMENT CHARACTER}" in text
    assert not set(text) & set("\x1b\x9b\r\u202e")


@pytest.mark.parametrize(("terminal", "as_json"), [(False, False), (False, True), (True, True)])
def test_programs_get_json(
    *, terminal: bool, as_json: bool, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """With --json, and when nobody sits at a terminal, the output is JSON as before: the task or its result."""
    monkeypatch.setattr(sys.stdout, "isatty", lambda: terminal)
    done = {"id": "t_1", "status": "succeeded", "result": {"report": "# T"}}
    ask._answer(done, as_json=as_json)
    told = capsys.readouterr()
    assert (json.loads(told.out), told.err) == (done if as_json else done["result"], "")


def test_a_person_gets_the_text(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    """On a terminal the report is printed, and standard error says where the rest is."""
    monkeypatch.setattr(sys.stdout, "isatty", lambda: True)
    ask._answer({"id": "t_1", "status": "succeeded", "result": {"report": "# T", "goal": "g"}}, as_json=False)
    assert capsys.readouterr() == ("# T\n", "not shown: goal; all of it: sutazai task show t_1\n")


PLAN = {
    "processes": [{"name": "broker", "kind": "platform"}, {"name": "zygote", "kind": "worker"}],
    "workers": [{"name": "python-0"}],
    "agents": [
        {"name": "plain"},
        {"name": "old", "upstream": {"service": "old-server", "url": "http://127.0.0.1:1"}},
        {"name": "far", "upstream": {"service": "", "url": "http://10.0.0.9:80"}},
    ],
}


@pytest.fixture
def paths(tmp_path: Any, monkeypatch: pytest.MonkeyPatch) -> FleetPaths:
    """A fleet's folders with a plan."""
    monkeypatch.setenv("SUTAZAI_STATE_ROOT", str(tmp_path / "s"))
    monkeypatch.setenv("SUTAZAI_RUN_ROOT", str(tmp_path / "r"))
    monkeypatch.setenv("SUTAZAI_FLEET", "f")
    found = FleetPaths.of("f")
    found.logs.mkdir(parents=True)
    found.plan.write_text(json.dumps(PLAN))
    return found


def test_a_workers_lines_are_those_of_the_zygote(paths: FleetPaths, capsys: pytest.CaptureFixture[str]) -> None:
    """A worker has no log of its own: the one it writes to is shown, and standard error says so."""
    (paths.logs / "zygote.log").write_text("hello\n")
    logs.run("python-0", lines=50, follow=False, as_json=False)
    told = capsys.readouterr()
    assert told.out == "hello\n"
    assert "forked by zygote" in told.err


@pytest.mark.parametrize("plan", [None, "{broken", "[]"])
def test_without_a_plan_a_worker_is_an_unknown_log(plan: str | None, paths: FleetPaths) -> None:
    """Logs are read when nothing else works: a plan that is missing or damaged only takes the hint away."""
    paths.plan.unlink() if plan is None else paths.plan.write_text(plan)
    (paths.logs / "zygote.log").write_text("hello\n")
    with pytest.raises(CliError, match="there are: zygote") as caught:
        logs.run("python-0", lines=50, follow=False, as_json=False)
    assert caught.value.code == REFUSED


class NoSuchProcess:
    """A supervisor that knows no process."""

    def __init__(self, _fleet: str) -> None:
        """Take what the client takes."""

    def __enter__(self) -> Self:
        """Be a client."""
        return self

    def __exit__(self, *_: object) -> None:
        """Leave nothing."""

    def restart(self, name: str) -> None:
        """Refuse as ``sutazaid`` does."""
        raise NotFoundError(f"there is no process {name!r} in this fleet")


@pytest.mark.parametrize(
    ("agent", "told"),
    [
        ("plain", "plain is an agent, not a process.*reads its code anew.*sutazai up MANIFEST"),
        ("old", "old is an agent, not a process.*sutazai restart old-server"),
        ("far", "far is an agent, not a process.*http://10.0.0.9:80, which this fleet does not run"),
    ],
)
def test_an_agent_is_not_restarted_and_the_message_says_what_to_do(
    agent: str, told: str, paths: FleetPaths, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By what the agent is: code, a server of the fleet, a server elsewhere."""
    monkeypatch.setattr(fleets, "paths_of", lambda _fleet: paths)
    monkeypatch.setattr(restart, "SupervisorClient", NoSuchProcess)
    with pytest.raises(CliError, match=told) as caught:
        restart.run(agent, fleet=None, as_json=False)
    assert caught.value.code == REFUSED


def test_an_unknown_process_is_refused_as_before(paths: FleetPaths, monkeypatch: pytest.MonkeyPatch) -> None:
    """Neither process nor agent: the supervisor's own words."""
    monkeypatch.setattr(fleets, "paths_of", lambda _fleet: paths)
    monkeypatch.setattr(restart, "SupervisorClient", NoSuchProcess)
    with pytest.raises(NotFoundError, match="no process 'nobody'"):
        restart.run("nobody", fleet=None, as_json=False)


class Client:
    """Has one large result."""

    def open_result(self, _: dict[str, Any]) -> io.BytesIO:
        """Open it."""
        return io.BytesIO(b'"large"')


@pytest.mark.parametrize("terminal", [True, False])
def test_a_large_result_is_for_programs(
    *, terminal: bool, monkeypatch: pytest.MonkeyPatch, capsysbinary: pytest.CaptureFixture[bytes]
) -> None:
    """A person is told how to get it; a program gets all of it."""
    monkeypatch.setattr(sys.stdout, "isatty", lambda: terminal)
    done = {"id": "t_1", "result": None, "result_ref": {"bytes": 20 * 1024 * 1024}}
    assert ask._in_file(Client(), done)  # type: ignore[arg-type]
    out, err = capsysbinary.readouterr()
    assert out == (b"" if terminal else b'"large"\n')
    assert (b"20 MB; write it to a file: sutazai task result t_1 --output FILE" in err) is terminal
    assert not ask._in_file(Client(), {"id": "t_2", "result": 1})  # type: ignore[arg-type]


def test_a_result_is_written_whole_or_not_at_all(tmp_path: Path) -> None:
    """What was there stays when the new one cannot be written."""
    place = tmp_path / "result.json"
    task.write_whole(io.BytesIO(b"1"), place)

    class Cut(io.BytesIO):
        def read(self, _: int | None = -1, /) -> bytes:
            raise OSError(5, "Input/output error")

    with pytest.raises(CliError, match="cannot be written: Input/output error"):
        task.write_whole(Cut(), place)
    assert [path.name for path in tmp_path.iterdir()] == ["result.json"]
    assert place.read_bytes() == b"1"
    with pytest.raises(CliError, match="nowhere"):
        task.write_whole(io.BytesIO(b"1"), tmp_path / "nowhere" / "x")
