"""A user without root and without cgroups runs the same fleet, and is told what is not enforced."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

NOBODY = 65534
MANIFEST = """
fleet: nr
port_offset: 21500
runtime_pools: {python: {families: [base, data], workers: 2}}
agents:
  health-monitor:
  ram-hardware-optimizer:
"""


@pytest.mark.timeout(300)
def test_the_same_fleet_without_root() -> None:
    """It comes up, does its work, names each limit that is not held, and ends without a trace."""
    if os.geteuid() != 0:
        pytest.skip("the other tests run without root already")
    command = [str(Path(sys.executable).with_name("sutazai"))]
    if subprocess.run([*command, "--version"], user=NOBODY, group=NOBODY, extra_groups=[], check=False).returncode != 0:
        pytest.skip(f"user {NOBODY} cannot read this checkout; clone it where other users may enter")
    folder = Path(tempfile.mkdtemp(prefix="nr", dir="/tmp"))
    try:
        os.chown(folder, NOBODY, NOBODY)
        (folder / "m.yaml").write_text(MANIFEST)
        env = {
            "PATH": os.environ["PATH"],
            "HOME": str(folder),
            "SUTAZAI_STATE_ROOT": str(folder / "s"),
            "SUTAZAI_RUN_ROOT": str(folder / "r"),
        }

        def run(*words: str) -> subprocess.CompletedProcess[str]:
            return subprocess.run(
                [*command, *words],
                env=env,
                cwd=folder,
                user=NOBODY,
                group=NOBODY,
                extra_groups=[],
                capture_output=True,
                text=True,
                check=False,
                timeout=120,
            )

        try:
            up = run("up", "m.yaml", "--timeout", "60")
            assert up.returncode == 0, up.stdout + up.stderr
            status = json.loads(run("status", "--json").stdout)
            assert status["enforcement"]["version"] == "none"
            assert {"memory", "cpu_quota", "pids"} <= {each["limit"] for each in status["enforcement"]["missing"]}
            named = {condition["name"] for condition in status["conditions"]}
            assert {"LimitNotEnforced", "PrivilegesNotDropped"} <= named
            asked = run("ask", "ram-hardware-optimizer", "analyse", "window_s=30")
            assert asked.returncode == 0, asked.stderr
        finally:
            down = run("down")
        assert down.returncode == 0, down.stderr
        assert not [path.name for path in (folder / "r").rglob("*")]
    finally:
        shutil.rmtree(folder, ignore_errors=True)
