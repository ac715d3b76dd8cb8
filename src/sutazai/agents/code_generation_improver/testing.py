"""Why it exists: handed-in tests are foreign code: they run in a sandbox, on a copy, and must be complete.

A change that made tests vanish or be skipped would look green, so the tests that passed before must pass again by name.
"""

from __future__ import annotations

import shutil
import time
import xml.etree.ElementTree as ET  # the report is written by our pytest, its size is bounded
from dataclasses import dataclass
from typing import TYPE_CHECKING

from sutazai.agents.code_generation_improver.models import TestRun
from sutazai.runtime.programs import MissingProgramError, short
from sutazai.runtime.sandbox import Bounds, run_python

if TYPE_CHECKING:
    from pathlib import Path

    from sutazai.runtime.sandbox import Confinement

REPORT = ".sutazai-report.xml"
_REPORT_BYTES_MAX = 4 * 1_048_576


@dataclass(frozen=True, slots=True)
class Outcome:
    """What the tests did.

    Attributes:
        run: for the reader.
        passed: names of the tests that passed.
        confinement: how the code was held.
    """

    run: TestRun
    passed: frozenset[str]
    confinement: Confinement


def test(folder: Path, copy: Path, timeout_s: float) -> Outcome:
    """Run the tests of a folder with pytest, on a copy.

    Args:
        folder: the code.
        copy: where to copy it; replaced.
        timeout_s: of the whole run.

    Raises:
        MissingProgramError: pytest is not installed, or the sandbox cannot be started.
    """
    import importlib.util

    if importlib.util.find_spec("pytest") is None:
        raise MissingProgramError("pytest is not installed here: run `scripts/bootstrap base llm data development`")
    shutil.rmtree(copy, ignore_errors=True)
    shutil.copytree(folder, copy)
    began_s = time.monotonic()
    arguments = [
        "-m", "pytest", "-q", "-x", "-p", "no:cacheprovider", "--import-mode=importlib", "-o", "addopts=",
        "-o", "pythonpath=. src", "--rootdir", str(copy), f"--junitxml={copy / REPORT}", str(copy),
    ]  # fmt: skip
    ran, way = run_python(arguments, copy, Bounds(timeout_s=timeout_s))
    duration_s = round(time.monotonic() - began_s, 3)
    passed, failed, skipped = _read(copy / REPORT)
    green = ran.status == 0 and not failed and bool(passed)
    said = ""
    if not green:
        text = ran.out.decode(errors="replace")
        said = f"ended after {timeout_s:.0f} s" if ran.timed_out else short(text or ran.told)
    told = TestRun(green=green, passed=len(passed), failed=failed, skipped=skipped, duration_s=duration_s, said=said)
    return Outcome(told, frozenset(passed), way)


def _read(report: Path) -> tuple[list[str], int, int]:
    """Read names of passed tests, number of failed and of skipped ones."""
    try:
        if report.is_symlink() or report.stat().st_size > _REPORT_BYTES_MAX:
            return [], 1, 0
        data = report.read_bytes()
        if b"<!DOCTYPE" in data or b"<!ENTITY" in data:
            return [], 1, 0
        root = ET.fromstring(data)  # noqa: S314 no entities are in it, looked at above
    except (OSError, ET.ParseError):
        return [], 0, 0
    passed, failed, skipped = [], 0, 0
    for case in root.iter("testcase"):
        kinds = {child.tag for child in case}
        if kinds & {"failure", "error"}:
            failed += 1
        elif "skipped" in kinds:
            skipped += 1
        else:
            passed.append(f"{case.get('classname')}.{case.get('name')}")
    return passed, failed, skipped
