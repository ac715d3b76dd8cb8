"""Why it exists: what this agent takes and gives is typed, so that its schema tells other agents what they get."""

from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field

ITEMS_MAX = 500
TEXT_CHARACTERS_MAX = 200_000
Share = Annotated[float, Field(ge=0, le=1)]


class Item(BaseModel):
    """One text that may go into a context."""

    model_config = ConfigDict(extra="forbid")

    id: str = Field(min_length=1, max_length=100)
    text: str = Field(max_length=TEXT_CHARACTERS_MAX)
    required: bool = Field(default=False, description="keep it whatever its relevance; as a duplicate too")
    relevance: Share | None = Field(default=None, description="how much it matters; left out: computed from the query")


class Options(BaseModel):
    """How to choose and to order."""

    model_config = ConfigDict(extra="forbid")

    method: Literal["tf-idf", "embeddings"] = Field(
        default="tf-idf",
        description="embeddings: of the language model's server, better for other words of one meaning",
    )
    diversity: Share = Field(default=0.3, description="0 looks at relevance only, 1 at novelty only")
    duplicate_from: float = Field(
        default=0.8, ge=0.3, le=1, description="share of common word triples from which two items are one"
    )
    min_relevance: Share = Field(default=0.0, description="items below are left out")
    order: Literal["relevance", "given", "edges"] = Field(
        default="relevance",
        description="relevance: required first, then as chosen; given; edges: the most relevant at both ends",
    )
    separator: str = Field(default="\n\n", max_length=100, description="between two items")
    labels: bool = Field(default=False, description="write [id] before each item")


class Kept(BaseModel):
    """An item in the context, at its place."""

    id: str
    tokens: int = Field(description="of the item as it stands in the context, with its label, without separator")
    relevance: float
    novelty: float = Field(description="1 minus the highest similarity to an item chosen before it")
    required: bool
    why: str


class Dropped(BaseModel):
    """An item that is not in the context, and why."""

    id: str
    reason: Literal["duplicate", "no-room", "not-relevant", "empty"]
    why: str
    tokens: int
    relevance: float
    duplicate_of: str = ""
    similarity: float = 0.0


class Tokenizer(BaseModel):
    """Who counted."""

    source: str
    exact: Literal[True] = True


class Packed(BaseModel):
    """A context that fits. ``tokens`` is the count of ``text`` as a whole, not a sum of parts."""

    text: str
    tokens: int
    budget: int
    kept: list[Kept]
    dropped: list[Dropped]
    tokens_of_all: int = Field(description="what all items together would take")
    relevance_method: Literal["given", "tf-idf", "embeddings", "equal", "given and tf-idf", "given and embeddings"]
    similarity_method: str
    tokenizer: Tokenizer
    notes: list[str]


class Measured(BaseModel):
    """One item's size."""

    id: str
    tokens: int
    characters: int
    share: float = Field(description="of the sum of all items")


class Measures(BaseModel):
    """Sizes by the model's own tokenizer. ``joined`` is the whole text, which may differ from the sum of its parts."""

    items: list[Measured]
    total: int
    joined: int
    duplicates: list[tuple[str, str, float]] = Field(description="pairs of near-duplicates with their similarity")
    tokenizer: Tokenizer
