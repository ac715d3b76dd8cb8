"""Why it exists: `make bench` runs every benchmark in one go, prints one page, and fails when a promise is missed.

usage: bench/run.py [NAME…]   names are the files beside this one: plan memory wake tasks queue_size workflow up
"""

from __future__ import annotations

import os
import platform
import subprocess
import sys
from pathlib import Path

BENCHES = ("plan", "memory", "wake", "tasks", "queue_size", "workflow", "up")


def main() -> int:
    """Run the benchmarks one after the other; the last line sums up."""
    names = sys.argv[1:] or BENCHES
    memory_kb = int(Path("/proc/meminfo").read_text().split()[1])
    host = f"{platform.system()} {platform.release()}, {os.cpu_count()} cores, {memory_kb / 1024**2:.1f} GB"
    print(f"{host}, Python {platform.python_version()}")
    missed = []
    for name in names:
        done = subprocess.run([sys.executable, str(Path(__file__).with_name(f"{name}.py"))], check=False)
        if done.returncode != 0:
            missed.append(name)
    print(
        f"\n{len(names) - len(missed)} of {len(names)} benchmarks met their targets"
        + (f"; missed: {', '.join(missed)}" if missed else "")
    )
    return 1 if missed else 0


if __name__ == "__main__":
    sys.exit(main())
