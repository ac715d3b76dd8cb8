"""The verbs without a fleet: exit codes, messages that say what to do, readable logs, inputs."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from sutazai.cli import ask, demo, fleets, logs, output, status
from sutazai.cli.app import main
from sutazai.cli.exits import BAD_MANIFEST, FAILED, NOT_UP, OK, REFUSED, CliError

ROOT = Path(__file__).parents[3]
DEMO = str(ROOT / "fleets/demo.yaml")


@pytest.fixture(autouse=True)
def own_roots(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Give each test state and sockets of its own."""
    monkeypatch.setenv("SUTAZAI_STATE_ROOT", str(tmp_path / "s"))
    monkeypatch.setenv("SUTAZAI_RUN_ROOT", str(tmp_path / "r"))
    monkeypatch.delenv("SUTAZAI_FLEET", raising=False)
    return tmp_path


def run(monkeypatch: pytest.MonkeyPatch, *words: str) -> int:
    """Run the command line in this process and give its exit code."""
    monkeypatch.setattr(sys, "argv", ["sutazai", *words])
    with pytest.raises(SystemExit) as stop:
        main()
    code = stop.value.code
    return code if isinstance(code, int) else 0


def test_plan_for_a_named_host_fits(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    """The demonstration's fleet is proved for the blueprint's host from any machine."""
    assert run(monkeypatch, "plan", DEMO, "--host", "12c,29.38GB") == OK
    assert "demo fits" in capsys.readouterr().out


@pytest.mark.parametrize("profile", ["embedded", "standard"])
def test_the_demonstration_fits_a_small_host(
    profile: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Its pools hold the servers of the standard profile too, on the smallest machine that is promised."""
    assert run(monkeypatch, "plan", DEMO, "--host", "2c,4GB", "--profile", profile) == OK
    assert "demo fits" in capsys.readouterr().out


def test_plan_as_json_is_one_document(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    """Another program can read the proof."""
    assert run(monkeypatch, "plan", DEMO, "--host", "12c,29.38GB", "--json") == OK
    assert json.loads(capsys.readouterr().out)["fits"] is True


def test_plan_that_does_not_fit_exits_1(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    """A host that is too small is refused, and the short pool is named."""
    assert run(monkeypatch, "plan", DEMO, "--host", "2c,1GB") == FAILED
    assert "infrastructure" in capsys.readouterr().out


def test_a_bad_manifest_exits_2_and_names_every_mistake(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    """All mistakes are listed with their line, and nothing is changed."""
    path = tmp_path / "bad.yaml"
    path.write_text("fleet: x\nagents:\n  health-monitor: {memory: 512}\nservces: {}\n")
    assert run(monkeypatch, "plan", str(path)) == BAD_MANIFEST
    told = capsys.readouterr().err
    assert "bad.yaml:3:" in told
    assert "bad.yaml:4:" in told
    assert "nothing was changed" in told


def test_a_host_that_cannot_be_read_exits_2(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """A wrong unit is explained in one line."""
    assert run(monkeypatch, "plan", DEMO, "--host", "12x") == BAD_MANIFEST
    told = capsys.readouterr().err
    assert "12c,29.38GB" in told
    assert "Traceback" not in told


def test_down_does_not_guess_between_fleets(
    own_roots: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """With two fleets up and none named, nothing is stopped and the exit code says so."""
    monkeypatch.setattr(fleets, "running", lambda: ["one", "two"])
    assert run(monkeypatch, "down") == REFUSED
    assert "--fleet" in capsys.readouterr().err


def test_a_reader_that_leaves_early_is_fine() -> None:
    """`sutazai … | head -1` prints no complaint."""
    command = f"{sys.executable} -m sutazai.cli plan {DEMO} --host 12c,29.38GB --json | head -1"
    done = subprocess.run(["sh", "-c", command], capture_output=True, text=True, check=False)
    assert (done.stdout, done.stderr) == ("{\n", "")


@pytest.mark.parametrize("words", [("status",), ("logs",), ("ask", "a", "b"), ("smoke",), ("demo",), ("restart", "x")])
def test_without_a_fleet_each_verb_says_how_to_start_one(
    words: tuple[str, ...], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Nothing hangs and nothing is guessed."""
    assert run(monkeypatch, *words) == NOT_UP
    assert "sutazai up" in capsys.readouterr().err


def test_down_without_a_fleet_is_fine(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    """Stopping what is stopped succeeds, so that scripts need not look first."""
    assert run(monkeypatch, "down", "--json") == OK
    assert json.loads(capsys.readouterr().out)["stopped"] is False


def test_an_unknown_verb_exits_2(monkeypatch: pytest.MonkeyPatch) -> None:
    """A typing mistake is not a failure of the fleet."""
    assert run(monkeypatch, "sttus") == BAD_MANIFEST


def test_version(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    """The version is the package's."""
    assert run(monkeypatch, "--version") == OK
    assert capsys.readouterr().out.startswith("sutazai 0.")


def test_a_named_fleet_that_is_down_is_named_in_the_message() -> None:
    """The message repeats what the user asked for."""
    with pytest.raises(CliError, match="'other' is not up") as caught:
        fleets.paths_of("other")
    assert caught.value.code == NOT_UP


@pytest.mark.parametrize(
    ("words", "whole", "expected"),
    [
        (["a=1"], None, {"a": 1}),
        (["a=text", "b=[1,2]"], None, {"a": "text", "b": [1, 2]}),
        (["a=1=2"], None, {"a": "1=2"}),
        ([], '{"a": null}', {"a": None}),
        (["b=true"], '{"a": 1}', {"a": 1, "b": True}),
    ],
)
def test_input_words_become_json(words: list[str], whole: str | None, expected: dict[str, Any]) -> None:
    """A value that is JSON is taken as JSON, anything else as text."""
    assert ask.read_input(words, whole) == expected


@pytest.mark.parametrize(("words", "whole"), [(["a"], None), (["=1"], None), ([], "[1]"), ([], "{")])
def test_bad_input_words_are_refused(words: list[str], whole: str | None) -> None:
    """What is no NAME=VALUE and no JSON object says so, with exit code 2."""
    with pytest.raises(CliError) as caught:
        ask.read_input(words, whole)
    assert caught.value.code == BAD_MANIFEST


def test_log_tail_reads_from_the_end(tmp_path: Path) -> None:
    """The last lines of a large log come without reading all of it, with and without a final newline."""
    path = tmp_path / "x.log"
    path.write_text("".join(f"line {index}\n" for index in range(50_000)))
    assert logs._tail(path, 2)[0].splitlines() == ["line 49998", "line 49999"]
    path.write_text("a\nb\nc")
    assert logs._tail(path, 2)[0].splitlines() == ["b", "c"]
    assert logs._tail(path, 50)[0].splitlines() == ["a", "b", "c"]


def test_structured_log_lines_are_readable_and_others_stay() -> None:
    """A JSON line becomes time, level, text and fields; anything else is shown as it is."""
    line = json.dumps({"at_wall_ms": 1_700_000_000_123, "level": "error", "text": "broke", "order": 7})
    assert logs._readable(line).endswith(".123 ERROR   broke  order=7")
    for other in ("plain", "{broken", '{"text": "no time"}'):
        assert logs._readable(other) == other


def test_an_unknown_log_names_the_known_ones(own_roots: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A typing mistake shows what there is."""
    monkeypatch.setenv("SUTAZAI_FLEET", "f")
    folder = own_roots / "s/f/logs"
    folder.mkdir(parents=True)
    (folder / "broker.log").write_text("hello\n")
    with pytest.raises(CliError, match="there are: broker") as caught:
        logs.run("brokr")
    assert caught.value.code == REFUSED


def test_bars_and_colours_stay_inside_their_bounds() -> None:
    """A share above its limit neither overflows the bar nor hides."""
    assert output.bar(0.5, 4) == "██░░"
    assert output.bar(7.0, 4) == "████"
    assert output.bar(-1.0, 4) == "░░░░"
    assert [output.colour_of(share) for share in (0.1, 0.7, 0.95)] == ["green", "yellow", "red"]


def _status() -> dict[str, Any]:
    return {
        "fleet": "f",
        "state": "up",
        "host": {"cores": 2, "memory_available_bytes": 1, "memory_total_bytes": 2, "load1": 0.1},
        "enforcement": {"version": "v1", "enforced": [], "missing": []},
        "pools": [
            {
                "name": "standard",
                "parent": "",
                "size_bytes": 100,
                "used_bytes": 95,
                "reserved_bytes": 0,
                "instances": 1,
                "instance_limit": 24,
                "waiting": 2,
            }
        ],
        "processes": [
            {
                "name": "shop",
                "state": "ready",
                "pid": 7,
                "memory_bytes": 10,
                "memory_limit_bytes": 96 * 1024**2,
                "memory_peak_bytes": 12,
                "restarts": 3,
                "oom_kills": 2,
                "started_wall_ms": 1,
                "listen": [{"name": "http", "port": 10600}],
            }
        ],
        "instances": [],
        "queues": {"health-monitor": {"queued": 1, "leased": 0, "waiting": 0}, "idle": {"queued": 0}},
        "conditions": [
            {"name": "Unhealthy", "subject": "shop", "severity": "warning", "text": "503", "fix": "look at its log"}
        ],
    }


def test_status_shows_pools_processes_queues_and_conditions(capsys: pytest.CaptureFixture[str]) -> None:
    """One screen has what a person looks for: limits, waiting tickets, restarts, kills, ports, what to do."""
    output.console().print(status.table(_status()))
    shown = capsys.readouterr().out
    for part in ("(+2 wait)", "1/24", "96 MB", "10600", "health-monitor", "Unhealthy shop: 503", "look at its log"):
        assert part in shown
    assert "idle" not in shown


def test_the_demonstration_counts_what_was_committed_twice() -> None:
    """A step that started twice and committed once is fine; one that committed twice is named."""
    turns = [
        {"step": "", "outcome": "lost"},
        {"step": "", "outcome": "wait"},
        {"step": "collect", "outcome": "wait"},
    ]
    shop = {"memory_limit_bytes": 100, "memory_peak_bytes": 100, "oom_kills": 1}
    good = demo._summary({"id": "t", "status": "succeeded"}, [{"id": "t", "agent": "a", "turns": turns}], shop, [])
    assert (good["turns_committed"], good["turns_lost"], good["committed_twice"], good["limit_held"]) == (
        2,
        1,
        [],
        True,
    )
    twice = [*turns, {"step": "collect", "outcome": "wait"}]
    bad = demo._summary({"id": "t", "status": "succeeded"}, [{"id": "t", "agent": "a", "turns": twice}], shop, [])
    assert bad["committed_twice"] == ["t collect"]
