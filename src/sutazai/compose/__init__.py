"""Why it exists: people who have a fleet already have it as a Compose file; this makes a manifest out of it.

``take_over`` reads files and gives a text and a report; ``save`` writes the one output file. Nothing is ever started,
fetched, built or installed, and nothing of the Compose file is dropped without a word.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

from sutazai.compose.reading import DEFAULT_NAMES, Source, read_project
from sutazai.compose.report import Report
from sutazai.compose.translate import Translator, manifest_name
from sutazai.compose.writing import write
from sutazai.errors import ConfigError, ConfigErrors
from sutazai.limits import FLEET_NAME_CHARACTERS_MAX

__all__ = ["DEFAULT_NAMES", "Imported", "Report", "Source", "save", "take_over"]


@dataclass(frozen=True, slots=True)
class Imported:
    """The outcome of an import.

    Attributes:
        text: of the manifest.
        report: what became of each service, port, limit, link and key.
    """

    text: str
    report: Report


def take_over(source: Source, out: Path, *, fleet: str = "") -> Imported:
    """Make a manifest out of Compose files; writes nothing.

    Args:
        source: the files, variables and profiles.
        out: where the manifest will stand: its paths are relative to that folder.
        fleet: name; the project's when empty.

    Raises:
        ConfigErrors: all mistakes of the Compose files, each with file, line, column and a hint.
    """
    project = read_project(source)
    project.mistakes.raise_if_any(str(source.files[0]))
    folder = Path(os.path.normpath(Path.cwd() / out)).parent
    translator = Translator(project, folder)
    translator.run()
    name = manifest_name(fleet or project.name)[:FLEET_NAME_CHARACTERS_MAX].rstrip("-")
    text = write(translator, name, source.files, folder)
    report = translator.report
    report.fleet = name
    report.notes = project.notes.all()
    return Imported(text, report)


def save(imported: Imported, out: Path) -> None:
    """Write the manifest, whole or not at all, after it was read back and found good.

    Raises:
        ConfigErrors: the file cannot be written, or the manifest has a mistake (then nothing is written).
    """
    from sutazai import spec

    draft = out.with_name(f".{out.name}.{os.getpid()}.tmp")
    try:
        with draft.open("x", encoding="utf-8") as file:
            file.write(imported.text)
        spec.load(draft)
        draft.replace(out)
    except OSError as error:
        mistake = ConfigError(f"cannot be written: {error.strerror}", path=str(out), hint="name another file with -o")
        raise ConfigErrors(f"{out}: 1 mistake", [mistake]) from error
    finally:
        draft.unlink(missing_ok=True)
