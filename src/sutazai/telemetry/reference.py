"""Why it exists: the reference pages of metrics and conditions are written from the tables, so they cannot be wrong.

``python -m sutazai.telemetry.reference docs/reference`` writes them; a test sees to it that they are up to date.
"""

from __future__ import annotations

import sys
from pathlib import Path

from sutazai.telemetry.kinds import KINDS, SEVERITIES
from sutazai.telemetry.names import METRICS

_METRICS_HEAD = """\
# Metrics

Written from `sutazai.telemetry.names` by `python -m sutazai.telemetry.reference docs/reference`; change it there.

Names follow Prometheus' conventions: base units, `_total` for counters. Counters start anew with the process that
keeps them. **Ring** ones are kept by control for two hours, one value a second, and are read with
`GET /v1/metrics` ([control-api.md](control-api.md)); the others stand only on the page of the process that keeps them:
control on port 10204, the language model server on 10104, the gateway on 10005 (each `/metrics`, + `port_offset`).

| name | type | unit | labels | ring | what |
| --- | --- | --- | --- | --- | --- |
"""

_CONDITIONS_HEAD = """\
# Conditions

Written from `sutazai.telemetry.kinds` by `python -m sutazai.telemetry.reference docs/reference`; change it there.

A condition is a state that a user should know about. It has a *kind*, a *subject* (a process, an agent, a pool,
`host`), a text with numbers, and the time it began. `sutazai status` and `GET /v1/conditions` show what holds now.
A condition that another active one explains is not a **root**; roots are shown first. **Explained by** says which
conditions do that: `Kind` means of the same subject, `Kind/*` of any, `Kind/subject` of that one.

Severity: `critical`: work is lost or stands still without a person; `warning`: the fleet mends it or goes on with less;
`info`: good to know.
"""


def metrics_page() -> str:
    """Write ``metrics.md``."""
    rows = (
        f"| `{entry.name}` | {entry.type} | {entry.unit} | {_code(entry.labels)} | "
        f"{'yes' if entry.sampled else ''} | {entry.help} |\n"
        for entry in METRICS.values()
    )
    return _METRICS_HEAD + "".join(rows)


def conditions_page() -> str:
    """Write ``conditions.md``."""
    parts = [_CONDITIONS_HEAD]
    for severity in SEVERITIES:
        parts.append(f"\n## {severity}\n")
        parts += [
            f"\n### {kind.name}\n\n{kind.meaning}\n\n"
            f"- Says: “{kind.summary.format(subject='SUBJECT')}”, or the numbers.\n"
            f"- What to do: {kind.fix.format(subject='SUBJECT')}.\n"
            f"- Explained by: {_code(kind.causes) or 'nothing else'}.\n"
            for kind in KINDS.values()
            if kind.severity == severity
        ]
    return "".join(parts)


def _code(words: tuple[str, ...]) -> str:
    return ", ".join(f"`{word}`" for word in words)


def main(folder: Path) -> None:
    """Write both pages."""
    (folder / "metrics.md").write_text(metrics_page())
    (folder / "conditions.md").write_text(conditions_page())


if __name__ == "__main__":
    main(Path(sys.argv[1]))
