"""Why it exists: people, firewalls and other programs look a port up in a file: the blueprint's ``port-registry.yaml``.

Ranges by purpose (§3.2), and behind them every single port with its owner.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from sutazai.plan.model import Plan, PortRow
    from sutazai.spec import Manifest

HEAD = "# Port registry of the fleet {fleet}, written by: sutazai plan {manifest} --ports FILE. Change the manifest.\n"


def to_registry(manifest: Manifest, plan: Plan) -> str:
    """Write the registry as YAML: ``port_assignments`` are the ranges, ``ports`` the owners; offsets are added."""
    offset = plan.port_offset
    lines = [HEAD.format(fleet=plan.fleet, manifest=plan.manifest.rpartition("/")[2]), "port_assignments:\n"]
    ranges = manifest.port_ranges.items()
    lines += [f"  {name}: {one.first + offset}-{one.last + offset}\n" for name, one in ranges]
    lines.append("ports:\n" if plan.ports else "ports: {}\n")
    lines += [f"  {row.number}: {{{_entry(row)}}}\n" for row in plan.ports]
    return "".join(lines)


def _entry(row: PortRow) -> str:
    parts = [f"owner: {row.service or row.owner}", f"name: {row.name.partition(':')[0]}", f"held_by: {row.held_by}"]
    if row.planned:
        parts.append("status: planned")
    return ", ".join(parts)
