"""Why it exists: "A after B" must end somewhere; a cycle is named, link by link, before anything starts."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence


def find_cycle(after: Mapping[str, Sequence[str]]) -> list[str]:
    """Find a cycle.

    Args:
        after: for each name what must come before it; names without an entry come first.

    Returns:
        The names of one cycle, the first again at the end; empty when there is none. Always the same one for the same
        input.
    """
    done: set[str] = set()
    for start in after:
        if start in done:
            continue
        trail: dict[str, int] = {}
        path: list[tuple[str, int]] = [(start, 0)]
        trail[start] = 0
        while path:
            name, index = path.pop()
            waits = after.get(name, ())
            if index >= len(waits):
                done.add(name)
                del trail[name]
                continue
            path.append((name, index + 1))
            target = waits[index]
            if target in trail:
                names = list(trail)[trail[target] :]
                return [*names, target]
            if target not in done:
                trail[target] = len(trail)
                path.append((target, 0))
    return []


def layers(names: Sequence[str], after: Mapping[str, Sequence[str]]) -> list[list[str]]:
    """Order names into steps: each step waits only for earlier ones.

    Args:
        names: in the order in which equals are to stand.
        after: for each name what must come before it; what is not in ``names`` is ignored.

    Returns:
        The steps; names of a cycle are left out (find it with ``find_cycle``).
    """
    wanted = set(names)
    waits = {name: {target for target in after.get(name, ()) if target in wanted} for name in names}
    followers: dict[str, list[str]] = {name: [] for name in names}
    for name, targets in waits.items():
        for target in targets:
            followers[target].append(name)
    rank = {name: position for position, name in enumerate(names)}
    found: list[list[str]] = []
    step = [name for name in names if not waits[name]]
    while step:
        found.append(step)
        free: list[str] = []
        for done in step:
            for name in followers[done]:
                waits[name].discard(done)
                if not waits[name]:
                    free.append(name)
        step = sorted(free, key=rank.__getitem__)
    return found
