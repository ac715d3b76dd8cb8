"""documind gives values that stand literally in the document, with their places, and survives hostile files."""

from __future__ import annotations

import base64
import io
import os
import zipfile
import zlib
from typing import TYPE_CHECKING, Any

import pytest

from sutazai.agents.documind import reading, values
from sutazai.agents.documind.agent import kind_of
from sutazai.agents.documind.ocr import INSTALL
from sutazai.runtime import Answer
from sutazai.runtime.programs import find

if TYPE_CHECKING:
    from pathlib import Path

    from conftest import Broker
    from sutazai.agents.documind.models import FieldType

pytest.importorskip("pdfplumber")

AGENT = "documind"
W = 'xmlns:w="http://schemas.openxmlformats.org/wordprocessingml/2006/main"'
TYPES = "application/vnd.openxmlformats-"


def pdf(*pages: list[str], stream: bytes | None = None, trailer: bytes = b"") -> bytes:
    """Write a PDF with a line of text for each entry; ``stream`` replaces the first page's content as it is."""
    parts = [b"<< /Type /Catalog /Pages 2 0 R >>"]
    kids = b" ".join(b"%d 0 R" % (4 + 2 * number) for number in range(len(pages)))
    parts.append(b"<< /Type /Pages /Kids [%s] /Count %d >>" % (kids, len(pages)))
    parts.append(b"<< /Type /Font /Subtype /Type1 /BaseFont /Helvetica /Encoding /WinAnsiEncoding >>")
    for number, lines in enumerate(pages):
        box = b"/MediaBox [0 0 595 842] /Resources << /Font << /F1 3 0 R >> >>"
        parts.append(b"<< /Type /Page /Parent 2 0 R %s /Contents %d 0 R >>" % (box, 5 + 2 * number))
        shown = b"".join(
            b"BT /F1 11 Tf 1 0 0 1 60 %d Tm (%s) Tj ET\n" % (780 - 20 * row, line.encode("cp1252"))
            for row, line in enumerate(lines)
        )
        packed = stream if stream is not None and number == 0 else zlib.compress(shown)
        parts.append(b"<< /Length %d /Filter /FlateDecode >>\nstream\n%s\nendstream" % (len(packed), packed))
    out, places = b"%PDF-1.4\n", []
    for number, part in enumerate(parts, 1):
        places.append(len(out))
        out += b"%d 0 obj\n%s\nendobj\n" % (number, part)
    start = len(out)
    out += b"xref\n0 %d\n0000000000 65535 f \n" % (len(parts) + 1)
    out += b"".join(b"%010d 00000 n \n" % place for place in places)
    return out + b"trailer\n<< /Size %d /Root 1 0 R %s>>\nstartxref\n%d\n%%%%EOF\n" % (len(parts) + 1, trailer, start)


def docx(body: str, extra: dict[str, bytes] | None = None) -> bytes:
    """Write the smallest DOCX with this body, and more parts."""
    package = "http://schemas.openxmlformats.org/package/2006"
    office = "http://schemas.openxmlformats.org/officeDocument/2006/relationships/officeDocument"
    parts = {
        "[Content_Types].xml": f'<Types xmlns="{package}/content-types"><Default Extension="rels" ContentType="{TYPES}'
        'package.relationships+xml"/><Override PartName="/word/document.xml" '
        f'ContentType="{TYPES}officedocument.wordprocessingml.document.main+xml"/></Types>',
        "_rels/.rels": f'<Relationships xmlns="{package}/relationships"><Relationship Id="r1" Type="{office}" '
        'Target="word/document.xml"/></Relationships>',
        "word/document.xml": f"<w:document {W}><w:body>{body}</w:body></w:document>",
    }
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, text in parts.items():
            archive.writestr(name, text)
        for name, data in (extra or {}).items():
            archive.writestr(name, data)
    return file.getvalue()


def sent(data: bytes) -> dict[str, str]:
    """Put a file into a task's input."""
    return {"content": base64.b64encode(data).decode()}


def extract(broker: Broker, data: bytes, fields: dict[str, Any], **more: Any) -> dict[str, Any]:
    """Extract fields without the model, unless asked for."""
    asked = {"file": sent(data), "fields": fields, "use_llm": False, **more}
    found: dict[str, Any] = broker.ask(AGENT, "extract", asked).require()
    return found


def test_every_value_is_a_slice_of_the_text_it_names(broker: Broker) -> None:
    """For PDF, DOCX, HTML and text: page text at the offset is the raw value, on the page where it stands."""
    lines = ["Order no: A-17", "Amount: EUR 1,250.00", "Paid: yes"]
    cells = "".join(f"<tr><td>{line.partition(':')[0]}</td><td>{line.partition(': ')[2]}</td></tr>" for line in lines)
    paragraphs = "".join(f"<w:p><w:r><w:t>{line}</w:t></w:r></w:p>" for line in lines)
    page_break = '<w:p><w:r><w:br w:type="page"/></w:r></w:p>'
    documents = {
        "pdf": (pdf(["Cover"], lines), 2),
        "docx": (docx(f"<w:p><w:r><w:t>Cover</w:t></w:r></w:p>{page_break}{paragraphs}"), 2),
        "html": (f"<html><body><p>Cover</p><table>{cells}</table></body></html>".encode(), 1),
        "text": ("Cover\f" + "\n".join(lines), 2),
    }
    fields = {"order_no": {}, "amount": {"type": "money"}, "paid": {"type": "boolean"}, "tax": {"required": True}}
    for kind, (data, page) in documents.items():
        raw = data.encode() if isinstance(data, str) else data
        found = extract(broker, raw, fields)
        wanted = {"order_no": "A-17", "amount": {"amount": "1250.00", "currency": "EUR"}, "paid": True, "tax": None}
        assert (kind, found["values"]) == (kind, wanted)
        assert (found["kind"], found["missing"], found["complete"]) == (kind, ["tax"], False)
        pages = broker.ask(AGENT, "read", sent(raw)).require()["pages"]
        for field in found["fields"][:3]:
            evidence = field["evidence"]
            text = pages[evidence["page"] - 1]["text"]
            assert text[evidence["offset"] : evidence["offset"] + len(evidence["raw"])] == evidence["raw"]
            assert evidence["raw"] in evidence["snippet"]
            assert evidence["page"] == page


def test_the_model_picks_a_line_and_never_writes_one(broker: Broker) -> None:
    """Between two equal candidates the model's number decides; another answer of it is not taken."""
    data = b"Total: 10.00 EUR\nTotal: 12.50 EUR\n"
    fields = {"total": {"type": "money"}}
    alone = extract(broker, data, fields)["fields"][0]
    assert (alone["sure"], alone["chosen_by"], alone["value"]["amount"]) == ("several", "rule", "10.00")
    assert [item["value"]["amount"] for item in alone["others"]] == ["12.50"]
    for pick, amount, by in (
        ({"pick": 1}, "12.50", "llm"),
        ({"pick": 7}, "10.00", "rule"),
        ({"value": 99}, "10.00", "rule"),
    ):
        broker.llm.error, broker.llm.data = None, pick
        field = extract(broker, data, fields, use_llm=True)["fields"][0]
        assert (field["value"]["amount"], field["chosen_by"]) == (amount, by)


def test_a_model_that_is_away_is_said(broker: Broker) -> None:
    """Without a model the first candidate stands, and a note tells why."""
    found = extract(broker, b"Total: 1 EUR\nTotal: 2 EUR\n", {"total": {"type": "money"}}, use_llm=True)
    assert any("no language model picked one" in note for note in found["notes"])


def test_what_is_not_there_is_not_found(broker: Broker) -> None:
    """A label without a value of the type gives nothing; a wrong IBAN is no IBAN; an unclear date is not guessed."""
    data = b"Due: soon\nIBAN: DE88 3704 0044 0532 0130 00\nOn: 3/4/2024\n"
    fields = {"due": {"type": "date"}, "iban": {"type": "iban"}, "on": {"type": "date"}}
    assert extract(broker, data, fields)["values"] == {"due": None, "iban": None, "on": None}
    assert extract(broker, data, fields, day_first=True)["values"]["on"] == "2024-04-03"
    assert extract(broker, data, fields, day_first=False)["values"]["on"] == "2024-03-04"


def test_a_pattern_finds_what_has_no_label(broker: Broker) -> None:
    """A value of a given form is found anywhere, and only when all of it has the form."""
    fields = {"batch": {"pattern": r"LOT-\d{4}"}}
    assert extract(broker, b"made in LOT-0815 by us", fields)["values"] == {"batch": "LOT-0815"}
    assert extract(broker, b"made in LOT-08 by us", fields)["values"] == {"batch": None}


@pytest.mark.parametrize(
    ("text", "value"),
    [("1,234.50", 1234.5), ("1.234,50", 1234.5), ("1 234,5", 1234.5), ("1'234.5", 1234.5), ("0,5", 0.5),
     ("1,234", 1234.0), ("1.234", 1.234), ("1.234.567", 1234567.0), ("−7", -7.0)],
)  # fmt: skip
def test_numbers_are_read_as_they_are_printed(text: str, value: float) -> None:
    """Decimal points and commas, groups of thousands, and the printed minus sign."""
    assert values.number(text) == value


@pytest.mark.parametrize(
    ("kind", "text", "value"),
    [("date", "12 March 2024", "2024-03-12"), ("date", "March 3rd, 2024", "2024-03-03"),
     ("date", "1. März 2024", "2024-03-01"),
     ("date", "31.12.2023", "2023-12-31"), ("date", "25/12/2023", "2023-12-25"), ("date", "2024-02-30", None),
     ("phone", "+49 (0)30 123-456", "+49 (0)30 123-456"), ("url", "https://a.example/x.", "https://a.example/x."),
     ("integer", "1.234 pieces", 1234), ("integer", "12.5", None), ("boolean", "nein", False)],
)  # fmt: skip
def test_each_type_is_read_or_not_at_all(kind: FieldType, text: str, value: object) -> None:
    """A value of the type, or nothing; a date that is none is none."""
    found = next(values.find_all(kind, text, day_first=None, pattern=None), None)
    assert (found.value if found else None) == value


def test_hostile_files_end_in_an_error_with_a_code(broker: Broker) -> None:
    """Damage, passwords, bombs and scans are told apart, and each names what to do; none is tried again."""
    bomb = zlib.compress(b"\0" * 400_000_000, 9)
    inflated = docx("<w:p/>", {"word/media/big.bin": b"\0" * 60_000_000})
    locked = pdf(
        ["x"],
        trailer=b"/Encrypt << /Filter /Standard /V 1 /R 2 /P -1 /O ("
        + b"o" * 32
        + b") /U ("
        + b"u" * 32
        + b") >> /ID [(a) (a)] ",
    )
    cases = {
        "damaged": [pdf(["x"])[:200], b"PK\x03\x04rubbish", b"\x89PNG\r\n\x1a\nrubbish", b"\0\1\2\3" * 10],
        "encrypted": [locked, b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1" + b"\0" * 600],
        "too-large": [pdf(["x"], stream=bomb), inflated],
        "no-text": [pdf([]), b"<html><body></body></html>"],
    }
    for code, files in cases.items():
        for data in files:
            answer = broker.ask(AGENT, "read", sent(data))
            assert answer.error is not None
            seen = (code, answer.error["code"], answer.error["message"])
            if data.startswith(b"\x89PNG") and seen[1] == "unavailable":
                continue  # no OCR engine here: said before the image is looked at
            assert seen[1] == code, seen
            assert answer.error["retryable"] is False


def test_a_huge_image_is_refused_before_it_is_unpacked() -> None:
    """An image of 30 000 × 30 000 pixels in a few bytes takes no memory."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return len(data).to_bytes(4, "big") + kind + data + zlib.crc32(kind + data).to_bytes(4, "big")

    header = (30_000).to_bytes(4, "big") * 2 + b"\x08\x00\x00\x00\x00"
    data = b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(b"")) + chunk(b"IEND", b"")
    with pytest.raises(reading.ReadError) as caught:
        reading.read("image", data)
    assert caught.value.code == "too-large"


def test_an_image_without_an_engine_is_unavailable_with_the_command(
    broker: Broker, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without tesseract nothing is guessed; the error says how to get it."""
    monkeypatch.setenv("PATH", "/nonexistent")
    answer = broker.ask(AGENT, "read", sent(b"\x89PNG\r\n\x1a\n"))
    assert answer.error is not None
    assert (answer.error["code"], answer.error["retryable"]) == ("unavailable", False)
    assert "apt-get install tesseract-ocr" in answer.error["message"]


def test_an_image_is_read_by_the_real_engine(broker: Broker) -> None:
    """Text drawn into an image comes back with its place (skipped where tesseract is not installed)."""
    from PIL import Image, ImageDraw, ImageFont

    try:
        find("tesseract", INSTALL)
    except Exception as error:  # noqa: BLE001 any reason is a reason to skip
        pytest.skip(str(error))
    image = Image.new("L", (900, 200), 255)
    ImageDraw.Draw(image).text((30, 60), "Invoice: 4711", 0, font=ImageFont.load_default(60))
    file = io.BytesIO()
    image.save(file, "PNG")
    assert extract(broker, file.getvalue(), {"invoice": {"type": "integer"}})["values"] == {"invoice": 4711}


def test_files_come_inline_or_from_an_allowed_folder(broker: Broker, tmp_path: Path) -> None:
    """Neither, both, base64 that is none, a folder that is not allowed, a pipe: each is refused with its text."""
    (tmp_path / "a.txt").write_text("Total: 5 EUR\n")
    os.mkfifo(tmp_path / "pipe")
    cases = [
        ({}, "either `content` or `path`"),
        ({"content": "aGk=", "path": "/x"}, "either `content` or `path`"),
        ({"content": "%%%"}, "no base64"),
        ({"path": str(tmp_path / "a.txt")}, "lets the agent read no folder"),
    ]
    for file, said in cases:
        answer = broker.ask(AGENT, "read", file)
        assert answer.error is not None
        assert said in answer.error["message"]
    broker.settings = {"folders": [str(tmp_path)]}
    assert broker.ask(AGENT, "read", {"path": str(tmp_path / "a.txt")}).require()["kind"] == "text"
    for name, said in (("pipe", "is no file"), ("nothing", "there is no file"), ("../x", "outside of the folders")):
        answer = broker.ask(AGENT, "read", {"path": f"{tmp_path}/{name}"})
        assert answer.error is not None
        assert said in answer.error["message"]


def test_a_bad_pattern_is_named(broker: Broker) -> None:
    """A pattern that is no regular expression is the caller's mistake."""
    answer = broker.ask(AGENT, "extract", {"file": sent(b"x"), "fields": {"a": {"pattern": "("}}})
    assert answer.error is not None
    assert "the pattern of a is no regular expression" in answer.error["message"]


def test_kinds_are_told_from_the_bytes() -> None:
    """The first bytes decide, not a name."""
    heads = (b"%PDF-1.7", b"PK\x03\x04", b" <!doctype html>", b"GIF89a", "ä: 1".encode())
    assert [kind_of(data) for data in heads] == ["pdf", "docx", "html", "image", "text"]


def test_an_answer_of_another_form_is_no_pick(broker: Broker) -> None:
    """A model that answers text instead of data picks nothing."""
    broker.llm.error = None
    broker.llm.chat = lambda *_, **__: Answer("1", None, "m", "stop", 0, 0)  # type: ignore[method-assign]
    field = extract(broker, b"No: 1\nNo: 2\n", {"no": {"type": "integer"}}, use_llm=True)["fields"][0]
    assert field["chosen_by"] == "rule"
