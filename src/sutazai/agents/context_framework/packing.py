"""Why it exists: which items go into a budget is decided in the open: by exact counts, relevance and novelty.

Selection is greedy by maximal marginal relevance (Carbonell and Goldstein 1998): (1 - diversity) x relevance -
diversity x highest similarity to what was chosen. An item that does not fit is passed over, smaller ones may still fit.
Counts of parts do not add up exactly, so the whole text is counted at the end; what is over is taken out, what is left
is offered to the items that were passed over.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal

import numpy as np

from sutazai.agents.context_framework.models import Dropped, Kept
from sutazai.runtime import NonRetryableError

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from numpy.typing import NDArray

    from sutazai.agents.context_framework.models import Item, Options
    from sutazai.agents.context_framework.similarity import Duplicate

    Count = Callable[[Sequence[str]], list[int]]

_OFFERS_MAX = 16  # exact counts that filling up may cost


@dataclass(slots=True)
class Bench:
    """The items while they are judged.

    Attributes:
        items: as given.
        texts: as they stand in the context.
        sizes: exact tokens of each text alone.
        costs: exact tokens of each text with a separator before it.
        relevance: 0 to 1 each.
        similarity: of each two.
        budget: tokens of the whole text.
        options: how to choose and to order.
        count: the model's own tokenizer.
        chosen: places in the order of choice.
        novelty: of the chosen ones.
        dropped: the rest, with reasons.
    """

    items: Sequence[Item]
    texts: list[str]
    sizes: list[int]
    costs: list[int]
    relevance: NDArray[np.float64]
    similarity: NDArray[np.float64]
    budget: int
    options: Options
    count: Count
    chosen: list[int] = field(default_factory=list)
    novelty: dict[int, float] = field(default_factory=dict)
    dropped: dict[int, Dropped] = field(default_factory=dict)

    def drop(self, place: int, reason: Literal["duplicate", "no-room", "not-relevant", "empty"], why: str) -> Dropped:
        """Leave an item out."""
        found = Dropped(
            id=self.items[place].id, reason=reason, why=why, tokens=self.sizes[place],
            relevance=round(float(self.relevance[place]), 4),
        )  # fmt: skip
        self.dropped[place] = found
        return found

    def take(self, place: int) -> None:
        """Choose an item."""
        nearest = max((float(self.similarity[place, other]) for other in self.chosen), default=0.0)
        self.novelty[place] = round(1 - nearest, 4)
        self.chosen.append(place)
        self.dropped.pop(place, None)

    def release(self, place: int, why: str) -> None:
        """Take a chosen item out again."""
        self.chosen.remove(place)
        self.novelty.pop(place)
        self.drop(place, "no-room", why)


def rendered(items: Sequence[Item], *, labels: bool) -> list[str]:
    """The items as they stand in the context."""
    return [f"[{item.id}] {item.text.strip()}" if labels else item.text.strip() for item in items]


def pack(bench: Bench, duplicates: Sequence[Duplicate]) -> tuple[str, int]:
    """Choose; ``bench`` holds what was chosen and dropped.

    Returns:
        The whole text and its exact tokens.

    Raises:
        NonRetryableError: the required items alone are over the budget.
    """
    _leave_out(bench, duplicates)
    for place, item in enumerate(bench.items):
        if item.required and place not in bench.dropped:
            bench.take(place)
    if bench.chosen and (needed := bench.count([joined(bench)])[0]) > bench.budget:
        raise NonRetryableError(
            f"the required items take {needed} tokens, the budget is {bench.budget}: raise it, or require less"
        )
    _choose(bench)
    total = _within(bench)
    total = _fill(bench, total)
    return joined(bench), total


def _leave_out(bench: Bench, duplicates: Sequence[Duplicate]) -> None:
    for place, item in enumerate(bench.items):
        if not item.text.strip():
            bench.drop(place, "empty", "there is nothing in it")
    for pair in duplicates:
        if pair.one in bench.dropped or pair.other in bench.dropped:
            continue
        worse, better = sorted((pair.one, pair.other), key=lambda place: _merit(bench, place))
        if bench.items[worse].required:
            continue  # both are required
        found = bench.drop(worse, "duplicate", f"says the same as {bench.items[better].id!r} ({pair.how})")
        found.duplicate_of, found.similarity = bench.items[better].id, pair.similarity
    for place, item in enumerate(bench.items):
        value = float(bench.relevance[place])
        if place not in bench.dropped and not item.required and value < bench.options.min_relevance:
            bench.drop(place, "not-relevant", f"its relevance {value:.3f} is below {bench.options.min_relevance}")


def _merit(bench: Bench, place: int) -> tuple[bool, float, int, int]:
    """Which of two duplicates stays: required, more relevant, more words, earlier."""
    return (
        bench.items[place].required, round(float(bench.relevance[place]), 6), len(bench.texts[place].split()), -place
    )  # fmt: skip


def _choose(bench: Bench) -> None:
    left = [place for place in range(len(bench.items)) if place not in bench.dropped and place not in bench.novelty]
    room = bench.budget - (bench.count([joined(bench)])[0] if bench.chosen else 0)
    nearest = np.zeros(len(bench.items))
    for place in bench.chosen:
        nearest = np.maximum(nearest, bench.similarity[place])
    while left:
        values = (1 - bench.options.diversity) * bench.relevance[left] - bench.options.diversity * nearest[left]
        place = left.pop(int(np.argmax(values)))
        cost = bench.costs[place] if bench.chosen else bench.sizes[place]
        if cost > room:
            bench.drop(place, "no-room", f"it takes {cost} tokens, {max(0, room)} were left when its turn came")
            continue
        bench.take(place)
        room -= cost
        nearest = np.maximum(nearest, bench.similarity[place])


def _within(bench: Bench) -> int:
    """Take out what is over when the whole is counted."""
    total = bench.count([joined(bench)])[0] if bench.chosen else 0
    while total > bench.budget:
        optional = [place for place in bench.chosen if not bench.items[place].required]
        bench.release(optional[-1], f"with it the whole text takes {total} tokens: more than its parts alone")
        total = bench.count([joined(bench)])[0] if bench.chosen else 0
    return total


def _fill(bench: Bench, total: int) -> int:
    """Offer what is left to the items that were passed over, the most relevant first."""
    passed = [place for place, found in bench.dropped.items() if found.reason == "no-room"]
    passed = [place for place in passed if bench.sizes[place] <= bench.budget - total]
    for place in sorted(passed, key=lambda place: (-float(bench.relevance[place]), place))[:_OFFERS_MAX]:
        before = bench.dropped[place].why
        bench.take(place)
        grown = bench.count([joined(bench)])[0]
        if grown > bench.budget:
            bench.release(place, before)
        else:
            total = grown
    return total


def places(bench: Bench) -> list[int]:
    """The chosen items in the order of the context."""
    if bench.options.order == "given":
        return sorted(bench.chosen)
    required = [place for place in bench.chosen if bench.items[place].required]
    others = [place for place in bench.chosen if not bench.items[place].required]
    if bench.options.order == "edges":
        best_first = sorted(bench.chosen, key=lambda place: (-float(bench.relevance[place]), place))
        return best_first[::2] + best_first[1::2][::-1]
    return required + others


def joined(bench: Bench) -> str:
    """The whole text."""
    return bench.options.separator.join(bench.texts[place] for place in places(bench))


def kept(bench: Bench) -> list[Kept]:
    """What is in, in its order."""
    return [
        Kept(
            id=bench.items[place].id, tokens=bench.sizes[place], relevance=round(float(bench.relevance[place]), 4),
            novelty=bench.novelty[place], required=bench.items[place].required,
            why="required" if bench.items[place].required else "highest relevance and novelty that fitted",
        )
        for place in places(bench)
    ]  # fmt: skip


def dropped(bench: Bench) -> list[Dropped]:
    """What is out, in the order given."""
    return [bench.dropped[place] for place in sorted(bench.dropped)]
