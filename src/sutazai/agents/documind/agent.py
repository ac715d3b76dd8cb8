"""Why it exists: the skills of documind: read a document in a child process, find values in its text, show where."""

import json
import sys
from typing import Annotated, Any

from pydantic import Field

from sutazai.agents.documind import finding, ocr
from sutazai.agents.documind.models import Candidate, Extraction, File, Found, Kind, PageText, Reading, Wanted
from sutazai.errors import SutazaiError
from sutazai.runtime import Agent, Context, NonRetryableError, files
from sutazai.runtime.programs import MissingProgramError, limited, run, short
from sutazai.units import MIB

agent = Agent("documind")

FILE_BYTES_MAX = 16 * MIB
FIELDS_MAX = 100
OTHERS_MAX = 5
READ_MEMORY_BYTES = 176 * MIB
READ_S = 60.0
INSTALL = "scripts/bootstrap base llm data documents"
UseLlm = Annotated[bool, Field(description="let the language model pick where several values fit equally well")]


class DocumentError(NonRetryableError):
    """The document cannot be read; `code` says why: damaged, encrypted, too-large, no-text."""

    def __init__(self, code: str, message: str) -> None:
        super().__init__(message)
        self.code = code  # type: ignore[misc]  # one class for the codes of the reading process


@agent.skill
def extract(
    ctx: Context,
    file: File,
    fields: Annotated[
        dict[str, Wanted], Field(min_length=1, max_length=FIELDS_MAX, description="name → what is looked for")
    ],
    day_first: Annotated[
        bool | None, Field(description="how 3/4/2024 is meant; left out: such a date is not read")
    ] = None,
    *,
    use_llm: UseLlm = True,
) -> Extraction:
    """Extract typed values from a PDF, DOCX, HTML page, text or image; each with page, offset and snippet."""
    questions = {name: finding.Question.of(name, wanted, day_first=day_first) for name, wanted in fields.items()}
    kind, pages, notes = _read(ctx, file)
    ctx.progress(0.6, "finding values")
    found = []
    for name, question in questions.items():
        every = finding.candidates(question, pages)
        found.append(_choose(ctx, name, every, notes, use_llm=use_llm and ctx.settings.get("use_llm", True)))
    missing = [item.name for item in found if item.evidence is None]
    return Extraction(
        values={item.name: item.value for item in found},
        fields=found,
        missing=missing,
        complete=not any(fields[name].required for name in missing),
        kind=kind,
        pages=len(pages),
        notes=notes,
    )


@agent.skill
def read(ctx: Context, file: File) -> Reading:
    """Read a document as text, page by page, with its tables."""
    kind, pages, notes = _read(ctx, file)
    return Reading(kind=kind, pages=pages, notes=notes)


def _choose(ctx: Context, name: str, every: list[Candidate], notes: list[str], *, use_llm: bool) -> Found:
    if not every:
        return Found(name=name, value=None, evidence=None, sure="none", chosen_by="none", others=[])
    equal = finding.best(every)
    first, by = equal[0], "rule"
    if len(equal) > 1 and use_llm:
        picked = _pick(ctx, name, equal, notes)
        if picked is not None:
            first, by = equal[picked], "llm"
    others = [item for item in every if item.value != first.value][:OTHERS_MAX]
    return Found(
        name=name,
        value=first.value,
        evidence=first.evidence,
        sure="several" if len(equal) > 1 else "one",
        chosen_by=by,  # type: ignore[arg-type]  # one of two
        others=others,
    )


def _pick(ctx: Context, name: str, equal: list[Candidate], notes: list[str]) -> int | None:
    """Ask the model for the number of a candidate; it cannot answer anything else."""
    lines = [f"{number}: {item.evidence.snippet}" for number, item in enumerate(equal)]
    schema = {
        "type": "object",
        "properties": {"pick": {"enum": list(range(len(equal)))}},
        "required": ["pick"],
        "additionalProperties": False,
    }
    question = f"Which line holds the document's {name.replace('_', ' ')}?\n" + "\n".join(lines)
    try:
        answer = ctx.llm.chat([{"role": "user", "content": question}], schema=schema, max_tokens=16)
    except SutazaiError as error:
        notes.append(f"{name}: several values fit; no language model picked one ({error.code})")
        return None
    pick = (answer.data or {}).get("pick") if isinstance(answer.data, dict) else None
    return pick if isinstance(pick, int) and 0 <= pick < len(equal) else None


def _read(ctx: Context, file: File) -> tuple[Kind, list[PageText], list[str]]:
    if bool(file.content) == bool(file.path):
        raise NonRetryableError("give either `content` or `path` of the file")
    if file.content:
        data = files.decode(file.content, FILE_BYTES_MAX)
    else:
        data = files.read(file.path, ctx.settings, FILE_BYTES_MAX)
    if not data:
        raise DocumentError("damaged", "the file is empty")
    kind = file.kind or kind_of(data)
    engine = ocr.program() if kind == "image" else ""
    ctx.progress(0.1, f"reading {kind}")
    told = _child(ctx, kind, data)
    pages = [PageText.model_validate(page) for page in told["pages"]]
    notes = list(told["notes"])
    if kind == "image":
        pages = [ocr.recognise(engine, data, ctx.scratch, min(READ_S, ctx.deadline_left_s()))]
        if not pages[0].text.strip():
            raise DocumentError("no-text", "no text was recognised in the image")
        notes.append("read by OCR: characters may be wrong")
    return kind, pages, notes


def _child(ctx: Context, kind: Kind, data: bytes) -> dict[str, Any]:
    limit_s = min(READ_S, max(1.0, ctx.deadline_left_s() - 2))
    command = limited(
        [sys.executable, "-I", "-m", "sutazai.agents.documind.reading", kind],
        memory_bytes=READ_MEMORY_BYTES,
        cpu_s=round(READ_S),
        file_bytes=MIB,
    )
    ran = run(command, folder=ctx.scratch, timeout_s=limit_s, give=data)
    if ran.timed_out:
        raise DocumentError("too-large", f"reading it takes more than {limit_s:.0f} s")
    try:
        told: dict[str, Any] = json.loads(ran.out)
    except ValueError as error:
        why = f"signal {-ran.status}" if ran.status < 0 else f"status {ran.status}"
        raise DocumentError("damaged", f"the reader ended with {why}: {short(ran.told)}") from error
    if (wrong := told.get("error")) is None:
        return told
    if wrong["code"] == "unavailable":
        raise MissingProgramError(f"{wrong['message']} here: run `{INSTALL}` in the checkout")
    raise DocumentError(wrong["code"], wrong["message"])


def kind_of(data: bytes) -> Kind:
    """Tell what a file is from its bytes.

    Raises:
        DocumentError: it is none of the known kinds.
    """
    head = data[:1_024].lstrip(b"\xef\xbb\xbf \t\r\n")
    if b"%PDF-" in data[:1_024]:
        return "pdf"
    if head.startswith(b"PK\x03\x04"):
        return "docx"
    if head.startswith((b"\x89PNG", b"\xff\xd8\xff", b"GIF8", b"BM", b"II*\x00", b"MM\x00*")) or data[8:12] == b"WEBP":
        return "image"
    if head.startswith(b"\xd0\xcf\x11\xe0"):
        raise DocumentError("encrypted", "an old or protected Office file: save it as DOCX without a password")
    if head[:1] == b"<":
        return "html"
    if b"\0" in data[:4_096]:
        raise DocumentError("damaged", "the file is no PDF, DOCX, HTML, text or image; or name its `kind`")
    return "text"
