"""A Compose fleet is taken over with the real commands: imported, brought up, used, and taken down."""

from __future__ import annotations

import http.client
import json
import re
import shutil
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from sutazai.testing.fleet import LiveFleet

FIXTURE = Path(__file__).parents[1] / "fixtures/compose/small"
WAIT_S = 60


class TakenOver(LiveFleet):
    """A live fleet whose manifest stands where the import wrote it, beside the build contexts."""

    home: Path

    @property
    def path(self) -> Path:
        return self.home / "sutazai.yaml"


def get(port: int, path: str) -> Any:
    """Ask a service of the fleet."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=10)
    try:
        connection.request("GET", path)
        return json.loads(connection.getresponse().read())
    finally:
        connection.close()


@pytest.mark.timeout(300)
def test_an_imported_compose_fleet_runs(tmp_path: Path) -> None:
    """Job, shop and worker start in the file's order, reach each other, have the limits, and leave nothing behind."""
    home = tmp_path / "corner"
    shutil.copytree(FIXTURE, home)
    done = subprocess.run(
        [str(Path(sys.executable).with_name("sutazai")), "import", "compose.yaml", "--json"],
        cwd=home,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    report = json.loads(done.stdout)
    assert {row["service"]: row["becomes"] for row in report["services"]} == {
        "setup": "service",
        "shop": "service",
        "worker": "service",
        "adder": "agent",
    }
    text = (home / "sutazai.yaml").read_text()
    manifest = re.sub(r"(?m)^port_offset: 0$", "port_offset: {offset}", text).replace(
        "fleet: corner-shop", "fleet: {fleet}"
    )
    fleet = TakenOver(manifest)
    fleet.home = home
    with fleet:
        port = fleet.port(8085)
        assert get(port, "/") == {"greeting": "good morning"}
        until = time.monotonic() + WAIT_S
        while get(port, "/visits")["visits"] == 0 and time.monotonic() < until:
            time.sleep(0.05)
        assert get(port, "/visits")["visits"] > 0, fleet.log_tails()
        status = fleet.status()
        states = {process["name"]: process["state"] for process in status["processes"]}
        assert states["setup"] == "done"
        assert states["shop"] == states["worker"] == "ready"
        limits = {process["name"]: process["memory_limit_bytes"] for process in status["processes"]}
        assert limits["shop"] == 96 * 1024**2
        asked = fleet.command("ask", "adder-agent", "add", 'body={"numbers": [20, 22]}', "--json")
        assert asked.returncode == 0, asked.stderr + fleet.log_tails()
        assert json.loads(asked.stdout)["result"] == {"sum": 42}
        assert get(fleet.port(8086), "/health") == {"status": "ok"}
        assert "prepared" in (fleet.state / "logs/setup.log").read_text()
        assert fleet.command("down").returncode == 0
        assert fleet.leftovers() == []
