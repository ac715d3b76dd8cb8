"""Why it exists: each kind of block decides in one turn what to do next, from its place and the results that came.

A list of steps has one open step; a parallel those whose predecessors are over; a map a window of its items. None of
them carries results: those stay where the store has them.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from sutazai.agents.agent_orchestrator import steps
from sutazai.agents.agent_orchestrator.scope import Scope, StepFailedError, child_name, read_nodes
from sutazai.ids import named_child_id
from sutazai.runtime import Result, Wait
from sutazai.workflow import expression
from sutazai.workflow.kinds import MAP, MAP_ITEMS_MAX, PARALLEL, STEPS, kind_of

if TYPE_CHECKING:
    from sutazai.agents.agent_orchestrator.models import Place
    from sutazai.runtime import Call, Context

_LOOK_AHEAD = 16
_PAGE = 500


def begin(ctx: Context, place: Place) -> Any:
    """Take the first steps of a block."""
    if place.node["kind"] == PARALLEL:
        place.states = "w" * place.node["count"]
    if place.node["kind"] == MAP:
        _keep_items(ctx, place)
    return go_on(ctx, place, [])


def go_on(ctx: Context, place: Place, results: list[Result]) -> Any:
    """Take the next steps: a ``Wait``, or the block's result."""
    kinds = {STEPS: _list, PARALLEL: _parallel, MAP: _map}
    if place.node["kind"] not in kinds:
        raise steps.not_a_block(place.frame.key)
    return kinds[place.node["kind"]](ctx, place, results)


def _wait(place: Place, call: Call) -> Wait[Any]:
    return Wait([call], then="advance", carry=place.model_dump(mode="json"))


def _key(place: Place, number: int) -> str:
    return f"{place.frame.key}.{number}"


# A list of steps


def _list(ctx: Context, place: Place, results: list[Result]) -> Any:
    scope = Scope(ctx, place.frame)
    work = steps.Steps(ctx, place, scope)
    if place.open:
        (number, attempt), end = place.open[0], results[0]
        key = _key(place, number)
        if not end.ok:
            node = read_nodes(ctx, place.frame, [key])[key]
            if steps.may_try_again(node, end, attempt):
                call = work.again(key, node, attempt + 1)
                if call is not None:
                    place.open = [(number, attempt + 1)]
                    return _wait(place, call)
            if not node.get("go_on"):
                raise steps.failure(node, end)
        place.open, place.at = [], number + 1
    count, ahead = place.node.get("count", 0), 1
    while place.at < count:
        keys = [_key(place, number) for number in range(place.at, min(count, place.at + ahead))]
        nodes = read_nodes(ctx, place.frame, keys)
        ahead = _LOOK_AHEAD
        for key in keys:
            call = work.start(key, nodes[key])
            if call is not None:
                place.open = [(place.at, 0)]
                return _wait(place, call)
            place.at += 1
    return _output(place, scope)


def _output(place: Place, scope: Scope) -> Any:
    if "output" in place.node:
        values = scope.values(place.node["output_uses"])
        try:
            return expression.fill(place.node["output"], values)
        except expression.ExpressionError as error:
            raise StepFailedError(f"the output of {place.node['name']}: {error}") from error
    last = place.node.get("last")
    if last is None:
        return None
    end = scope.ends([last]).get(last[0])
    return end.result if end is not None else None


# Steps at once


def _parallel(ctx: Context, place: Place, results: list[Result]) -> Any:
    scope = Scope(ctx, place.frame)
    work = steps.Steps(ctx, place, scope)
    states = list(place.states)
    going: list[tuple[tuple[int, int], Call]] = []
    still = _still_open(place, results)
    failed: StepFailedError | None = None
    for (number, attempt), end in _ended(place, results):
        key = _key(place, number)
        states[number] = "d"
        if end.ok:
            continue
        node = read_nodes(ctx, place.frame, [key])[key]
        if steps.may_try_again(node, end, attempt) and (call := work.again(key, node, attempt + 1)):
            states[number] = "o"
            going.append(((number, attempt + 1), call))
        elif not node.get("go_on"):
            failed = failed or steps.failure(node, end)
    if failed is not None:
        work.cancel([task for _, task in still])
        raise failed
    moved = True
    while moved:  # a step that is left out frees those behind it at once
        moved = False
        ready = [
            number
            for number, after in enumerate(place.node["after"])
            if states[number] == "w" and all(states[other] in "dl" for other in after)
        ]
        nodes = read_nodes(ctx, place.frame, [_key(place, number) for number in ready]) if ready else {}
        for number in ready:
            call = work.start(_key(place, number), nodes[_key(place, number)])
            states[number] = "l" if call is None else "o"
            if call is None:
                moved = True
            else:
                going.append(((number, 0), call))
    place.states = "".join(states)
    return _wait_or_end(place, (still, going), lambda: _parallel_result(place, scope))


def _parallel_result(place: Place, scope: Scope) -> dict[str, Any]:
    names = place.node["names"]
    tries = place.node["tries"]
    ends = scope.ends([(_key(place, number), tries[number]) for number in range(len(names))])
    found = {name: ends.get(_key(place, number)) for number, name in enumerate(names)}
    return {name: end.result if end is not None else None for name, end in found.items()}


def _ended(place: Place, results: list[Result]) -> list[tuple[tuple[int, int], Result]]:
    return [(which, end) for which, end in zip(place.open, results, strict=True) if end.is_over]


def _still_open(place: Place, results: list[Result]) -> list[tuple[tuple[int, int], str]]:
    return [(which, end.task) for which, end in zip(place.open, results, strict=True) if not end.is_over]


def _wait_or_end(place: Place, both: tuple[list[Any], list[Any]], result: Any) -> Any:
    """Wait for the first of those that run on and those that begin now; without any, the block is over."""
    still, going = both
    if not still and not going:
        return result()
    place.open = [which for which, _ in still] + [which for which, _ in going]
    return Wait(
        [call for _, call in going], then="advance", carry=place.model_dump(mode="json"), count=1,
        running=[task for _, task in still],
    )  # fmt: skip


# A map


def _keep_items(ctx: Context, place: Place) -> None:
    scope = Scope(ctx, place.frame)
    name = place.node["name"]
    try:
        items = expression.evaluate(place.node["over"], scope.values(place.node["uses"]))
    except expression.ExpressionError as error:
        raise StepFailedError(f"step {name}: {error}") from error
    if not isinstance(items, list):
        raise StepFailedError(f"step {name}: {place.node['over']} is no list but {kind_of(items)}")
    if len(items) > MAP_ITEMS_MAX:
        raise StepFailedError(f"step {name}: {len(items)} items; a map has at most {MAP_ITEMS_MAX}: cut the list")
    for number, value in enumerate(items):
        ctx.keep(f"i/{number}", value)
    place.total = len(items)
    place.node = {**place.node, "first": items[: place.node.get("width", 1)]}


def _map(ctx: Context, place: Place, results: list[Result]) -> Any:
    scope = Scope(ctx, place.frame)
    work = steps.Steps(ctx, place, scope)
    key = _key(place, 0)
    body = read_nodes(ctx, place.frame, [key])[key]
    name, width = place.node.get("variable", "item"), place.node.get("width", 1)
    still = _still_open(place, results)
    going: list[tuple[tuple[int, int], Call]] = []
    failed: StepFailedError | None = None
    for (number, attempt), end in _ended(place, results):
        if end.ok:
            continue
        item = f":{number}"
        if steps.may_try_again(body, end, attempt):
            variables = {name: ctx.recall([f"i/{number}"])[f"i/{number}"]}
            if call := work.again(key, body, attempt + 1, variables, item):
                going.append(((number, attempt + 1), call))
                continue
        if not body.get("go_on"):
            failed = failed or steps.failure({**body, "name": place.node["name"]}, end, f" of item {number}")
    if failed is not None:
        work.cancel([task for _, task in still])
        raise failed
    first = place.node.pop("first", None)
    named = {**body, "name": place.node["name"]}
    while place.at < place.total and len(still) + len(going) < width:
        number = place.at
        place.at += 1
        value = first[number] if first is not None and number < len(first) else None
        if first is None or number >= len(first):
            value = ctx.recall([f"i/{number}"])[f"i/{number}"]
        call = work.start(key, named, {name: value}, f":{number}")
        if call is not None:
            going.append(((number, 0), call))
    return _wait_or_end(place, (still, going), lambda: _map_result(ctx, place, scope, (key, body)))


def _map_result(ctx: Context, place: Place, scope: Scope, body: tuple[str, dict[str, Any]]) -> list[Any]:
    """Gather the results of all items, once, in their order; those that failed or were left out give null."""
    key, node = body
    most = steps.attempts(node)
    found: list[Any] = []
    taken = scope.taken_over
    for start in range(0, place.total, _PAGE):
        numbers = range(start, min(place.total, start + _PAGE))
        ids = {
            number: [named_child_id(ctx.task.id, child_name(f"{key}:{number}", attempt)) for attempt in range(most)]
            for number in numbers
        }
        if place.frame.before:
            kept = ctx.recall([f"ref/{key}:{number}" for number in numbers])
            for number in numbers:
                name = f"{key}:{number}"
                older = taken.get(name) or kept.get(f"ref/{name}")
                ids[number] += [older] if older else []
        ends = ctx.results([task for tasks in ids.values() for task in tasks])
        for number in numbers:
            end = next((ends[task] for task in ids[number] if task in ends and ends[task].ok), None)
            found.append(end.result if end is not None else None)
    return found
