"""Why it exists: documents from outside are read in a process of their own that may fail without harm.

``python -m sutazai.agents.documind.reading KIND`` takes a document on standard input and writes JSON. Memory and time
are limited by whoever starts it, so a file that unpacks to gigabytes ends in an error and not in a killed agent. It
imports nothing of sutazai, so it starts fast.
"""

from __future__ import annotations

import io
import json
import re
import sys
import zipfile
from typing import Any

PAGES_MAX = 60
PAGE_CHARACTERS_MAX = 100_000
TEXT_CHARACTERS_MAX = 1_000_000
TABLES_MAX = 50
CELLS_MAX = 20_000
UNPACKED_BYTES_MAX = 48 * 1_048_576
PARTS_MAX = 2_000
PIXELS_MAX = 25_000_000
Page = dict[str, Any]


class ReadError(Exception):
    """The document cannot be read.

    Args:
        code: stable name.
        message: what to do.
    """

    def __init__(self, code: str, message: str) -> None:
        super().__init__(message)
        self.code = code


def read(kind: str, data: bytes) -> dict[str, Any]:
    """Read a document.

    Returns:
        ``{"pages": [{number, text, tables}], "notes": […]}``.

    Raises:
        ReadError: it is damaged, encrypted, too large, or holds no text.
    """
    readers = {"pdf": _pdf, "docx": _docx, "html": _html, "text": _text, "image": _image}
    notes: list[str] = []
    pages = readers[kind](data, notes)
    if sum(len(page["text"]) for page in pages) > TEXT_CHARACTERS_MAX:
        raise ReadError(
            "too-large", f"the document holds more than {TEXT_CHARACTERS_MAX} characters: give a part of it"
        )
    if kind != "image" and not any(page["text"].strip() for page in pages):
        raise ReadError("no-text", "the document holds no text (a scan?): give its pages as images, to be read by OCR")
    return {"pages": pages, "notes": notes}


def _page(number: int, text: str, tables: list[list[list[str]]]) -> Page:
    return {"number": number, "text": text[:PAGE_CHARACTERS_MAX], "tables": tables}


def _pdf(data: bytes, notes: list[str]) -> list[Page]:
    import logging

    import pdfplumber
    from pdfminer.pdfdocument import PDFEncryptionError, PDFPasswordIncorrect
    from pdfplumber.utils.exceptions import PdfminerException

    logging.disable(logging.CRITICAL)
    pages: list[Page] = []
    try:
        with pdfplumber.open(io.BytesIO(data)) as document:
            total = len(document.pages)
            if total > PAGES_MAX:
                notes.append(f"the first {PAGES_MAX} of {total} pages were read")
            for page in document.pages[:PAGES_MAX]:
                text = page.extract_text() or ""
                tables = [_rows(table) for table in page.extract_tables()[:TABLES_MAX]] if text else []
                if not text.strip():
                    notes.append(f"page {page.page_number} holds no text")
                pages.append(_page(page.page_number, text, _few(tables)))
                page.close()
    except (PDFPasswordIncorrect, PDFEncryptionError) as error:
        raise ReadError("encrypted", "the PDF is protected by a password: give it without one") from error
    except PdfminerException as error:
        inner = error.args[0] if error.args else error
        if isinstance(inner, (PDFPasswordIncorrect, PDFEncryptionError)):
            raise ReadError("encrypted", "the PDF is protected by a password: give it without one") from error
        if isinstance(inner, MemoryError):
            raise MemoryError from error  # noqa: TRY004 it is that very error, unwrapped
        raise ReadError("damaged", f"the PDF cannot be read: {type(inner).__name__} {inner}") from error
    if not pages:
        raise ReadError("damaged", "the PDF has no pages")
    return pages


def _docx(data: bytes, notes: list[str]) -> list[Page]:
    _check_archive(data)
    import docx
    from docx.opc.exceptions import PackageNotFoundError
    from docx.table import Table
    from docx.text.paragraph import Paragraph

    try:
        document = docx.Document(io.BytesIO(data))
    except (PackageNotFoundError, KeyError, ValueError, zipfile.BadZipFile) as error:
        raise ReadError("damaged", f"the DOCX cannot be read: {error}") from error
    lines: list[list[str]] = [[]]
    tables: list[list[list[list[str]]]] = [[]]
    for block in document.iter_inner_content():
        if isinstance(block, Table):
            rows = _rows([[cell.text for cell in row.cells] for row in block.rows])
            lines[-1] += ["\t".join(row) for row in rows]
            tables[-1].append(rows)
        elif isinstance(block, Paragraph):
            if block.paragraph_format.page_break_before and lines[-1]:
                lines.append([])
                tables.append([])
            for number, part in enumerate(_split_at_breaks(block)):
                if number:
                    lines.append([])
                    tables.append([])
                lines[-1] += part.splitlines() or [""]
    if len(lines) == 1:
        notes.append("the DOCX names no page breaks: all is page 1")
    return [
        _page(number, "\n".join(part), _few(found))
        for number, (part, found) in enumerate(zip(lines, tables, strict=True), 1)
    ]


def _split_at_breaks(paragraph: Any) -> list[str]:
    """Split a paragraph where its author or the last program that laid it out began a page."""
    parts = [""]
    for run in paragraph.runs:
        for node in run._r:  # noqa: SLF001 the library gives no other way to the order of texts and breaks
            tag = node.tag.rpartition("}")[2]
            if tag == "lastRenderedPageBreak" or (tag == "br" and node.get(node.tag.replace("}br", "}type")) == "page"):
                parts.append("")
            elif tag == "t":
                parts[-1] += node.text or ""
            elif tag in {"br", "cr"}:
                parts[-1] += "\n"
            elif tag == "tab":
                parts[-1] += "\t"
    return parts if len(parts) > 1 or parts[0] else [paragraph.text]


def _check_archive(data: bytes) -> None:
    try:
        with zipfile.ZipFile(io.BytesIO(data)) as archive:
            parts = archive.infolist()
    except (zipfile.BadZipFile, ValueError) as error:
        raise ReadError("damaged", f"the DOCX is no archive: {error}") from error
    total = sum(part.file_size for part in parts)
    if len(parts) > PARTS_MAX or total > UNPACKED_BYTES_MAX:
        raise ReadError("too-large", f"the DOCX unpacks to {total} bytes in {len(parts)} parts: it is not read")
    if any(part.flag_bits & 1 for part in parts):
        raise ReadError("encrypted", "the DOCX is protected by a password: give it without one")
    if "[Content_Types].xml" not in {part.filename for part in parts}:
        raise ReadError("damaged", "the archive is no DOCX")


def _html(data: bytes, _notes: list[str]) -> list[Page]:
    from lxml import etree, html

    try:
        tree = html.document_fromstring(data, parser=html.HTMLParser(encoding=_charset(data), huge_tree=False))
    except (etree.ParserError, ValueError, etree.XMLSyntaxError) as error:
        raise ReadError("damaged", f"the HTML cannot be read: {error}") from error
    for node in tree.xpath("//script|//style|//noscript|//template|//head"):
        node.drop_tree()
    tables = [
        _rows([[_words(cell) for cell in row.xpath("./th|./td")] for row in table.iter("tr")])
        for table in tree.xpath("//table[not(.//table)]")[:TABLES_MAX]
    ]
    pieces: list[str] = []
    _walk(tree, pieces)
    lines = (re.sub(r"[^\S\n\t]+", " ", line).strip(" ") for line in "".join(pieces).split("\n"))
    text = re.sub(r"\n{2,}", "\n", "\n".join(lines)).strip("\n")
    return [_page(1, text, _few(tables))]


_BLOCKS = frozenset(
    [
        "address",
        "article",
        "aside",
        "blockquote",
        "body",
        "br",
        "caption",
        "dd",
        "div",
        "dl",
        "dt",
        "fieldset",
        "footer",
        "form",
        "h1",
        "h2",
        "h3",
        "h4",
        "h5",
        "h6",
        "header",
        "hr",
        "li",
        "main",
        "nav",
        "ol",
        "p",
        "pre",
        "section",
        "table",
        "tbody",
        "thead",
        "tr",
        "ul",
    ]
)


def _walk(root: Any, pieces: list[str]) -> None:
    """Write text with a line for each block and a tab between cells, without recursion."""
    stack: list[tuple[Any, bool]] = [(root, False)]
    while stack:
        node, leaving = stack.pop()
        tag = node.tag if isinstance(node.tag, str) else ""
        if leaving:
            pieces.append("\n" if tag in _BLOCKS else "\t" if tag in {"td", "th"} else "")
            pieces.append(re.sub(r"\s+", " ", node.tail or ""))
            continue
        if tag in _BLOCKS:
            pieces.append("\n")
        if tag:
            pieces.append(re.sub(r"\s+", " ", node.text or ""))
        stack.append((node, True))
        if tag:
            stack += [(child, False) for child in reversed(node)]


def _words(node: Any) -> str:
    return " ".join("".join(node.itertext()).split())


def _charset(data: bytes) -> str:
    found = re.search(rb"charset=[\"']?([A-Za-z0-9_-]+)", data[:2_048])
    name = found.group(1).decode() if found else "utf-8"
    try:
        "".encode(name)
    except LookupError:
        return "utf-8"
    return name


def _text(data: bytes, _notes: list[str]) -> list[Page]:
    text = data.decode("utf-8-sig", errors="replace")
    return [_page(number, part, []) for number, part in enumerate(text.split("\f")[:PAGES_MAX], 1)]


def _image(data: bytes, notes: list[str]) -> list[Page]:
    """Only look whether it can be read at all; the reading itself is the OCR engine's."""
    from PIL import Image, UnidentifiedImageError

    Image.MAX_IMAGE_PIXELS = PIXELS_MAX
    try:
        with Image.open(io.BytesIO(data)) as image:
            width, height = image.size
            if width * height > PIXELS_MAX:
                raise ReadError("too-large", f"the image has {width} × {height} pixels; at most {PIXELS_MAX}")
            image.load()
    except (Image.DecompressionBombError, Image.DecompressionBombWarning) as error:
        raise ReadError("too-large", f"the image is too large: {error}") from error
    except (UnidentifiedImageError, OSError, SyntaxError, ValueError) as error:
        raise ReadError("damaged", f"the image cannot be read: {error}") from error
    notes.append(f"image of {width} × {height} pixels")
    return [_page(1, "", [])]


def _rows(table: list[list[Any]]) -> list[list[str]]:
    return [[" ".join(str(cell or "").split()) for cell in row] for row in table]


def _few(tables: list[list[list[str]]]) -> list[list[list[str]]]:
    kept, cells = [], 0
    for table in tables[:TABLES_MAX]:
        cells += sum(len(row) for row in table)
        if cells > CELLS_MAX:
            break
        kept.append(table)
    return kept


def main() -> int:
    """Read standard input, write JSON; the exit code is 0 also for an error that is told."""
    try:
        answer = read(sys.argv[1], sys.stdin.buffer.read())
    except ReadError as error:
        answer = {"error": {"code": error.code, "message": str(error)}}
    except ImportError as error:
        answer = {"error": {"code": "unavailable", "message": f"{error.name} is not installed"}}
    except MemoryError:
        answer = {"error": {"code": "too-large", "message": "reading it takes more memory than the agent has"}}
    except RecursionError:
        answer = {"error": {"code": "damaged", "message": "its parts lie too deep in each other"}}
    except Exception as error:  # noqa: BLE001 libraries raise anything on damaged files; all of it is told
        answer = {"error": {"code": "damaged", "message": f"it cannot be read: {type(error).__name__}: {error}"}}
    sys.stdout.write(json.dumps(answer))
    return 0


if __name__ == "__main__":
    sys.exit(main())
