"""A fleet that writes no pools may still bound what it takes of the machine."""

from __future__ import annotations

from typing import TYPE_CHECKING

from sutazai import plan, spec

if TYPE_CHECKING:
    from pathlib import Path


def test_a_bound_on_the_host_scales_the_blueprints_pools(tmp_path: Path) -> None:
    """`host: {memory: 4GB}` alone is no mistake: the planner scales the pools that nobody wrote, and the fleet fits."""
    path = tmp_path / "m.yaml"
    path.write_text("fleet: m\nhost: {memory: 4GB}\nagents:\n  health-monitor:\n")
    result = plan.make(spec.load(path), plan.parse_host("2c,16GB"))
    assert result.fits, [str(error) for error in result.errors]
    assert sum(row.size_bytes for row in result.pools if not row.parent) <= 4 * 1024**3
