"""The table of messages is whole, is checked, and is what the page says."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from sutazai.errors import (
    FencedError,
    InvalidInputError,
    NotFoundError,
    ProtocolError,
    QueueFullError,
    RefusedError,
    ResourceExhaustedError,
    StorageFullError,
    SutazaiError,
    UnavailableError,
)
from sutazai.wire.messages import OUTCOMES, TABLE, check, error_message, error_of

PAGE = Path(__file__).parents[3] / "docs/reference/protocol.md"


def test_every_message_stands_in_the_page() -> None:
    """The reference page has one row for each message of the table, and no other."""
    rows = re.findall(
        r"^\| `([a-z_]+)` \| (client|instance|broker|client, instance) \|", PAGE.read_text(), re.MULTILINE
    )
    assert sorted(rows) == sorted((kind.type, ", ".join(kind.senders)) for kind in TABLE)


def test_every_field_stands_in_its_row() -> None:
    """A message's row in the page names each of its fields with its type."""
    page = PAGE.read_text()
    for kind in TABLE:
        row = next(
            line for line in page.splitlines() if line.startswith(f"| `{kind.type}` | {', '.join(kind.senders)} |")
        )
        for name, text in kind.fields.items():
            assert f"`{name}: {text}`".replace("|", "\\|") in row, f"{kind.type}: {name}"


def test_replies_exist() -> None:
    """What a message says it is answered with is itself a message of the broker."""
    broker = {kind.type for kind in TABLE if "broker" in kind.senders}
    for kind in TABLE:
        assert set(kind.replies) <= broker


def test_the_broker_reads_the_same_fields() -> None:
    """What the broker understands of a request and what the table says are the same fields."""
    from sutazai.bus import messages as bus

    table = {(kind.senders, kind.type): {name.rstrip("?") for name in kind.fields} for kind in TABLE}
    for sender, structs in (("client", bus.CLIENT_MESSAGES), ("instance", bus.INSTANCE_MESSAGES)):
        assert {kind for senders, kind in table if senders == (sender,)} == set(structs)
        for kind, struct in structs.items():
            assert table[(sender,), kind] | {"id"} == set(struct.__struct_fields__) - {"raw"}, kind  # follows
    assert table[("client", "instance"), "hello"] == set(bus.Hello.__struct_fields__)


def test_outcomes_are_closed() -> None:
    """A turn ends in one of four ways."""
    assert sorted(OUTCOMES) == ["checkpoint", "failed", "result", "wait"]


@pytest.mark.parametrize(
    "message",
    [
        {"t": "nonsense"},
        {"t": "turn"},
        {"t": "commit", "id": 1, "task": "t", "fence": 1},
        {"t": "commit", "id": "1", "task": "t", "fence": 1, "outcome": "result"},
        {"t": "commit", "id": True, "task": "t", "fence": 1, "outcome": "result"},
        {"t": "commit", "id": 1, "task": None, "fence": 1, "outcome": "result"},
        {"t": "commit", "id": 1, "task": "t", "fence": 1, "outcome": "result", "emits": {}},
    ],
)
def test_wrong_messages_are_refused(message: dict[str, object]) -> None:
    """Unknown types, missing fields and fields of another type are protocol errors."""
    with pytest.raises(ProtocolError):
        check(message, "instance")


def test_good_messages_pass() -> None:
    """Optional fields may be missing or null where the table says so; unknown fields are ignored."""
    assert check({"t": "commit", "id": 1, "task": "t", "fence": 1, "outcome": "result"}, "instance") == "commit"
    assert check({"t": "hello", "v": 1, "role": "instance", "held": None, "new": 1}, "instance") == "hello"
    assert check({"t": "error", "re": None, "code": "protocol", "detail": ""}, "broker") == "error"


@pytest.mark.parametrize(
    "error",
    [
        NotFoundError("a"),
        InvalidInputError("b"),
        QueueFullError("c", 7),
        StorageFullError("d"),
        FencedError("e"),
        ResourceExhaustedError("f"),
        RefusedError("g"),
        UnavailableError("h"),
        ProtocolError("i"),
    ],
)
def test_errors_cross_the_wire(error: SutazaiError) -> None:
    """An error keeps its class, text and waiting time on its way over a socket."""
    back = error_of(error_message(error, 3))
    assert type(back) is type(error)
    assert str(back) == str(error)
    assert getattr(back, "retry_after_s", None) == getattr(error, "retry_after_s", None)


def test_an_unknown_error_code_is_still_an_error() -> None:
    """A newer broker may refuse with a code that we do not know."""
    assert type(error_of({"t": "error", "re": 1, "code": "odd", "detail": "x"})) is RefusedError
