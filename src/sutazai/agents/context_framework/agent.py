"""Why it exists: the skills of context-framework: count by the model's tokenizer, choose by the pure module."""

from collections.abc import Callable, Sequence
from typing import Annotated, Literal

import numpy as np
from pydantic import Field

from sutazai.agents.context_framework import packing, similarity
from sutazai.agents.context_framework.models import ITEMS_MAX, Item, Measured, Measures, Options, Packed, Tokenizer
from sutazai.errors import UnavailableError
from sutazai.runtime import Agent, Context, NonRetryableError

agent = Agent("context-framework")

Items = Annotated[list[Item], Field(min_length=1, max_length=ITEMS_MAX)]
RelevanceMethod = Literal["given", "tf-idf", "embeddings", "equal", "given and tf-idf", "given and embeddings"]
Count = Callable[[Sequence[str]], list[int]]
Separator = Annotated[str, Field(max_length=100, description="between two items")]
SOURCE = "POST /tokenize of the fleet's language model: its own tokenizer"


@agent.skill
def pack(
    items: Items,
    budget: Annotated[int, Field(ge=1, le=1_000_000, description="tokens that the text may take")],
    ctx: Context,
    query: Annotated[str, Field(max_length=20_000, description="what the context is for; makes relevance")] = "",
    options: Options | None = None,
) -> Packed:
    """Select texts under an exact token budget: required ones kept, near-duplicates out, relevant and diverse (MMR)."""
    _check(items)
    how = options or Options()
    count = _counter(ctx)
    texts = packing.rendered(items, labels=how.labels)
    ctx.progress(0.2, f"counting {len(items)} items")
    sizes, costs, whole = _sizes(count, texts, how.separator)
    asked, each = _compared(ctx, texts, query, how.method)
    bench = packing.Bench(items, texts, sizes, costs, _relevance(items, asked, query), each, budget, how, count)
    text, tokens = packing.pack(bench, similarity.duplicates([item.text for item in items], how.duplicate_from))
    return Packed(
        text=text, tokens=tokens, budget=budget, kept=packing.kept(bench), dropped=packing.dropped(bench),
        tokens_of_all=whole, relevance_method=_method(items, query, how.method),
        similarity_method=f"cosine by {how.method}; near-duplicates by word triples",
        tokenizer=Tokenizer(source=SOURCE), notes=_notes(items, query, how.order),
    )  # fmt: skip


@agent.skill
def measure(items: Items, ctx: Context, separator: Separator = "\n\n") -> Measures:
    """Count the tokens of texts exactly, each and joined, by the model's own tokenizer, and name near-duplicates."""
    _check(items)
    texts = packing.rendered(items, labels=False)
    sizes, _, whole = _sizes(_counter(ctx), texts, separator)
    total = sum(sizes)
    pairs = similarity.duplicates(texts, 0.8)
    return Measures(
        items=[
            Measured(id=item.id, tokens=size, characters=len(text), share=round(size / total, 4) if total else 0.0)
            for item, text, size in zip(items, texts, sizes, strict=True)
        ],
        total=total,
        joined=whole,
        duplicates=[(items[pair.one].id, items[pair.other].id, pair.similarity) for pair in pairs],
        tokenizer=Tokenizer(source=SOURCE),
    )


def _check(items: Sequence[Item]) -> None:
    names = [item.id for item in items]
    if len(set(names)) != len(names):
        raise NonRetryableError(f"two items have the id {next(name for name in names if names.count(name) > 1)!r}")


def _counter(ctx: Context) -> Count:
    def count(texts: Sequence[str]) -> list[int]:
        try:
            return ctx.llm.count_tokens(texts)
        except UnavailableError as error:
            raise UnavailableError(
                f"tokens cannot be counted, and are not guessed: {error}; see: sutazai status, and llm in the manifest"
            ) from error

    return count


def _sizes(count: Count, texts: list[str], separator: str) -> tuple[list[int], list[int], int]:
    """Count each text alone, each behind a separator, and all joined."""
    found = count([*texts, *(separator + text for text in texts)])
    (whole,) = count([separator.join(texts)])
    return found[: len(texts)], found[len(texts) :], whole


def _relevance(items: Sequence[Item], asked: np.ndarray, query: str) -> np.ndarray:
    computed = asked if query.strip() else np.ones(len(items))
    given = [item.relevance for item in items]
    return np.array([own if own is not None else value for own, value in zip(given, computed, strict=True)])


def _compared(
    ctx: Context, texts: list[str], query: str, method: Literal["tf-idf", "embeddings"]
) -> tuple[np.ndarray, np.ndarray]:
    """Compare texts with the query and with each other; empty ones are like nothing."""
    if method == "tf-idf":
        return similarity.vectors(texts, query)
    places = [place for place, text in enumerate(texts) if text.strip()]
    wanted = [texts[place] for place in places] + ([query] if query.strip() else [])
    vectors = np.array(ctx.llm.embed(wanted), dtype=np.float64) if wanted else np.zeros((0, 1))
    each = np.zeros((len(texts), len(texts)))
    each[np.ix_(places, places)] = np.clip(vectors[: len(places)] @ vectors[: len(places)].T, 0, 1)
    asked = np.zeros(len(texts))
    if query.strip():
        asked[places] = np.clip(vectors[: len(places)] @ vectors[-1], 0, 1)
    return asked, each


def _method(items: Sequence[Item], query: str, method: Literal["tf-idf", "embeddings"]) -> RelevanceMethod:
    given = sum(item.relevance is not None for item in items)
    if given == len(items):
        return "given"
    if not query.strip():
        return "equal"
    if not given:
        return method
    return "given and tf-idf" if method == "tf-idf" else "given and embeddings"


def _notes(items: Sequence[Item], query: str, order: str) -> list[str]:
    notes = []
    if not query.strip() and any(item.relevance is None for item in items):
        notes.append("without a query, items without a relevance of their own count as equally relevant")
    if order == "edges":
        notes.append("the most relevant items stand at both ends, where models read best (Liu et al. 2023)")
    return notes
