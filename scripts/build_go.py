"""Why it exists: agents in Go are linked into one program, built once and again when their sources change.

``scripts/bootstrap go`` runs it. It builds without network into ``.venv/go``, puts the program in place in one step,
and writes the digest of the sources last. A second run does nothing.
"""

from __future__ import annotations

import subprocess
import sys

from sutazai.host import golang


def main() -> int:
    """Build when it is needed; 1 when it cannot be, with the reason."""
    program, _ = golang.find_worker()
    if program:
        return 0
    go, why = golang.find_toolchain()
    if not go:
        print(f"sutazai: {why}; install the wheel (scripts/bootstrap go) or Go itself: apt-get install golang-go")
        return 1
    target = golang.worker_path()
    target.parent.mkdir(parents=True, exist_ok=True)
    digest = golang.digest()
    new = target.with_name(f"{target.name}.new")
    print("sutazai: building the worker of agents in Go (the first time half a minute)", flush=True)
    done = subprocess.run(
        [go, "build", "-trimpath", "-ldflags=-s -w", "-o", str(new), "./cmd/sutazai-go-worker"],
        cwd=golang.RUNTIME,
        env=golang.environment(target.with_name("cache")),
        check=False,
    )
    if done.returncode != 0:
        print("sutazai: the worker of agents in Go could not be built", file=sys.stderr)
        return 1
    new.chmod(0o755)
    new.replace(target)
    golang.digest_path().write_text(f"{digest}\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
