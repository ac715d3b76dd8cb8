"""Why it exists: a proposal is worth something when it can be put into the manifest as it stands; pure."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from sutazai.runtime.evidence import Finding, Measure
from sutazai.units import MIB

if TYPE_CHECKING:
    from collections.abc import Sequence

    from sutazai.agents.hardware_resource_optimizer.models import Proposal

_SECTIONS = {"service": "services", "agent": "agents"}


def changed(proposals: Sequence[Proposal]) -> list[Proposal]:
    """Those that a manifest can change."""
    return [one for one in proposals if one.proposed is not None and one.kind in {"service", "agent", "llm"}]


def patch(proposals: Sequence[Proposal]) -> dict[str, Any]:
    """The part of a manifest that makes the proposals true."""
    found: dict[str, Any] = {}
    for one in changed(proposals):
        sizes = {"memory": _size(one.proposed)}
        if one.proposed_start_peak is not None:
            sizes["envelope" if one.kind == "agent" else "start_peak"] = _size(one.proposed_start_peak)
        if one.kind == "llm":
            found["llm"] = sizes
        else:
            found.setdefault(_SECTIONS[one.kind], {})[one.name] = sizes
    return found


def as_yaml(parts: dict[str, Any]) -> str:
    """Write a patch as a person would."""
    lines = []
    for section, content in parts.items():
        if section == "llm":
            lines.append(f"llm: {_flow(content)}")
            continue
        lines.append(f"{section}:")
        lines += [f"  {name}: {_flow(sizes)}" for name, sizes in content.items()]
    return "".join(f"{line}\n" for line in lines)


def _flow(sizes: dict[str, str]) -> str:
    return "{" + ", ".join(f"{key}: {value}" for key, value in sizes.items()) + "}"


def _size(amount: Measure | None) -> str:
    return f"{int(amount.value) // MIB if amount is not None else 0}MB"


def savings(proposals: Sequence[Proposal]) -> tuple[Measure, dict[str, Measure]]:
    """Sum up, in total and by pool; a process that needs more counts against it."""
    by_pool: dict[str, int] = {}
    for one in proposals:
        if one.saving is not None:
            by_pool[one.pool] = by_pool.get(one.pool, 0) + int(one.saving.value)
    pools = {
        pool: Measure(value=value, unit="bytes", source=f"sum of savings in the pool {pool}")
        for pool, value in sorted(by_pool.items())
    }
    total = Measure(value=sum(by_pool.values()), unit="bytes", source="sum of limit minus proposed, one instance each")
    return total, pools


def findings(proposals: Sequence[Proposal], total: Measure) -> list[Finding]:
    """State the changes, the largest first."""
    stated = []
    ranked = sorted(changed(proposals), key=lambda one: (one.verdict != "raise", -abs(_number(one.saving)), one.name))
    for one in ranked[:10]:
        if one.limit is None or one.proposed is None or one.peak is None:
            continue
        verb = "needs more than" if one.verdict == "raise" else "never came near"
        stated.append(
            Finding(
                section="action",
                subject=one.name,
                text=f"`{one.name}` {verb} its limit of {{limit}} (peak {{peak}}): make it {{proposed}}.",
                measures={"limit": one.limit, "peak": one.peak, "proposed": one.proposed},
            )
        )
    if stated:
        stated.append(
            Finding(section="impact", text="Together the limits fall by {saving}.", measures={"saving": total})
        )
    return stated


def _number(amount: Measure | None) -> float:
    return float(amount.value) if amount is not None else 0.0
