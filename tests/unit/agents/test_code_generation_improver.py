"""code-generation-improver keeps a change only when tests and measures allow it, and never touches the given files."""

from __future__ import annotations

import subprocess
from typing import TYPE_CHECKING, Any

import pytest

from sutazai.agents.code_generation_improver import measuring
from sutazai.agents.code_generation_improver.agent import is_test
from sutazai.agents.code_generation_improver.models import Metrics

if TYPE_CHECKING:
    from pathlib import Path

    from conftest import Broker
    from sutazai.runtime import Result

pytest.importorskip("radon")

AGENT = "code-generation-improver"
TANGLED = """def grade(points):
    if points >= 90:
        return "A"
    else:
        if points >= 80:
            return "B"
        else:
            if points >= 70:
                return "C"
            else:
                if points >= 60:
                    return "D"
                else:
                    if points >= 50:
                        return "E"
                    else:
                        return "F"
"""
SIMPLE = """def grade(points):
    grades = zip("ABCDE", (90, 80, 70, 60, 50), strict=True)
    return next((name for name, low in grades if points >= low), "F")
"""
WRONG = 'def grade(points):\n    return "A" if points >= 90 else "F"\n'
GRADES = """from grades import grade
import pytest


@pytest.mark.parametrize(("points", "wanted"), [(95, "A"), (85, "B"), (75, "C"), (65, "D"), (55, "E"), (1, "F")])
def test_grade(points, wanted):
    assert grade(points) == wanted
"""


def improve(broker: Broker, source: dict[str, str], **more: Any) -> Result:
    """Improve without the model, unless asked for."""
    return broker.ask(AGENT, "improve", {"source": source, "use_llm": False, **more})


def test_the_diff_applies_and_the_tests_are_never_changed(broker: Broker, tmp_path: Path) -> None:
    """The accepted repairs come as a patch that `patch -p1` takes, and that leaves the tests as they are."""
    source = {
        "pkg/__init__.py": "",
        "pkg/a.py": "import os\nimport sys\n\n\ndef f(x):\n    return not x == sys.maxsize\n",
        "tests/test_a.py": "import os\nfrom pkg.a import f\n\n\ndef test_f():\n    assert f(1)\n",
    }
    found = improve(broker, source, fixes="unsafe").require()
    assert found["verdict"] == "improved"
    assert found["after"]["problems"] == 0 < found["before"]["problems"]
    assert "tests/" not in found["diff"]
    assert all(change["confirmed_by"] == 1 for change in found["changes"] if change["accepted"])
    for name, text in source.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(text)
    subprocess.run(["patch", "-p1"], input=found["diff"], text=True, cwd=tmp_path, check=True, capture_output=True)
    assert (tmp_path / "pkg/a.py").read_text() == "import sys\n\n\ndef f(x):\n    return x != sys.maxsize\n"


def test_a_repair_that_breaks_a_test_is_taken_back(broker: Broker) -> None:
    """An import that ruff calls unused is used by a test: that repair is refused, the rest is kept."""
    source = {
        "a.py": "import json\n\n\ndef f(x):\n    return not x == 1\n",
        "test_a.py": "import a\n\n\ndef test_f():\n    assert a.f(2) and a.json.dumps(1) == '1'\n",
    }
    found = improve(broker, source, fixes="unsafe").require()
    told = {change["what"].partition(":")[0]: change for change in found["changes"]}
    assert told["F401"]["accepted"] is False
    assert "tests" in told["F401"]["why"]
    assert told["SIM201"]["accepted"] is True
    assert "import json" not in found["diff"]


@pytest.mark.parametrize(("code", "accepted"), [(SIMPLE, True), (WRONG, False)])
def test_the_models_rewrite_is_proved_like_any_other(broker: Broker, code: str, *, accepted: bool) -> None:
    """A simpler function that behaves the same is kept with its numbers; one that does not is taken back."""
    broker.llm.error, broker.llm.data = None, {"code": code}
    found = improve(broker, {"grades.py": TANGLED, "test_grades.py": GRADES}, use_llm=True).require()
    (change,) = [item for item in found["changes"] if item["source"] == "llm"]
    assert change["accepted"] is accepted
    assert found["planner"] == "ruff and llm"
    assert (found["after"]["complexity_worst"] < found["before"]["complexity_worst"]) is accepted
    if not accepted:
        assert change["tests"]["green"] is False


@pytest.mark.parametrize(
    "code",
    [
        "def other(points):\n    return 'A'\n",
        "def grade(points, more=1):\n    return 'A'\n",
        "import os\ndef grade(points):\n    return 'A'\n",
        "no python (",
        "async def grade(points):\n    return 'A'\n",
    ],
)
def test_an_answer_that_is_not_the_function_is_dropped(broker: Broker, code: str) -> None:
    """Another name, other parameters, more than the function, or no Python: it is not even tried."""
    broker.llm.error, broker.llm.data = None, {"code": code}
    found = improve(broker, {"grades.py": TANGLED, "test_grades.py": GRADES}, use_llm=True).require()
    assert not [item for item in found["changes"] if item["source"] == "llm"]
    assert any("was not that function" in note for note in found["notes"])


def test_without_a_model_it_says_so_and_goes_on(broker: Broker) -> None:
    """The model is down: the repairs are made all the same, and a note tells why there is no more."""
    found = improve(broker, {"grades.py": TANGLED, "test_grades.py": GRADES}, use_llm=True).require()
    assert found["planner"] == "ruff"
    assert any("no proposals of the language model" in note for note in found["notes"])


@pytest.mark.parametrize(
    ("source", "code", "said"),
    [
        (
            {"a.py": "x = 1\n", "test_a.py": "def test_a():\n    assert False\n"},
            "tests-not-green",
            "not green as they are",
        ),
        ({"a.py": "x = 1\n"}, "tests-not-green", "no change can be proved"),
        ({"a.py": "def f(:\n"}, "non-retryable", "a.py:1: this is no Python"),
        ({"test_a.py": "def test_a():\n    pass\n"}, "non-retryable", "no Python file that is not a test"),
        ({"../a.py": "x = 1\n"}, "non-retryable", "no relative name"),
        ({}, "non-retryable", "no file in `source`"),
    ],
)
def test_what_cannot_be_proved_is_refused(broker: Broker, source: dict[str, str], code: str, said: str) -> None:
    """Red tests, no tests, no Python, nothing to change: an error with a code that says what is wrong."""
    answer = improve(broker, source)
    assert answer.error is not None
    assert (answer.error["code"], answer.error["retryable"]) == (code, False)
    assert said in answer.error["message"]


def test_tests_that_hang_are_ended(broker: Broker) -> None:
    """An endless test is ended at the limit, with all that it started, and called not green."""
    source = {"a.py": "x = 1\n", "test_a.py": "def test_a():\n    while True:\n        pass\n"}
    answer = improve(broker, source, test_timeout_s=3)
    assert answer.error is not None
    assert answer.error["code"] == "tests-not-green"
    assert "ended after 3 s" in answer.error["message"]


def test_a_test_that_ends_the_runner_early_is_not_green(broker: Broker) -> None:
    """A test that leaves with exit code 0 before pytest could report proves nothing."""
    source = {"a.py": "x = 1\n", "test_a.py": "import os\n\n\ndef test_a():\n    os._exit(0)\n"}
    answer = improve(broker, source)
    assert answer.error is not None
    assert answer.error["code"] == "tests-not-green"


def test_a_folder_is_improved_without_being_written_to(broker: Broker, tmp_path: Path) -> None:
    """Given a path, the diff is the answer; the files are as they were."""
    (tmp_path / "a.py").write_text("import os\n\n\ndef f():\n    return 1\n")
    (tmp_path / "test_a.py").write_text("from a import f\n\n\ndef test_f():\n    assert f() == 1\n")
    broker.settings = {"folders": [str(tmp_path)]}
    before = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    found = broker.ask(AGENT, "improve", {"path": str(tmp_path), "use_llm": False}).require()
    assert "-import os" in found["diff"]
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == before


def test_the_rule_of_acceptance() -> None:
    """One measure better and none worse is accepted; a trade is not; noise of the index is not a gain."""
    base = Metrics(problems=3, complexity=4.0, complexity_worst=9, maintainability=50.0, lines=100)
    cases = {
        "findings 3 → 2": base.model_copy(update={"problems": 2}),
        "no measure improves": base.model_copy(update={"maintainability": 50.9}),
        "worse: worst complexity 9 → 10": base.model_copy(update={"problems": 0, "complexity_worst": 10}),
    }
    for why, after in cases.items():
        assert measuring.improves(base, after) == (why.startswith("findings"), why)


def test_what_is_a_test() -> None:
    """Names and folders of tests are known; a module that only begins like one is code."""
    tests = ("tests/x.py", "a/test_b.py", "b_test.py", "conftest.py")
    assert [name for name in (*tests, "testing.py", "contest.py") if is_test(name)] == list(tests)
