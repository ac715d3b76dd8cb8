"""Why it exists: the skills of model-training-specialist, and the turns by which a model is kept and found again."""

import base64
import hashlib
import json
import time
from importlib.metadata import version as installed
from typing import Annotated, Any

from pydantic import Field

from sutazai.agents.model_training_specialist import registry, table, training
from sutazai.agents.model_training_specialist.models import (
    Card,
    Cell,
    Evaluation,
    Listing,
    ModelName,
    Prediction,
    Predictions,
    Task,
    Trained,
)
from sutazai.runtime import Agent, Context, NonRetryableError, Result, Wait, files

agent = Agent("model-training-specialist")

_ROWS_ASKED_MAX = 5_000
_LIBRARIES = ("scikit-learn", "skops", "numpy", "scipy", "pandas")
Csv = Annotated[
    str,
    Field(
        min_length=1,
        max_length=1_000_000,
        description="the table with a header line; or the absolute path of one below an allowed folder",
    ),
]
Version = Annotated[int, Field(ge=0, description="0: the newest")]
Recipe = Annotated[str, Field(pattern="^[0-9a-f]{64}$")]


@agent.skill
def train(
    ctx: Context,
    name: ModelName,
    target: Annotated[str, Field(min_length=1, max_length=200, description="the column to predict")],
    csv: Csv,
    task: Annotated[Task | None, Field(description="left out: found out from the target")] = None,
    seed: Annotated[int, Field(ge=0, le=2**31)] = 0,
) -> Wait[Trained]:
    """Train a model: cross-validated beside a baseline, judged on rows kept apart, kept as a version."""
    training.require_sklearn()
    text = _text(ctx, csv)
    ctx.progress(0.05, "reading the table")
    given = table.prepare(text, target, task)
    libraries = {library: installed(library) for library in _LIBRARIES}
    recipe = {"data": given.digest, "target": target, "task": given.task, "seed": seed, "libraries": libraries}
    outcome = training.train(given, seed, ctx.progress)
    data = registry.pack(outcome.pipeline)
    card = Card(
        name=name,
        task=given.task,
        target=target,
        kind=outcome.kind,
        columns=given.columns,
        classes=[str(item) for item in getattr(outcome.pipeline, "classes_", [])],
        rows=len(given.frame),
        seed=seed,
        cross_validation=outcome.cross_validation,
        held_out=outcome.held_out,
        advantage=outcome.advantage,
        warnings=outcome.warnings,
        data_digest=given.digest,
        recipe=hashlib.sha256(json.dumps(recipe, sort_keys=True).encode()).hexdigest(),
        model_digest=hashlib.sha256(data).hexdigest(),
        model_bytes=len(data),
        libraries=libraries,
        trained_at_wall_ms=time.time_ns() // 1_000_000,
    )
    carry = {"card": card.model_dump(mode="json"), "tried": [item.model_dump() for item in outcome.tried]}
    call = ctx.call(
        agent.name,
        "keep",
        {"recipe": card.recipe, "content": registry.encode(data)},
        session=_bytes_session(card.recipe),
    )
    return Wait([call], then=kept, carry=carry)


@agent.step
def kept(ctx: Context, results: list[Result], carry: dict[str, Any]) -> Wait[Trained]:
    """Enter the model whose bytes are kept into the index."""
    card = carry["card"] | {"model_digest": _answer(results[0])["digest"]}
    call = ctx.call(agent.name, "register", card, session=registry.INDEX_SESSION)
    return Wait([call], then=registered, carry={"tried": carry["tried"]})


@agent.step
def registered(results: list[Result], carry: dict[str, Any]) -> Trained:
    """Tell the version."""
    entry = _answer(results[0])
    return Trained(card=entry["card"], tried=carry["tried"], new=entry["new"])


@agent.skill
def predict(
    ctx: Context,
    name: ModelName,
    rows: Annotated[
        list[dict[str, Cell]], Field(min_length=1, max_length=_ROWS_ASKED_MAX, description="one object a row")
    ],
    version: Version = 0,
) -> Wait[Predictions]:
    """Predict the target of rows with a kept model."""
    training.require_sklearn()
    return _find(ctx, name, version, {"want": "predict", "rows": rows})


@agent.skill
def evaluate(ctx: Context, name: ModelName, csv: Csv, version: Version = 0) -> Wait[Evaluation]:
    """Measure a kept model on a table with the target, beside the baseline of that table."""
    training.require_sklearn()
    text = _text(ctx, csv)
    if len(text) > 900_000:  # noqa: PLR2004 what a wait can carry
        raise NonRetryableError("a table to evaluate on has at most 900 000 characters: give a sample")
    return _find(ctx, name, version, {"want": "evaluate", "csv": text})


@agent.skill
def models(ctx: Context, name: Annotated[str, Field(max_length=63, description="empty: all")] = "") -> Wait[Listing]:
    """List the kept models with their cards."""
    call = ctx.call(agent.name, "cards", {"name": name}, session=registry.INDEX_SESSION)
    return Wait([call], then=listed)


@agent.step
def listed(results: list[Result]) -> Listing:
    """Give the list."""
    return Listing.model_validate(_answer(results[0]))


@agent.skill
def forget(ctx: Context, name: ModelName) -> Wait[Listing]:
    """Remove a model with all its versions; gives what is left."""
    call = ctx.call(agent.name, "remove", {"name": name}, session=registry.INDEX_SESSION)
    return Wait([call], then=listed)


def _answer(result: Result) -> Any:
    """Give what this agent's own skill answered; a mistake of the caller stays one and is not tried again."""
    if result.error is not None and not result.error.get("retryable", True):
        raise NonRetryableError(str(result.error.get("message", result.status)))
    return result.require()


def _find(ctx: Context, name: str, version: int, carry: dict[str, Any]) -> Wait[Any]:
    call = ctx.call(agent.name, "card", {"name": name, "version": version}, session=registry.INDEX_SESSION)
    return Wait([call], then=found, carry=carry)


@agent.step
def found(ctx: Context, results: list[Result], carry: dict[str, Any]) -> Wait[Predictions | Evaluation]:
    """Ask for the bytes of the version that was found."""
    card = Card.model_validate(_answer(results[0]))
    call = ctx.call(agent.name, "fetch", {"recipe": card.recipe}, session=_bytes_session(card.recipe))
    return Wait([call], then=use, carry=carry | {"card": card.model_dump(mode="json")})


@agent.step
def use(results: list[Result], carry: dict[str, Any]) -> Predictions | Evaluation:
    """Load the model and do what was asked."""
    import pandas as pd  # type: ignore[import-untyped]

    card = Card.model_validate(carry["card"])
    pipeline = registry.unpack(base64.b64decode(_answer(results[0])["content"]), card)
    if carry["want"] == "predict":
        return _predict(card, pipeline, pd.DataFrame(carry["rows"], dtype=object))
    return _evaluate(card, pipeline, carry["csv"])


def _predict(card: Card, pipeline: Any, frame: Any) -> Predictions:
    used = [column for column in card.columns if column.use != "dropped"]
    notes = []
    known = {column.name for column in card.columns}
    if extra := sorted(set(frame.columns) - known - {card.target}):
        notes.append(f"columns that the model does not know are left out: {', '.join(extra)}")
    shaped = table.shape(frame, used)
    values = pipeline.predict(shaped)
    chances = [None] * len(values)
    if card.task == "classification" and hasattr(pipeline, "predict_proba"):
        chances = pipeline.predict_proba(shaped).max(axis=1)
    answers = [
        Prediction(
            value=str(value) if card.task == "classification" else float(value),
            probability=None if chance is None else float(chance),
        )
        for value, chance in zip(values, chances, strict=True)
    ]
    return Predictions(
        name=card.name, version=card.version, model_digest=card.model_digest, predictions=answers, notes=notes
    )


def _evaluate(card: Card, pipeline: Any, text: str) -> Evaluation:
    frame = table.parse(text)
    if card.target not in frame.columns:
        raise NonRetryableError(f"the table has no column {card.target!r}, the target of {card.name}")
    frame = frame[frame[card.target].notna()].reset_index(drop=True)
    if frame.empty:
        raise NonRetryableError(f"no row has a value of {card.target}")
    target = frame[card.target].map(str).map(str.strip)
    notes = []
    if card.task == "regression":
        target = table.shape(frame, [_number(card.target)])[card.target]
    elif strange := sorted(set(target) - set(card.classes)):
        notes.append(f"classes that the model never saw: {', '.join(strange)}")
    predicted = pipeline.predict(table.shape(frame, [item for item in card.columns if item.use != "dropped"]))
    dull = [target.mode().iloc[0] if card.task == "classification" else float(target.mean())] * len(target)
    scores = training.scored(
        card.task,
        [training.measure(target, predicted, card.task)],
        [training.measure(target, dull, card.task)],
    )
    confusion: dict[str, dict[str, int]] = {}
    if card.task == "classification":
        for true, said in zip(target, predicted, strict=True):
            row = confusion.setdefault(str(true), {})
            row[str(said)] = row.get(str(said), 0) + 1
    return Evaluation(
        name=card.name,
        version=card.version,
        rows=len(frame),
        scores=scores,
        confusion=confusion,
        seen_in_training=hashlib.sha256(text.encode()).hexdigest() == card.data_digest,
        notes=notes,
    )


def _number(name: str) -> Any:
    from sutazai.agents.model_training_specialist.models import Column

    return Column(name=name, use="number")


@agent.skill
def keep(ctx: Context, recipe: Recipe, content: Annotated[str, Field(max_length=960_000)]) -> dict[str, str]:
    """Keep a model's bytes in this session (used by train)."""
    _own_session(ctx, _bytes_session(recipe))
    data = files.decode(content, registry.MODEL_BYTES_MAX)
    if "content" not in ctx.state:
        ctx.state["content"] = content
    else:
        data = base64.b64decode(ctx.state["content"])  # the same recipe was trained before: its bytes stay
    return {"digest": hashlib.sha256(data).hexdigest()}


@agent.skill
def fetch(ctx: Context, recipe: Recipe) -> dict[str, str]:
    """Give a model's bytes of this session: base64 of a skops file in xz (used by predict and evaluate)."""
    _own_session(ctx, _bytes_session(recipe))
    if "content" not in ctx.state:
        raise NonRetryableError("the bytes of this model are not kept any more: train it again")
    return {"content": ctx.state["content"]}


@agent.skill
def drop(ctx: Context, recipe: Recipe) -> bool:
    """Drop a model's bytes of this session when no version needs them (used by register and remove)."""
    _own_session(ctx, _bytes_session(recipe))
    return ctx.state.pop("content", None) is not None


@agent.skill
def register(ctx: Context, card: Card) -> dict[str, Any]:
    """Enter a version into the index of this session (used by train)."""
    _own_session(ctx, registry.INDEX_SESSION)
    entry, new, orphans = registry.add(ctx.state, card)
    _drop(ctx, orphans)
    return {"card": entry.model_dump(mode="json"), "new": new}


@agent.skill
def remove(ctx: Context, name: ModelName) -> Listing:
    """Take a model out of the index of this session (used by forget)."""
    _own_session(ctx, registry.INDEX_SESSION)
    _drop(ctx, registry.forget(ctx.state, name))
    return Listing(models=ctx.state["models"])


@agent.skill
def card(ctx: Context, name: ModelName, version: Version = 0) -> Card:
    """Give the card of a version out of the index of this session."""
    _own_session(ctx, registry.INDEX_SESSION)
    return registry.find(ctx.state, name, version)


@agent.skill
def cards(ctx: Context, name: Annotated[str, Field(max_length=63)] = "") -> Listing:
    """Give the cards of the index of this session (used by models)."""
    _own_session(ctx, registry.INDEX_SESSION)
    kept_models = ctx.state.get("models", {})
    return Listing(models={key: value for key, value in kept_models.items() if name in {"", key}})


def _drop(ctx: Context, recipes: list[str]) -> None:
    for recipe in recipes:
        ctx.emit(agent.name, "drop", {"recipe": recipe}, session=_bytes_session(recipe))


def _bytes_session(recipe: str) -> str:
    return f"bytes/{recipe}"


def _own_session(ctx: Context, wanted: str) -> None:
    if ctx.task.session != wanted:
        raise NonRetryableError(f"this skill works in the session {wanted!r} only: use train, predict, models, forget")


def _text(ctx: Context, csv: str) -> str:
    if not csv.startswith("/") or "\n" in csv:
        return csv
    try:
        return files.read(csv, ctx.settings, table.CSV_BYTES_MAX).decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise NonRetryableError(f"{csv} is no UTF-8: {error}") from error
