"""Why it exists: what this agent takes and gives is typed, so that its schema tells other agents what they get."""

from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field

Kind = Literal["pdf", "docx", "html", "text", "image"]
FieldType = Literal["text", "integer", "number", "money", "date", "email", "phone", "iban", "url", "boolean"]
How = Literal["label", "next-line", "table-column", "table-row", "pattern"]


class File(BaseModel):
    """A document: its bytes as base64, or a path below one of the agent's allowed folders."""

    model_config = ConfigDict(extra="forbid")

    content: str = Field(default="", max_length=1_000_000, description="base64, up to about 750 KB of file")
    path: str = Field(default="", max_length=4_096, description="absolute; files of up to 16 MB")
    kind: Kind | None = Field(default=None, description="left out: told from the first bytes")


class Wanted(BaseModel):
    """One value that is looked for."""

    model_config = ConfigDict(extra="forbid")

    type: FieldType = "text"
    labels: list[Annotated[str, Field(min_length=1, max_length=100)]] = Field(
        default_factory=list, max_length=10, description="words that stand before or above it; left out: the name"
    )
    pattern: str = Field(
        default="", max_length=200, description="regular expression that the value must match as a whole"
    )
    required: bool = False


class Evidence(BaseModel):
    """Where a value stands. `raw` is `page_text[offset:offset + len(raw)]` of that page, as `read` gives it."""

    page: int = Field(description="counts from 1")
    offset: int = Field(description="characters from the start of the page's text")
    raw: str
    snippet: str = Field(description="the line")
    how: How


class Candidate(BaseModel):
    """A value that was found."""

    value: Any
    evidence: Evidence


class Found(BaseModel):
    """What was found for one field, the best first."""

    name: str
    value: Any = Field(
        description="typed; null when nothing was found. Money is {amount, currency}, a date is ISO 8601"
    )
    evidence: Evidence | None
    sure: Literal["one", "several", "none"] = Field(description="several: other values fit as well, see `others`")
    chosen_by: Literal["rule", "llm", "none"]
    others: list[Candidate]


class Extraction(BaseModel):
    """Typed values with evidence."""

    values: dict[str, Any]
    fields: list[Found]
    missing: list[str]
    complete: bool = Field(description="no required field is missing")
    kind: Kind
    pages: int
    notes: list[str]


class PageText(BaseModel):
    """The text of one page, and its tables."""

    number: int
    text: str
    tables: list[list[list[str]]]


class Reading(BaseModel):
    """A document as text."""

    kind: Kind
    pages: list[PageText]
    notes: list[str]
