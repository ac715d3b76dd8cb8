"""Why it exists: the skills of code-generation-improver: try changes on a copy, give the diff of the proven."""

import tempfile
from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field

from sutazai.agents.code_generation_improver import improving, measuring, testing
from sutazai.agents.code_generation_improver.models import Improvement, Measured
from sutazai.runtime import Agent, Context, NonRetryableError, files
from sutazai.runtime.sandbox import TEXTS
from sutazai.units import MIB

agent = Agent("code-generation-improver")

FILES_MAX = 200
BYTES_MAX = 2 * MIB
_RESERVE_S = 10.0
Source = Annotated[
    dict[str, str] | None, Field(max_length=FILES_MAX, description="relative names of files → text, tests too")
]
UseLlm = Annotated[bool, Field(description="ask the language model too")]
PathText = Annotated[str, Field(max_length=4_096, description="or a folder below one of the allowed folders")]


class TestsNotGreenError(NonRetryableError):
    """The tests fail before anything is changed, so no change can be proved."""

    __test__ = False
    code = "tests-not-green"


@agent.skill
def improve(
    ctx: Context,
    source: Source = None,
    path: PathText = "",
    test_timeout_s: Annotated[float, Field(ge=1, le=120, description="of one run of the tests")] = 30,
    *,
    fixes: Annotated[
        Literal["safe", "unsafe"], Field(description="unsafe: also fixes that only the given tests vouch for")
    ] = "safe",
    use_llm: UseLlm = True,
) -> Improvement:
    """Improve Python code: a change is kept only if its tests stay green and a metric improves; gives the diff."""
    texts = _texts(ctx, source, path)
    names = [name for name in texts if name.endswith(".py") and not is_test(name)]
    if not names:
        raise NonRetryableError("there is no Python file that is not a test")
    measuring.parse({name: texts[name] for name in texts if name.endswith(".py")})
    with tempfile.TemporaryDirectory(dir=ctx.scratch) as place:
        folder, copy = Path(place).resolve() / "code", Path(place).resolve() / "run"
        files.write_tree(folder, texts)
        before = measuring.measure(folder, names)
        ctx.progress(0.05, "running the tests as they are")
        first = testing.test(folder, copy, test_timeout_s)
        if not first.run.green:
            why = first.run.said or "no test passed"
            raise TestsNotGreenError(f"the tests are not green as they are, so no change can be proved: {why}")
        bench = improving.Bench(folder, copy, names, first, before, test_timeout_s)

        def keep_on(fraction: float, text: str) -> bool:
            ctx.progress(0.1 + 0.85 * fraction, text)
            return ctx.deadline_left_s() > test_timeout_s + _RESERVE_S

        improving.repair(bench, keep_on, unsafe=fixes == "unsafe")
        answered = use_llm and ctx.settings.get("use_llm", True) and improving.rewrite(bench, ctx.llm, keep_on)
        diff = improving.diff(texts, folder)
    return Improvement(
        verdict="improved" if diff else "unchanged",
        diff=diff,
        before=before,
        after=bench.metrics,
        tests_before=first.run,
        tests_after=bench.outcome.run,
        changes=bench.changes,
        confinement=first.confinement,
        confinement_text=TEXTS[first.confinement],
        planner="ruff and llm" if answered else "ruff",
        notes=bench.notes,
    )


@agent.skill
def measure(ctx: Context, source: Source = None, path: PathText = "") -> Measured:
    """Measure Python code: ruff's findings, complexity, maintainability, and the worst places. Runs nothing of it."""
    texts = _texts(ctx, source, path)
    names = [name for name in texts if name.endswith(".py")]
    measuring.parse({name: texts[name] for name in names})
    with tempfile.TemporaryDirectory(dir=ctx.scratch) as place:
        folder = Path(place).resolve()
        files.write_tree(folder, texts)
        found = measuring.problems(folder, names)
        return Measured(
            metrics=measuring.measure(folder, names),
            worst=[f"{file}: {name}, complexity {value}" for value, file, name, _ in measuring.worst(folder, names)],
            problems=[measuring.told(entry) for entry in found[:50]],
        )


def is_test(name: str) -> bool:
    """Tell whether a file belongs to the tests, which are never changed."""
    path = Path(name)
    if {"tests", "test"} & set(path.parts[:-1]):
        return True
    return path.name.startswith("test_") or path.name.endswith("_test.py") or path.name == "conftest.py"


def _texts(ctx: Context, source: dict[str, str] | None, path: str) -> dict[str, str]:
    if (source is None) == (not path):
        raise NonRetryableError("give either `source` or `path`")
    if source is None:
        wanted = (".py", ".json", ".toml", ".txt", ".csv", ".cfg", ".ini")
        source = files.read_tree(path, ctx.settings, wanted, files_max=FILES_MAX, bytes_max=BYTES_MAX)
    if not source:
        raise NonRetryableError("there is no file in `source`")
    return {files.safe_name(name): text for name, text in source.items()}
