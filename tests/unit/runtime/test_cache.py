"""``ctx.cache``: what a skill may put there, and that it works as well without one."""

from __future__ import annotations

from typing import Any

import pytest

from sutazai.errors import NonRetryableError
from sutazai.runtime.cache import Cache


class Broker:
    """Keeps what it is given, or does not answer."""

    def __init__(self) -> None:
        self.values: dict[str, bytes] = {}
        self.asked: list[dict[str, Any]] = []
        self.away = False

    def __call__(self, fields: dict[str, Any], blobs: tuple[bytes, ...]) -> tuple[dict[str, Any], list[bytes]] | None:
        """Answer."""
        self.asked.append(fields)
        key = fields["key"]
        if self.away:
            return None
        if fields["do"] == "set":
            self.values[key] = blobs[0]
        elif fields["do"] == "delete":
            self.values.pop(key, None)
        elif key not in self.values:
            return {"found": False}, []
        else:
            return {"found": True}, [self.values[key]]
        return {"found": True}, []


@pytest.mark.parametrize("value", [None, False, 0, "", "ä", [1, {"a": 2.5}], {"deep": [None]}])
def test_a_value_comes_back(value: Any) -> None:
    """Also one that is nothing: it is told from one that is not there."""
    cache = Cache(Broker())
    assert cache.get("k", "default") == "default"
    assert cache.set("k", value, ttl_s=0.5)
    assert cache.get("k", "default") == value
    cache.delete("k")
    assert cache.get("k") is None


def test_get_or_makes_it_once() -> None:
    """And keeps it for as long as it is told."""
    broker, made = Broker(), []

    def make() -> list[int]:
        made.append(1)
        return [1]

    cache = Cache(broker)
    assert [cache.get_or("k", make, ttl_s=2), cache.get_or("k", make, ttl_s=2)] == [[1], [1]]
    assert made == [1]
    assert [fields.get("ttl_ms") for fields in broker.asked] == [None, 2_000, None]


def test_without_an_answer_it_is_as_if_nothing_were_kept() -> None:
    """Also where there is no broker at all, as in a test of a skill."""
    broker = Broker()
    broker.away = True
    for cache in (Cache(broker), Cache(None)):
        assert cache.set("k", 1) is False
        assert cache.get("k", 5) == 5
        assert cache.get_or("k", lambda: 7) == 7
        cache.delete("k")


@pytest.mark.parametrize(
    ("key", "value", "ttl_s", "words"),
    [
        ("k", object(), 1, "is no JSON"),
        ("k", "x" * 1_100_000, 1, "the limit is 1048576"),
        ("", 1, 1, "1 to 200 characters"),
        ("k" * 201, 1, 1, "1 to 200 characters"),
        ("k", 1, 0, "ttl_s is above 0"),
        ("k", 1, 31 * 86_400, "ttl_s is above 0"),
    ],
)
def test_what_cannot_be_kept_is_the_agents_mistake(key: str, value: Any, ttl_s: float, words: str) -> None:
    """It is told, and nothing is asked."""
    broker = Broker()
    with pytest.raises(NonRetryableError, match=words):
        Cache(broker).set(key, value, ttl_s=ttl_s)
    assert broker.asked == []
