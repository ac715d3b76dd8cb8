"""context-framework keeps to a budget by exact counts, keeps what is required, and says why each item is in or out."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sutazai.agents.context_framework import packing, similarity
from sutazai.agents.context_framework.models import Item, Options
from sutazai.errors import RefusedError, UnavailableError
from sutazai.runtime import NonRetryableError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from conftest import Broker, ScriptedLlm

AGENT = "context-framework"
WORDS = ["memory", "leak", "disk", "poem", "fleet", "agent", "budget", "token", "slope", "limit", "shop", "kernel"]


@pytest.fixture
def counting(broker: Broker, scripted: type[ScriptedLlm]) -> Broker:
    """A broker whose language model has a tokenizer."""
    broker.llm = scripted()
    return broker


def count(texts: Sequence[str]) -> list[int]:
    """A word is a token, each fifth costs one more: a whole takes more than its parts."""
    return [len(text.split()) * 6 // 5 for text in texts]


def bench_of(items: list[Item], budget: int, query: str, options: Options) -> packing.Bench:
    """Items ready to be packed, without an agent around."""
    texts = packing.rendered(items, labels=options.labels)
    asked, each = similarity.vectors(texts, query)
    costs = count([options.separator + text for text in texts])
    return packing.Bench(items, texts, count(texts), costs, asked, each, budget, options, count)


@settings(deadline=None)
@given(
    texts=st.lists(st.lists(st.sampled_from(WORDS), max_size=25), min_size=1, max_size=12),
    required=st.sets(st.integers(0, 11), max_size=3),
    budget=st.integers(1, 80),
    diversity=st.floats(0, 1),
    order=st.sampled_from(["relevance", "given", "edges"]),
)
def test_the_budget_holds_and_nothing_is_forgotten(
    texts: list[list[str]], required: set[int], budget: int, diversity: float, order: Any
) -> None:
    """Whatever the items: the whole is counted and fits, required ones are in, and each item is either in or out."""
    items = [Item(id=str(n), text=" ".join(text), required=n in required) for n, text in enumerate(texts)]
    bench = bench_of(items, budget, "memory leak", Options(diversity=diversity, order=order))
    must = [item for item in items if item.required and item.text]
    try:
        text, tokens = packing.pack(bench, similarity.duplicates([item.text for item in items], 0.8))
    except NonRetryableError:
        assert count(["\n\n".join(item.text for item in must)])[0] > budget
        return
    assert tokens == (count([text])[0] if text else 0) <= budget
    kept, dropped = {one.id for one in packing.kept(bench)}, {one.id for one in packing.dropped(bench)}
    assert {item.id for item in must} <= kept
    assert kept | dropped == {item.id for item in items}
    assert not kept & dropped


def test_relevance_and_twins(counting: Broker) -> None:
    """The query's item comes first, its twin is out with its name, and what has no room says how much it needs."""
    items = [
        {"id": "long", "text": " ".join(["poem"] * 60)},
        {"id": "leak", "text": "a memory leak grows until the kernel ends the process"},
        {"id": "twin", "text": "A memory leak grows, until the kernel ends the process!"},
        {"id": "disk", "text": "a disk is full"},
        {"id": "none", "text": " "},
    ]
    data = {"items": items, "budget": 20, "query": "memory leak"}
    result = counting.ask(AGENT, "pack", data).require()
    assert [one["id"] for one in result["kept"]] == ["leak", "disk"]
    assert {one["id"]: one["reason"] for one in result["dropped"]} == {
        "long": "no-room", "twin": "duplicate", "none": "empty",
    }  # fmt: skip
    assert next(one for one in result["dropped"] if one["id"] == "twin")["duplicate_of"] == "leak"
    assert result["tokens"] == len(result["text"].split()) + len(result["text"].split()) // 10
    assert result["relevance_method"] == "tf-idf"


def test_diversity_prefers_the_new(counting: Broker) -> None:
    """Of three items two say nearly the same: with diversity the third is chosen before the second."""
    items = [
        {"id": "one", "text": "memory leak in the shop", "relevance": 1.0},
        {"id": "two", "text": "memory leak in the store", "relevance": 0.9},
        {"id": "new", "text": "disk almost full today", "relevance": 0.6},
    ]
    data: dict[str, Any] = {"items": items, "budget": 11}
    greedy = counting.ask(AGENT, "pack", {**data, "options": {"diversity": 0.0}}).require()
    diverse = counting.ask(AGENT, "pack", {**data, "options": {"diversity": 0.6}}).require()
    assert [one["id"] for one in greedy["kept"]] == ["one", "two"]
    assert [one["id"] for one in diverse["kept"]] == ["one", "new"]
    assert diverse["relevance_method"] == "given"


def test_required_twins_orders_and_labels(counting: Broker) -> None:
    """Two required twins both stay; orders place items as they say; labels are counted."""
    twins = [{"id": str(n), "text": "the same words again and again", "required": True} for n in range(2)]
    assert len(counting.ask(AGENT, "pack", {"items": twins, "budget": 50}).require()["kept"]) == 2
    items = [
        {"id": "c", "text": "cc", "relevance": 0.2},
        {"id": "a", "text": "aa", "relevance": 0.9},
        {"id": "b", "text": "bb", "relevance": 0.5, "required": True},
    ]
    orders = {}
    for order in ("relevance", "given", "edges"):
        options = {"order": order, "labels": True, "separator": " | "}
        orders[order] = counting.ask(AGENT, "pack", {"items": items, "budget": 50, "options": options}).require()
    assert {name: found["text"] for name, found in orders.items()} == {
        "relevance": "[b] bb | [a] aa | [c] cc",
        "given": "[c] cc | [a] aa | [b] bb",
        "edges": "[a] aa | [c] cc | [b] bb",
    }
    assert all(found["tokens"] == 8 for found in orders.values())


def test_embeddings_by_option(counting: Broker) -> None:
    """Relevance and novelty come from vectors when they are asked for; without them that is an error, no fallback."""
    items = [{"id": "car", "text": "a car"}, {"id": "sea", "text": "the sea"}, {"id": "none", "text": ""}]
    data = {"items": items, "budget": 3, "query": "automobile", "options": {"method": "embeddings"}}
    counting.llm.vectors = {"automobile": [1.0, 0.0], "car": [0.8, 0.6], "sea": [0.0, 1.0]}  # type: ignore[attr-defined]
    result = counting.ask(AGENT, "pack", data).require()
    assert [(one["id"], one["relevance"]) for one in result["kept"]] == [("car", 0.8)]
    assert result["relevance_method"] == "embeddings"
    counting.llm.error = UnavailableError("the embedding model is not here")
    error = counting.ask(AGENT, "pack", data).error
    assert error is not None
    assert error["code"] == "unavailable"


def test_min_relevance(counting: Broker) -> None:
    """Items below are out with their relevance, required ones stay."""
    items = [
        {"id": "a", "text": "poem", "relevance": 0.1},
        {"id": "b", "text": "disk", "relevance": 0.1, "required": True},
    ]
    result = counting.ask(AGENT, "pack", {"items": items, "budget": 9, "options": {"min_relevance": 0.5}}).require()
    assert [one["id"] for one in result["kept"]] == ["b"]
    assert result["dropped"][0]["reason"] == "not-relevant"


def test_a_part_inside_of_a_whole_is_a_duplicate() -> None:
    """Containment finds a paragraph inside of a longer text; two different texts of one subject are none."""
    part = "the kernel ends a process that goes over the limit of its group"
    whole = f"{part} and a supervisor starts it again after a short while with some jitter"
    other = "the supervisor holds each process inside of the limit of its group"
    found = similarity.duplicates([part, whole, other], 0.8)
    assert [(pair.one, pair.other, pair.how) for pair in found] == [(0, 1, "contained")]


def test_measure(counting: Broker) -> None:
    """Each alone, all together, and who is a twin."""
    items = [{"id": "a", "text": "one two three four"}, {"id": "b", "text": "One two three four."}]
    result = counting.ask(AGENT, "measure", {"items": items}).require()
    assert [one["tokens"] for one in result["items"]] == [4, 4]
    assert (result["total"], result["joined"]) == (8, 8)
    assert result["duplicates"] == [["a", "b", 1.0]] or result["duplicates"] == [("a", "b", 1.0)]


def test_without_a_tokenizer_there_is_no_count(broker: Broker, scripted: type[ScriptedLlm]) -> None:
    """A server that is away is unavailable, one without a tokenizer refuses; neither is guessed around."""
    data = {"items": [{"id": "a", "text": "x"}], "budget": 5}
    away = broker.ask(AGENT, "pack", data).error
    assert away is not None
    assert away["code"] == UnavailableError.code
    assert "not guessed" in away["message"]
    broker.llm = scripted(error=RefusedError("the driver ollama has no tokenizer"))
    mute = broker.ask(AGENT, "measure", {"items": data["items"]}).error
    assert mute is not None
    assert (mute["code"], "no tokenizer" in mute["message"]) == ("refused", True)


@pytest.mark.parametrize(
    ("data", "code", "text"),
    [
        ({"items": [], "budget": 5}, "invalid-input", "items"),
        ({"items": [{"id": "a", "text": "x"}], "budget": 0}, "invalid-input", "budget"),
        ({"items": [{"id": "a", "text": "x"}] * 2, "budget": 5}, "non-retryable", "'a'"),
        ({"items": [{"id": "a", "text": "x y z", "required": True}], "budget": 2}, "non-retryable", "take 3 tokens"),
        ({"items": [{"id": "a", "text": "x", "relevance": 2}], "budget": 5}, "invalid-input", "relevance"),
        ({"items": [{"id": "a", "text": "x"}], "budget": 5, "options": {"magic": 1}}, "invalid-input", "magic"),
    ],
)
def test_bad_input_is_refused(counting: Broker, data: dict[str, Any], code: str, text: str) -> None:
    """Each mistake has its code and names what is wrong."""
    error = counting.ask(AGENT, "pack", data).error
    assert error is not None
    assert error["code"] == code
    assert text in error["message"]


def test_five_hundred_items_are_packed() -> None:
    """The largest batch works, and its near-duplicates are found among all pairs."""
    texts = [" ".join(WORDS[(n % 250 * k) % 12] + str(n % 250) for k in range(1, 41)) for n in range(500)]
    items = [Item(id=str(n), text=text) for n, text in enumerate(texts)]
    bench = bench_of(items, 4_000, "memory7 leak7", Options())
    _, tokens = packing.pack(bench, similarity.duplicates(texts, 0.8))
    assert tokens <= 4_000
    assert sum(one.reason == "duplicate" for one in packing.dropped(bench)) >= 250
