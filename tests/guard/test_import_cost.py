"""What every instance inherits stays small: a module too many in the base pre-load is paid for by each agent."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from typing import Any

MODULES_MAX = 400
ANONYMOUS_MIB_MAX = 32
RESIDENT_MIB_MAX = 52
FORBIDDEN = {
    "anyio", "click", "fastapi", "h11", "httpx", "jsonschema_rs", "numpy", "pandas", "prometheus_client", "pytest",
    "rich", "scipy", "sqlite3", "starlette", "statsmodels", "typer", "uvicorn", "xllamacpp",
}  # fmt: skip
FORBIDDEN_OWN = {"agents", "bus", "cli", "control", "gateway", "governor", "llm", "plan", "spec", "store", "supervisor"}
CODE = """
import json, sys
from pathlib import Path
from sutazai.runtime.families import preload
missing = preload(["base"])
lines = [line.split() for line in Path("/proc/self/smaps_rollup").read_text().splitlines()[1:]]
kib = {line[0].rstrip(":"): int(line[1]) for line in lines}
print(json.dumps({"modules": sorted(sys.modules), "kib": kib, "missing": missing}))
"""


def loaded() -> dict[str, Any]:
    """Pre-load the base family in a fresh process, as the zygote does."""
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}
    environment.pop("PYTHONPATH", None)
    process = subprocess.run([sys.executable, "-c", CODE], capture_output=True, check=True, text=True, env=environment)
    found: dict[str, Any] = json.loads(process.stdout)
    return found


def test_the_base_family_stays_small() -> None:
    """The number of modules and the memory of the base pre-load are under their limits, and nothing is missing."""
    found = loaded()
    assert found["missing"] == []
    assert len(found["modules"]) <= MODULES_MAX
    assert found["kib"]["Anonymous"] / 1024 <= ANONYMOUS_MIB_MAX
    assert found["kib"]["Rss"] / 1024 <= RESIDENT_MIB_MAX


def test_the_base_family_loads_nothing_that_it_must_not() -> None:
    """No database, no HTTP framework, no command line, no numerical library, and no other room of this package."""
    modules = loaded()["modules"]
    assert {name.partition(".")[0] for name in modules} & FORBIDDEN == set()
    own = {name.split(".")[1] for name in modules if name.startswith("sutazai.")}
    assert own & FORBIDDEN_OWN == set()


def test_the_runtime_alone_is_light() -> None:
    """``from sutazai.runtime import Agent`` loads no event loop and no numerical library into an agent's module."""
    code = "import sys; import sutazai.runtime; print('asyncio' in sys.modules, 'numpy' in sys.modules)"
    process = subprocess.run([sys.executable, "-c", code], capture_output=True, check=True, text=True)
    assert process.stdout.split() == ["False", "False"]
