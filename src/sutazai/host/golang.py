"""Why it exists: agents in Go are linked into one program, which must be there, and be built from the sources of now.

``scripts/bootstrap go`` builds it once into the environment, where every user of the machine can read it, with a digest
of its sources beside it. Nothing here builds: who finds the program missing or old says which command makes it.
"""

from __future__ import annotations

import hashlib
import importlib.util
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import sutazai

HINT = "run: scripts/bootstrap base go"
PROGRAM = "sutazai-go-worker"
VERSION_MIN = (1, 19)
_PACKAGE = Path(sutazai.__file__).resolve().parent
RUNTIME = _PACKAGE.parents[1] / "runtimes" / "go"
AGENTS = _PACKAGE / "agents"
_VERSION_TIMEOUT_S = 20
_SOURCES = ("*.go", "go.mod", "go.work")


def worker_path() -> Path:
    """Where the program is, or would be; ``SUTAZAI_GO_WORKER`` names one that was built elsewhere."""
    if path := os.environ.get("SUTAZAI_GO_WORKER"):
        return Path(path)
    return Path(sys.prefix) / "go" / PROGRAM


def digest_path() -> Path:
    """Where the digest of the sources stands that the program was built from."""
    return worker_path().with_name("digest")


def sources() -> list[Path]:
    """Files that the program is built from, tests left out."""
    found = [path for folder in (RUNTIME, AGENTS) for pattern in _SOURCES for path in folder.rglob(pattern)]
    return sorted(path for path in found if not path.name.endswith("_test.go"))


def digest() -> str:
    """Digest the sources: names below their folder, and contents."""
    whole = hashlib.sha256()
    for path in sources():
        data = path.read_bytes()
        whole.update(f"{path.relative_to(_PACKAGE.parents[1])}\0{len(data)}\0".encode() + data)
    return whole.hexdigest()


def find_worker() -> tuple[str, str]:
    """Find the program of a worker for agents in Go.

    Returns:
        Its absolute path; empty, and why not, when it is not there or was built from other sources.
    """
    program = worker_path()
    if not os.access(program, os.X_OK):
        return "", f"there is no {program}"
    if "SUTAZAI_GO_WORKER" in os.environ:
        return str(program.absolute()), ""
    try:
        built = digest_path().read_text().strip()
    except OSError:
        built = ""
    if built != digest():
        return "", f"{program} was built from other sources than those of now"
    return str(program.absolute()), ""


def find_toolchain() -> tuple[str, str]:
    """Find the ``go`` command: the wheel of this environment first, because its version is pinned, then ``PATH``.

    Returns:
        Its absolute path; empty, and why not, when there is none that is new enough.
    """
    spec = importlib.util.find_spec("go")
    places = [] if spec is None or not spec.origin else [Path(spec.origin).parent / "bin" / "go"]
    if found := shutil.which("go"):
        places.append(Path(found))
    why = "there is no go here"
    for place in places:
        if not os.access(place, os.X_OK):
            continue
        version = _version(place)
        if version >= VERSION_MIN:
            return str(place.resolve()), ""
        why = f"{place} is {'.'.join(map(str, version)) or 'broken'}; {'.'.join(map(str, VERSION_MIN))} is needed"
    return "", why


def _version(go: Path) -> tuple[int, ...]:
    """Ask a toolchain for its version; empty when it does not say."""
    try:
        said = subprocess.run(
            [go, "env", "GOVERSION"],
            env=environment(),
            cwd="/",
            capture_output=True,
            text=True,
            timeout=_VERSION_TIMEOUT_S,
            check=True,
        ).stdout
    except (OSError, subprocess.SubprocessError):
        return ()
    match = re.match(r"go(\d+)\.(\d+)", said)
    return (int(match[1]), int(match[2])) if match else ()


def environment(cache: Path | None = None) -> dict[str, str]:
    """Give the environment in which Go builds: without network, and with a cache of its own where one is named."""
    given = {name: value for name, value in os.environ.items() if not name.startswith("GO")}
    fixed = {"GOPROXY": "off", "GOFLAGS": "", "GOTOOLCHAIN": "local", "GOTELEMETRY": "off", "CGO_ENABLED": "0"}
    if cache is not None:
        fixed |= {"GOCACHE": str(cache), "GOPATH": str(cache.with_name("path"))}
    else:
        fixed |= {name: os.environ[name] for name in ("GOCACHE", "GOPATH") if name in os.environ}
    return {**given, **fixed}
