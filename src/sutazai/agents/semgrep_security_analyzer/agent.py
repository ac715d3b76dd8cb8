"""Why it exists: the skills of semgrep-security-analyzer: take files, let the engine scan them, rank what it found."""

import tempfile
from pathlib import Path
from typing import Annotated

from pydantic import Field

from sutazai.agents.semgrep_security_analyzer import engine, ruleset, sarif
from sutazai.agents.semgrep_security_analyzer.models import Rules, Scan
from sutazai.runtime import Agent, Context, NonRetryableError, files
from sutazai.units import MIB

agent = Agent("semgrep-security-analyzer")

FILES_MAX = 500
BYTES_MAX = 4 * MIB
FINDINGS_MAX = 500
_SECONDS_MAX = 120.0
_SUFFIXES = (*ruleset.LANGUAGES, ruleset.DOCKERFILE)


@agent.skill
def scan(
    ctx: Context,
    source: Annotated[
        dict[str, str] | None, Field(max_length=FILES_MAX, description="relative names of files → their text")
    ] = None,
    path: Annotated[
        str, Field(max_length=4_096, description="or a file or folder below one of the agent's allowed folders")
    ] = "",
) -> Scan:
    """Scan source code for security faults with the shipped rules, offline: ranked findings and SARIF 2.1.0."""
    if (source is None) == (not path):
        raise NonRetryableError("give either `source` or `path`")
    engine.program()
    if source is None:
        source = files.read_tree(path, ctx.settings, _SUFFIXES, files_max=FILES_MAX, bytes_max=BYTES_MAX)
    given = {files.safe_name(name): text for name, text in source.items()}
    if not given:
        raise NonRetryableError("there is no file in `source`")
    texts = {name: text for name, text in given.items() if ruleset.language(name) is not None}
    skipped = sorted(set(given) - set(texts))
    ctx.progress(0.2, f"scanning {len(texts)} files")
    with tempfile.TemporaryDirectory(dir=ctx.scratch) as folder:
        limit_s = min(_SECONDS_MAX, max(1.0, ctx.deadline_left_s() - 2))
        answer = engine.scan(texts, Path(folder).resolve(), limit_s)
    notes = [] if texts else ["no file is in a language that there are rules for"]
    if len(answer.findings) > FINDINGS_MAX:
        notes.append(f"the first {FINDINGS_MAX} of {len(answer.findings)} findings; scan fewer files for all")
        answer.findings[FINDINGS_MAX:] = []
    return Scan(
        verdict="faults" if answer.findings else "incomplete" if answer.errors or not texts else "clean",
        findings=answer.findings,
        suppressed=len(answer.suppressed),
        files=answer.scanned,
        skipped=skipped,
        errors=answer.errors,
        rules=len(ruleset.rules()),
        engine=f"semgrep-core {answer.version}",
        sarif=sarif.write(answer, ruleset.rules(), skipped),
        notes=notes,
    )


@agent.skill
def rules() -> Rules:
    """List the rules: what is looked for, in which languages, how bad it is and how sure."""
    return Rules(rules=list(ruleset.rules().values()))
