"""Order and cycles."""

from __future__ import annotations

from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st

from sutazai.spec.graph import find_cycle, layers

GRAPHS = st.dictionaries(st.integers(0, 12).map(str), st.lists(st.integers(0, 12).map(str), max_size=4), max_size=12)


def test_layers_keep_the_written_order() -> None:
    """Each step waits only for earlier ones; equals stand as written."""
    after = {"shop": ["db", "queue"], "report": ["shop"]}
    assert layers(["queue", "shop", "db", "report"], after) == [["queue", "db"], ["shop"], ["report"]]


def test_cycle_begins_and_ends_with_the_same_name() -> None:
    """A cycle behind a harmless beginning is cut out of the path."""
    assert find_cycle({"a": ["b"], "b": ["c"], "c": ["d"], "d": ["b"]}) == ["b", "c", "d", "b"]
    assert find_cycle({"a": ["a"]}) == ["a", "a"]
    assert find_cycle({"a": ["b", "c"], "b": ["c"], "c": []}) == []


@given(GRAPHS)
def test_cycle_and_layers_agree(after: dict[str, list[str]]) -> None:
    """Either there is a real cycle, or every name gets a step behind all that it waits for."""
    names = sorted({*after, *(target for targets in after.values() for target in targets)})
    cycle = find_cycle(after)
    steps = layers(names, after)
    if cycle:
        assert cycle[0] == cycle[-1]
        assert all(second in after[first] for first, second in pairwise(cycle))
        assert sum(map(len, steps)) < len(names)
        return
    depth = {name: index for index, step in enumerate(steps) for name in step}
    assert set(depth) == set(names)
    assert all(depth[target] < depth[name] for name in after for target in after[name])
