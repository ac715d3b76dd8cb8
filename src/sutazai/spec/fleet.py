"""Why it exists: puts the parts of a manifest together and raises all of its mistakes at once."""

from __future__ import annotations

import gc
import hashlib
from pathlib import Path

from sutazai.limits import FLEET_NAME_CHARACTERS_MAX
from sutazai.spec import standard
from sutazai.spec.agent import AgentContext, builtin_agents_dir, builtin_names, modules_of, read_agents
from sutazai.spec.budget import read_cpu_sets, read_host, read_pools, read_port_ranges, read_runtime_pools, with_hosting
from sutazai.spec.check import check
from sutazai.spec.document import read_document
from sutazai.spec.model import Manifest
from sutazai.spec.places import Mistakes, Place
from sutazai.spec.policies import read_llm, read_policies
from sutazai.spec.section import Section, one_of
from sutazai.spec.service import PORT_MAX, read_services

TOP_KEYS = ("memory_pools", "agents", "services")


def load(path: Path | str, *, builtin_agents: Path | None = None, profile: str = "") -> Manifest:
    """Read a fleet's manifest.

    Args:
        path: of the YAML file; it is named in messages as it is given.
        builtin_agents: folder of built-in agents, if not the package's own.
        profile: in place of the one that is written.

    Raises:
        ConfigErrors: all mistakes at once, each with file, line, column and a hint.
    """
    collecting = gc.isenabled()
    gc.disable()  # a manifest makes many objects and no cycle: looking for some takes a third of the time
    try:
        return _load(Path(path), builtin_agents or builtin_agents_dir(), profile)
    finally:
        if collecting:
            gc.enable()


def _load(path: Path, builtin_agents: Path, profile: str) -> Manifest:
    mistakes = Mistakes()
    root = Section(read_document(path, mistakes), "", mistakes, Place(str(path), 1, 1))
    manifest = read(root, path, builtin_agents, profile)
    check(manifest, mistakes)
    mistakes.raise_if_any(str(path))
    return _with_digest(manifest, profile)


def read(root: Section, path: Path, builtin_agents: Path, profile: str = "") -> Manifest:
    """Read each part of a manifest; what is wrong goes to the section's mistakes.

    Args:
        root: the whole document.
        path: of the file; what is named in it is relative to its folder.
        builtin_agents: folder of built-in agents.
        profile: in place of the one that is written.
    """
    folder = path.resolve().parent
    fleet = root.identifier("fleet", required=True, longest=FLEET_NAME_CHARACTERS_MAX)
    port_offset = root.count("port_offset", 0, least=0, most=PORT_MAX)
    profile = _profile(root, profile)
    host = read_host(root)
    pools, platform_bytes = read_pools(root)
    policies = read_policies(root)
    context = AgentContext(folder, builtin_agents, pools, policies, tuple(builtin_names(builtin_agents)))
    services, provided = read_services(root, folder, standard.names_of(profile))
    if profile == standard.STANDARD:
        services = standard.with_servers(services, root.mistakes, root.place_of("profile"), str(folder))
    agents = read_agents(root, context)
    written = [agent.runtime for agent in agents.values() if not agent.planned]
    manifest = Manifest(
        fleet=fleet,
        path=str(path.resolve()),
        digest="",
        port_offset=port_offset,
        profile=profile,
        host=host,
        pools=pools,
        platform_bytes=platform_bytes,
        cpu_sets=read_cpu_sets(root, host),
        port_ranges=read_port_ranges(root),
        runtime_pools=with_hosting(read_runtime_pools(root), written),
        services=services,
        provided=provided,
        agents=agents,
        llm=read_llm(root, folder),
        policies=policies,
        places={key: root.key_place(key) for key in ("fleet", "port_offset", "host", *TOP_KEYS)},
    )
    root.finish()
    return manifest


def _profile(root: Section, given: str) -> str:
    text = given or root.text("profile", standard.PROFILES[0])
    if given:
        root.text("profile")
    if text in standard.PROFILES:
        return text
    root.add("profile", f"{text!r} is unknown", one_of(text, standard.PROFILES))
    return standard.PROFILES[0]


def _with_digest(manifest: Manifest, profile: str) -> Manifest:
    from dataclasses import replace

    digest = hashlib.sha256(Path(manifest.path).read_bytes() + profile.encode())
    for path in modules_of(manifest.agents.values()):
        digest.update(path.read_bytes())
    return replace(manifest, digest=digest.hexdigest())
