"""Why it exists: ``sutazai plan --json`` is read by scripts, so its form is made in one place and documented."""

from __future__ import annotations

from dataclasses import asdict
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from sutazai.plan.model import Plan


def to_json(plan: Plan) -> dict[str, Any]:
    """Write a plan as JSON data; units stand in the names, see ``docs/reference/manifest.md``."""
    data = asdict(plan)
    data["host"] = plan.host.to_json()
    data["fits"] = plan.fits
    data["scaling"] |= {
        "memory_factor": round(plan.scaling.memory_factor, 4),
        "cores_factor": round(plan.scaling.cores_factor, 4),
    }
    return {"fits": data.pop("fits"), **data}
