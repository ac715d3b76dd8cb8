"""Why it exists: a fleet must come back by itself after a reboot or a power cut; on most hosts systemd starts it.

The unit starts ``sutazaid`` from the compiled plan: it needs no YAML and no other service. ``Delegate=yes`` hands the
unit's cgroup over, so that the fleet's groups hang inside it.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Annotated

import typer

from sutazai.cli import fleets, up
from sutazai.cli.exits import FAILED, OK, REFUSED, CliError
from sutazai.cli.output import note
from sutazai.cli.plan import DEFAULT_MANIFEST, ManifestArgument
from sutazai.paths import FleetPaths

SYSTEM_UNITS = Path("/etc/systemd/system")
STOP_S = 180
STDERR = 2
MOVED_BY = ("SUTAZAI_STATE_ROOT", "SUTAZAI_RUN_ROOT", "SUTAZAI_MODELS")
UNIT = """\
# Written by: sutazai service. Docs: docs/howto/run-as-a-service.md
[Unit]
Description=sutazai fleet {fleet}
After=network.target

[Service]
Type=exec
ExecStart={python} -m sutazai.supervisor --plan {plan} --foreground
ExecStop={python} -m sutazai.cli down --fleet {fleet}
{environment}StandardOutput=append:{log}
StandardError=inherit
# The fleet's own groups hang in the unit's cgroup, and the kernel holds them.
Delegate=yes
TasksMax=infinity
# An instance that is killed at its own limit is the fleet's business: the unit goes on.
OOMPolicy=continue
# Guard and sutazaid start each other again; the unit has ended when none of the fleet is left.
ExitType=cgroup
KillMode=mixed
TimeoutStopSec={stop_s}
Restart=on-failure
RestartSec=1
# The plan is refused, or the fleet runs already: starting again would not help.
RestartPreventExitStatus=3 78

[Install]
WantedBy={target}
"""


def run(
    manifest: ManifestArgument = Path(DEFAULT_MANIFEST),
    *,
    install: Annotated[
        bool, typer.Option("--install", help="Write the unit where systemd looks, and enable it.")
    ] = False,
) -> int:
    """Print a systemd unit that runs the fleet and brings it back after a reboot; as root, a system's, else a user's.

    Starts nothing. A fleet that `up` has not brought up from this manifest is proved first.
    Example: sutazai service fleets/demo.yaml
    """
    from sutazai import spec

    fleet = spec.load(manifest)
    paths = FleetPaths.of(fleet.fleet)
    if _manifest_of(paths.plan) != fleet.path:
        if fleets.answers(paths.supervisor_socket):
            raise CliError(
                f"the fleet {fleet.fleet} runs from another manifest: run sutazai up first, or stop it", REFUSED
            )
        if fleet.llm is not None and not fleet.llm.url:
            up.fetch_model(fleet.llm.model, as_json=True)
        plan, code = up.compile_plan(manifest, paths, out=STDERR)
        if plan is None:
            return code
        up.keep_plan(plan, paths)
    paths.logs.mkdir(parents=True, exist_ok=True)
    text = unit_text(fleet.fleet, paths, is_root=os.geteuid() == 0)
    if install:
        return _install(f"sutazai-{fleet.fleet}.service", text)
    print(text, end="")
    return OK


def _manifest_of(plan: Path) -> str:
    """Tell which manifest a plan was compiled from; empty without a plan that can be read."""
    try:
        return str(json.loads(plan.read_text()).get("manifest") or "")
    except (OSError, ValueError, AttributeError):
        return ""


def unit_text(fleet: str, paths: FleetPaths, *, is_root: bool) -> str:
    """Write the unit.

    Raises:
        CliError: a path has a character that a unit cannot hold.
    """
    moved = [f"{name}={os.environ[name]}" for name in MOVED_BY if os.environ.get(name)]
    for path in (sys.executable, str(paths.plan), *moved):
        if set(path) & set("\"'\\\n"):
            raise CliError(f"{path!r} has a quote, a backslash or a line end, which a unit cannot hold", REFUSED)
    return UNIT.format(
        fleet=fleet,
        python=_word(sys.executable),
        plan=_word(str(paths.plan)),
        log=str(paths.logs / "sutazaid.log").replace("%", "%%"),
        environment="".join('Environment="{}"\n'.format(setting.replace("%", "%%")) for setting in moved),
        stop_s=STOP_S,
        target="multi-user.target" if is_root else "default.target",
    )


def _word(text: str) -> str:
    """Write a word for a unit: ``%`` and ``$`` mean something to systemd, and a space would end it."""
    return f'"{text}"'.replace("%", "%%").replace("$", "$$")


def _install(name: str, text: str) -> int:
    is_root = os.geteuid() == 0
    folder = SYSTEM_UNITS if is_root else Path.home() / ".config/systemd/user"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(text)
    except OSError as error:
        raise CliError(f"cannot write {folder / name}: {error.strerror}", FAILED) from error
    control = ["systemctl"] if is_root else ["systemctl", "--user"]
    for words in (["daemon-reload"], ["enable", "--quiet", name]):
        try:
            done = subprocess.run([*control, *words], capture_output=True, text=True, check=False)
        except FileNotFoundError as error:
            raise CliError(
                f"{folder / name} is written, but there is no systemctl: this host has no systemd"
            ) from error
        if done.returncode != 0:
            raise CliError(f"{' '.join([*control, *words])} failed: {done.stderr.strip()}", FAILED)
    note(f"{folder / name} is written and enabled; start it now with: {' '.join(control)} start {name}")
    if not is_root:
        note("to have it run without your login: loginctl enable-linger")
    return OK
