"""The table of operations is the reference page's, in both directions."""

from __future__ import annotations

import re
from pathlib import Path
from unittest.mock import MagicMock

import pytest

from sutazai.errors import ProtocolError
from sutazai.powers import POWERS
from sutazai.supervisor.ops import Operations

PAGE = Path(__file__).parents[3] / "docs/reference/sutazaid-socket.md"


def test_every_operation_is_documented_and_nothing_else_is() -> None:
    """A new operation without a line on the page, or a line without an operation, fails here."""
    operations = Operations(*(MagicMock() for _ in range(4)), dict.fromkeys(POWERS, MagicMock()))
    section = PAGE.read_text().split("## Operations")[1].split("## Pushes")[0]
    documented = set(re.findall(r"^\| `([a-z-]+)` \|", section, re.MULTILINE))
    assert documented == set(operations.table)


def test_pressure_is_checked_told_and_told_again() -> None:
    """The broker hears it at once and after each hello; nonsense is refused and changes nothing; 9 and 1 end it."""
    server = MagicMock()
    operations = Operations(MagicMock(), MagicMock(), MagicMock(), server, {})
    operations._instances.stopping = False

    def ask(**body: object) -> MagicMock:
        request = MagicMock(op="pressure", body=body)
        request.connection.uid = 0
        request.number = body.get
        operations.handle(request)
        return request

    said = {"priority_max": 3, "share": 0.5, "why": "memory"}
    ask(**said).reply.assert_called_once_with(pressure=said)
    server.named.return_value.push.assert_called_once_with("pressure", **said)
    for wrong in ({"priority_max": 10}, {"share": 1.5}, {"share": "half"}, {"share": True}):
        with pytest.raises(ProtocolError, match="pressure:"):
            ask(**wrong)
    ask().reply.assert_called_once_with(pressure=said)
    hello = MagicMock(op="hello", body={})
    hello.connection.uid, hello.text = 0, lambda _: "broker"
    operations.handle(hello)
    hello.connection.push.assert_called_once_with("pressure", **said)
    ask(priority_max=9, share=1)
    hello.connection.push.reset_mock()
    operations.handle(hello)
    hello.connection.push.assert_not_called()


def test_every_push_is_documented() -> None:
    """Each kind of push in the code stands in the page's table of pushes."""
    section = PAGE.read_text().split("## Pushes")[1].split("## Status")[0]
    documented = set(re.findall(r"^\| `([a-z-]+)` \|", section, re.MULTILINE))
    code = "\n".join(path.read_text() for path in Path(__file__).parents[3].glob("src/sutazai/supervisor/*.py"))
    pushed = set(re.findall(r'(?:_tell|\.push)\(\s*"([a-z-]+)"', code)) | set(re.findall(r'"push": "([a-z-]+)"', code))
    assert pushed <= documented
    assert {"ticket", "tickets", "exit", "room", "drain", "plan", "member", "fork"} <= pushed
