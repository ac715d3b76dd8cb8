"""Why it exists: an image's text is read by tesseract when it is there; when not, the answer says how to get it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from sutazai.agents.documind.models import PageText
from sutazai.runtime.programs import ProgramFailedError, find, limited, run, short
from sutazai.units import MIB

if TYPE_CHECKING:
    from pathlib import Path

INSTALL = "apt-get install tesseract-ocr"
MEMORY_BYTES = 200 * MIB


def program() -> str:
    """Find the OCR engine.

    Raises:
        MissingProgramError: it is not installed.
    """
    return find("tesseract", INSTALL)


def recognise(engine: str, data: bytes, folder: Path, timeout_s: float) -> PageText:
    """Read the text of an image, a line for each line that the engine sees.

    Raises:
        ProgramFailedError: the engine ended without an answer.
    """
    command = limited(
        [engine, "stdin", "stdout", "--psm", "3"], memory_bytes=MEMORY_BYTES, cpu_s=round(timeout_s) + 1, file_bytes=MIB
    )
    ran = run(command, folder=folder, timeout_s=timeout_s, env={"OMP_THREAD_LIMIT": "1"}, give=data)
    if ran.timed_out or ran.status != 0:
        why = "took too long" if ran.timed_out else short(ran.told)
        raise ProgramFailedError(f"tesseract could not read the image: {why}")
    text = ran.out.decode("utf-8", errors="replace").replace("\f", "").strip("\n")
    return PageText(number=1, text=text, tables=[])
