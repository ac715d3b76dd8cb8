"""Why it exists: from a manifest to the plan file in one step: read, look at the host, prove, describe, write.

``python -m sutazai.control.compile MANIFEST --out PLAN.json``. Exit code 0: written. 1: it does not fit this host, each
reason is named. 2: the manifest has mistakes, all are listed. Nothing is started, and only a success is written.
"""

from __future__ import annotations

import argparse
import json
import sys
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sutazai import plan as planner
from sutazai import spec
from sutazai.control import facts as host_facts
from sutazai.control.describe import describe
from sutazai.control.planfile import Sources, build, service_state_dir
from sutazai.control.schedules import schedule_mistakes
from sutazai.control.upstream import Upstream, read_upstream
from sutazai.errors import ConfigError, ConfigErrors, HostError
from sutazai.paths import FleetPaths
from sutazai.units import format_bytes

if TYPE_CHECKING:
    from sutazai.supervisor.contract import PlanFile

FITS, DOES_NOT_FIT, BAD_MANIFEST = 0, 1, 2
#: A model takes its file, its context and its work space.
MODEL_OVERHEAD = 1.15


@dataclass(frozen=True, slots=True)
class Compiled:
    """The outcome.

    Attributes:
        plan: what the planner decided.
        file: what ``sutazaid`` starts from; ``None`` when it does not fit.
        manifest: what was asked for.
    """

    plan: planner.Plan
    file: PlanFile | None
    manifest: spec.Manifest


def compile_manifest(
    path: Path, *, facts: planner.HostFacts | None = None, keep: bool = True, profile: str = ""
) -> Compiled:
    """Compile a manifest for this host.

    Args:
        path: of the manifest.
        facts: of another host; without them this one is looked at.
        keep: whether descriptions of agents are kept in the fleet's state folder.
        profile: in place of the manifest's.

    Raises:
        ConfigErrors: mistakes in the manifest, in agents' code, or programs that are missing here.
        HostError: the fleet's folders cannot be used.
    """
    manifest = spec.load(path, profile=profile)
    paths = FleetPaths.of(manifest.fleet)
    plan = planner.make(manifest, facts or host_facts.gather(manifest.fleet))
    mistakes = _model_mistakes(manifest)
    if not plan.fits and not mistakes:
        return Compiled(plan, None, manifest)
    own = [agent for agent in manifest.agents.values() if agent.http is None and not agent.planned]
    skills, wrong = describe(own, paths.state if keep else None)
    upstreams, unread = _upstreams(manifest)
    known = skills | {name: upstream.skills for name, upstream in upstreams.items()}
    untimely = schedule_mistakes(manifest, known)
    file, lacking = build(Sources(manifest, plan, skills, upstreams, paths))
    if mistakes := [*mistakes, *wrong, *unread, *untimely, *lacking]:
        count = f"{len(mistakes)} mistake{'s' if len(mistakes) > 1 else ''}"
        raise ConfigErrors(f"{path}: {count}", mistakes)
    return Compiled(plan, file, manifest)


def _upstreams(manifest: spec.Manifest) -> tuple[dict[str, Upstream], list[ConfigError]]:
    """Read what the servers behind agents can do."""
    found: dict[str, Upstream] = {}
    mistakes: list[ConfigError] = []
    for name, agent in manifest.agents.items():
        if agent.http is not None:
            found[name], wrong = read_upstream(agent)
            mistakes += wrong
    return found, mistakes


def _model_mistakes(manifest: spec.Manifest) -> list[ConfigError]:
    """Check the model's name and size against the registry; the planner knows neither."""
    from sutazai.llm.models import MODELS

    llm = manifest.llm
    if llm is None or llm.url:
        return []
    place = {"path": llm.place.path, "line": llm.place.line, "column": llm.place.column}
    if "/" in llm.model:
        size = Path(llm.model).stat().st_size
    else:
        model = next((model for model in MODELS if model.name == llm.model and model.use == "chat"), None)
        if model is None:
            names = [model.name for model in MODELS if model.use == "chat"]
            from sutazai.spec.section import one_of

            hint = f"{one_of(llm.model, names)}; a GGUF file is named by its path"
            return [ConfigError(f"llm.model: unknown model {llm.model!r}", **place, hint=hint)]  # type: ignore[arg-type]
        size = model.size_bytes
    need = int(size * MODEL_OVERHEAD)
    if need <= llm.memory_bytes:
        return []
    problem = f"llm.memory: {format_bytes(llm.memory_bytes)} is too little for {llm.model} ({format_bytes(size)})"
    hint = f"write at least {format_bytes(need).replace(' ', '')}, more for a long context"
    return [ConfigError(problem, **place, hint=hint)]  # type: ignore[arg-type]


def write(compiled: Compiled, out: Path) -> None:
    """Write the plan file and make the folders it names.

    Raises:
        HostError: the state folder cannot be written.
    """
    if compiled.file is None:
        return
    paths = FleetPaths.of(compiled.plan.fleet)
    try:
        paths.state.mkdir(parents=True, exist_ok=True, mode=0o755)
        for process in compiled.file.processes:
            if process.kind == "service":
                folder = service_state_dir(paths, process.name)
                folder.mkdir(parents=True, exist_ok=True)
                if process.uid >= 0:
                    with suppress(PermissionError):  # not root: the user is ourselves
                        import os

                        os.chown(folder, process.uid, -1)
        scratch = paths.state / "scratch"
        scratch.mkdir(exist_ok=True)
        with suppress(PermissionError):  # another user made it
            scratch.chmod(0o1777)
        out.parent.mkdir(parents=True, exist_ok=True)
        compiled.file.dump(out)
    except OSError as error:
        raise HostError(f"cannot write {error.filename or out}: {error.strerror}; set SUTAZAI_STATE_ROOT") from error


def main(argv: list[str] | None = None) -> int:
    """Compile, tell the outcome, and give it as exit code."""
    parser = argparse.ArgumentParser(prog="sutazai.control.compile", description="Compile a manifest to a plan file.")
    parser.add_argument("manifest", type=Path)
    parser.add_argument("--out", type=Path, help="where to write the plan file")
    parser.add_argument("--profile", default="", help="in place of the manifest's")
    parser.add_argument("--json", action="store_true", help="print the plan or the mistakes as JSON")
    parser.add_argument("--check-only", action="store_true", help="write nothing")
    options = parser.parse_args(argv)
    if options.out is None and not options.check_only:
        parser.error("--out or --check-only is needed")
    try:
        compiled = compile_manifest(options.manifest, keep=not options.check_only, profile=options.profile)
        if not options.check_only:
            write(compiled, options.out)
    except ConfigErrors as group:
        _tell_mistakes(group, as_json=options.json)
        return BAD_MANIFEST
    except HostError as error:
        sys.stderr.write(f"{error}\n")
        return DOES_NOT_FIT
    _tell(compiled.plan, as_json=options.json)
    return FITS if compiled.plan.fits else DOES_NOT_FIT


def _tell(plan: planner.Plan, *, as_json: bool) -> None:
    if as_json:
        _print_json(planner.to_json(plan))
    elif plan.fits:
        count = sum(not row.planned for row in plan.agents)
        processes = sum(not row.planned for row in plan.processes)
        agents = f"{count} agent{'' if count == 1 else 's'}"
        parts = f"{processes} processes, {agents}, {len(plan.ports)} ports"
        later = sum(row.planned for row in plan.agents), sum(row.planned for row in plan.processes)
        if any(later):
            parts += f"; planned, not started: {later[0]} agents, {later[1]} processes"
        pools = sum(row.size_bytes for row in plan.pools if not row.parent)
        sys.stdout.write(
            f"{plan.fleet} fits: {parts}; {format_bytes(pools)} of {format_bytes(plan.host.memory_total_bytes)}\n"
        )
        for finding in plan.warnings:
            sys.stdout.write(f"  ! {finding}\n")
    else:
        from rich.console import Console

        from sutazai.plan.render import render

        Console().print(render(plan))


def _tell_mistakes(group: ConfigErrors, *, as_json: bool) -> None:
    if as_json:
        mistakes = [
            {name: getattr(mistake, name, "") for name in ("path", "line", "column", "problem", "hint")}
            for mistake in group.exceptions
        ]
        _print_json({"fits": False, "mistakes": mistakes})
        return
    lines = [group.message]
    for mistake in group.exceptions:
        if isinstance(mistake, ConfigError):
            where = ":".join(str(part) for part in (mistake.path, mistake.line, mistake.column) if part)
            lines.append(f"  {where}: {mistake.problem}" + (f"\n      → {mistake.hint}" if mistake.hint else ""))
    sys.stderr.write("\n".join(lines) + "\n")


def _print_json(data: dict[str, Any]) -> None:
    sys.stdout.write(json.dumps(data, indent=1) + "\n")


if __name__ == "__main__":
    sys.exit(main())
