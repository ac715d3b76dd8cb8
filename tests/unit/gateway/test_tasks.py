"""Durable work over HTTP: what is accepted, what is refused and how, what the caller gets."""

from __future__ import annotations

import hashlib
import json
from typing import TYPE_CHECKING, Any

import pytest

from sutazai.errors import InvalidInputError, QueueFullError, RefusedError, StorageFullError, UnavailableError
from sutazai.limits import BODY_BYTES_MAX, PREFER_WAIT_MS_MAX

if TYPE_CHECKING:
    from httpx import Response

EDGE, HELLO, ADDER = 10005, 10300, 10301
TASK = {"skill": "greet", "input": {"name": "Ada"}}


def problem(response: Response, status: int, code: str) -> dict[str, Any]:
    """Check the form that every refusal has, and give it."""
    assert response.status_code == status, response.text
    assert response.headers["content-type"] == "application/problem+json"
    body: dict[str, Any] = response.json()
    assert set(body) >= {"type", "title", "status", "detail", "code"}
    assert (body["status"], body["code"]) == (status, code)
    assert body["type"] == f"urn:sutazai:problem:{code}"
    return body


@pytest.mark.parametrize(("port", "path"), [(HELLO, "/tasks"), (EDGE, "/agents/hello/tasks")])
def test_a_task_is_accepted_on_both_doors(fleet: Any, port: int, path: str) -> None:
    """The agent's own port and the edge take the same task, answer 202 with its id and where it is."""
    response = fleet.at(port).post(path, json={**TASK, "session": "s", "priority": 0, "deadline_s": 1.5, "delay_s": 2})
    assert response.status_code == 202
    assert response.json() == {"id": "t_0", "status": "queued", "duplicate": False}
    assert response.headers["location"] == "/tasks/t_0"
    assert fleet.at(port).get(response.headers["location"]).json()["id"] == "t_0"
    assert fleet.broker.asked[0]["tasks"] == [
        {"agent": "hello", "skill": "greet", "input": {"name": "Ada"}, "session": "s", "priority": 0,
         "deadline_ms": 1500, "delay_ms": 2000}
    ]  # fmt: skip


def test_the_same_key_is_the_same_task(fleet: Any) -> None:
    """An Idempotency-Key that was used before is answered 200 with the first task's id."""
    client = fleet.at(HELLO)
    first = client.post("/tasks", json=TASK, headers={"Idempotency-Key": '"k-1"'})
    again = client.post("/tasks", json=TASK, headers={"Idempotency-Key": "k-1"})
    assert (first.status_code, again.status_code) == (202, 200)
    assert again.json()["id"] == first.json()["id"]
    assert again.json()["duplicate"] is True
    problem(client.post("/tasks", json=TASK, headers={"Idempotency-Key": "x" * 500}), 400, "bad-header")


def test_prefer_wait_gives_the_result_when_it_is_there_in_time(fleet: Any) -> None:
    """``Prefer: wait`` turns 202 into 200 with the whole task, and stays 202 when it takes longer."""
    client = fleet.at(HELLO)
    late = client.post("/tasks", json=TASK, headers={"Prefer": "respond-async, wait=1"})
    assert (late.status_code, late.json()["status"]) == (202, "queued")
    fleet.broker.done = True
    direct = client.post("/tasks", json=TASK, headers={"Prefer": "wait=10"})
    assert (direct.status_code, direct.json()["result"]) == (200, "Hello!")
    assert direct.headers["preference-applied"] == "wait=10"
    client.post("/tasks", json=TASK, headers={"Prefer": "wait=999999"})
    assert fleet.broker.asked[-1]["timeout_ms"] == PREFER_WAIT_MS_MAX


@pytest.mark.parametrize("text", ["wait=-1", "wait=abc", "wait", "unwait=9", "waited; x", "wait=1e3"])
def test_a_preference_that_is_not_understood_is_ignored(fleet: Any, text: str) -> None:
    """RFC 7240: an unknown or malformed preference is no error."""
    response = fleet.at(HELLO).post("/tasks", json=TASK, headers={"Prefer": text})
    assert response.status_code == 202
    assert [message["t"] for message in fleet.broker.asked] == ["submit"]


def test_an_input_that_does_not_fit_is_refused_before_it_is_accepted(fleet: Any) -> None:
    """Each mistake has a pointer into the body; nothing reaches the broker."""
    body = {"skill": "greet", "input": {"name": "x" * 500, "times": 0, "a/b": 1}}
    errors = problem(fleet.at(HELLO).post("/tasks", json=body), 422, "invalid-input")["errors"]
    assert {error["pointer"] for error in errors} == {"#/input/name", "#/input/times", "#/input"}
    assert all(len(error["detail"]) <= 300 for error in errors)
    missing = problem(fleet.at(HELLO).post("/tasks", json={"skill": "greet"}), 422, "invalid-input")
    assert "name" in missing["errors"][0]["detail"]
    assert not fleet.broker.asked


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("skill", 5), ("skill", ""), ("session", ""), ("session", "x" * 201), ("session", 7), ("priority", 10),
        ("priority", -1), ("priority", True), ("priority", "1"), ("deadline_s", 0), ("deadline_s", "5s"),
        ("deadline_s", 1e12), ("delay_s", True), ("delay_s", -3), ("dealy_s", 1),
    ],
)  # fmt: skip
def test_a_wrong_field_is_named(fleet: Any, field: str, value: Any) -> None:
    """A field of the wrong type or beyond its bounds, or one that does not exist, is refused with its pointer."""
    response = fleet.at(HELLO).post("/tasks", json={**TASK, field: value})
    assert problem(response, 422, "invalid-input")["errors"][0]["pointer"] == f"#/{field}"


@pytest.mark.parametrize(
    "body", [b"", b"{", b"nope", b'{"skill": NaN}', b"\xff\xfe{}", b'"\xed\xa0\x80"', b"[" * 100_000]
)
def test_bad_json_is_400(fleet: Any, body: bytes) -> None:
    """What is no UTF-8 or no JSON is refused, also when it is nested deeply enough to hurt a parser."""
    response = fleet.at(HELLO).post("/tasks", content=body, headers={"Content-Type": "application/json"})
    problem(response, 400, "bad-json")


def test_a_body_that_is_no_object_is_422(fleet: Any) -> None:
    """JSON that is no object does not fit."""
    problem(fleet.at(HELLO).post("/tasks", json=[1]), 422, "invalid-input")


def test_an_oversize_body_is_413(fleet: Any) -> None:
    """Too large a body is refused, by its announced length or by what arrives."""
    client = fleet.at(HELLO)
    huge = json.dumps({**TASK, "input": {"name": "x" * BODY_BYTES_MAX}}).encode()
    problem(client.post("/tasks", content=huge), 413, "body-too-large")
    problem(
        client.post("/tasks", content=(huge[i : i + 65_536] for i in range(0, len(huge), 65_536))),
        413,
        "body-too-large",
    )
    assert not fleet.broker.asked


def test_another_media_type_is_415(fleet: Any) -> None:
    """A form is not JSON."""
    problem(fleet.at(HELLO).post("/tasks", data={"skill": "greet"}), 415, "unsupported-media-type")


def test_unknown_names_are_404_with_near_ones(fleet: Any) -> None:
    """A mistyped skill or agent is answered with what was probably meant."""
    skill = problem(fleet.at(HELLO).post("/tasks", json={**TASK, "skill": "gret"}), 404, "not-found")
    assert skill["near"] == ["greet"]
    agent = problem(fleet.at(EDGE).post("/agents/helo/tasks", json=TASK), 404, "not-found")
    assert agent["near"] == ["hello"]


@pytest.mark.parametrize(
    ("method", "path"), [("POST", "/tasks"), ("DELETE", "/tasks/t_0"), ("POST", "/tasks/t_0/cancel")]
)
@pytest.mark.parametrize("token", ["", "Bearer", "Bearer wrong", "Basic c2VjcmV0"])
def test_a_write_without_the_token_is_401(fleet: Any, method: str, path: str, token: str) -> None:
    """Every write needs the fleet's token."""
    response = fleet.at(HELLO, Authorization=token).request(method, path, json=TASK if path == "/tasks" else None)
    problem(response, 401, "unauthorized")
    assert response.headers["www-authenticate"] == "Bearer"
    assert not fleet.broker.asked


def test_a_fleet_without_a_token_takes_no_writes(fleet: Any) -> None:
    """An empty or missing token file does not open the door."""
    fleet.token.write_text("\n")
    problem(fleet.at(HELLO, Authorization="Bearer ").post("/tasks", json=TASK), 503, "unavailable")


@pytest.mark.parametrize(
    ("failure", "status", "after"),
    [
        (UnavailableError("the broker is down"), 503, "1"),
        (QueueFullError("full", 7), 429, "7"),
        (StorageFullError("disk full"), 507, "1"),
        (InvalidInputError("the key was used for another task"), 422, None),
    ],
)
def test_what_the_broker_refuses_has_its_status(fleet: Any, failure: Any, status: int, after: str | None) -> None:
    """Broker down, queue full, disk full and a reused key are told apart, with a time to try again."""
    fleet.broker.failure = failure
    response = fleet.at(HELLO).post("/tasks", json=TASK)
    problem(response, status, failure.code)
    assert response.headers.get("retry-after") == after


def test_a_task_of_another_agent_is_not_shown_on_this_port(fleet: Any) -> None:
    """An agent's port knows that agent's tasks only; the edge knows all."""
    fleet.at(HELLO).post("/tasks", json=TASK)
    problem(fleet.at(ADDER).get("/tasks/t_0"), 404, "not-found")
    assert fleet.at(EDGE).get("/tasks/t_0").json()["agent"] == "hello"
    assert fleet.at(EDGE).get("/agents/hello/tasks/t_0").status_code == 200
    problem(fleet.at(EDGE).get("/tasks/t_9"), 404, "not-found")
    problem(fleet.at(EDGE).get("/tasks/" + "x" * 300), 404, "not-found")


def test_cancelling_both_ways(fleet: Any) -> None:
    """DELETE and POST …/cancel do the same."""
    client = fleet.at(HELLO)
    for index, cancel in enumerate([client.delete, lambda path: client.post(f"{path}/cancel")]):
        client.post("/tasks", json=TASK)
        response = cancel(f"/tasks/t_{index}")
        assert (response.status_code, response.json()["status"]) == (200, "cancelled")


def test_answering_what_waits(fleet: Any) -> None:
    """Approve, deny and signal hand on who, why and what; a body may be left out; nonsense is refused."""
    client = fleet.at(EDGE)
    fleet.at(HELLO).post("/tasks", json=TASK)
    assert client.get("/waiting").json()["tasks"][0]["id"] == "t_0"
    said = {"by": "ada", "comment": "fine", "data": {"n": 1}}
    assert client.post("/tasks/t_0/approve", json=said, headers={"Idempotency-Key": "k"}).status_code == 200
    message = {"t": "resolve", "task": "t_0", "verdict": "approve", "key": "k", **said}
    assert fleet.broker.asked[-1] == message
    assert client.post("/tasks/t_0/deny").status_code == 200
    assert fleet.broker.asked[-1] == {
        "t": "resolve", "task": "t_0", "verdict": "deny", "by": "somebody over HTTP", "data": None,
    }  # fmt: skip
    assert client.post("/tasks/t_0/signal", json={"name": "paid"}).status_code == 200
    assert fleet.broker.asked[-1]["skill"] == "paid"
    problem(client.post("/tasks/t_0/approve", json={"name": "x"}), 422, "invalid-input")
    problem(client.post("/tasks/t_0/approve", json={"by": 1}), 422, "invalid-input")
    problem(client.post("/tasks/t_0/approve", content=b"[]"), 422, "invalid-input")
    fleet.broker.failure = RefusedError("it was approved by ada before: that stands")
    problem(client.post("/tasks/t_0/approve"), 409, "refused")


def test_listing_tasks(fleet: Any) -> None:
    """An agent's port lists its own tasks, the edge all; wrong selectors are refused."""
    fleet.at(HELLO).post("/tasks", json=TASK)
    fleet.at(ADDER).post("/tasks", json={"skill": "add"})
    assert len(fleet.at(EDGE).get("/tasks").json()["tasks"]) == 2
    assert [task["agent"] for task in fleet.at(ADDER).get("/tasks?limit=5").json()["tasks"]] == ["adder"]
    problem(fleet.at(EDGE).get("/tasks?status=happy"), 400, "bad-query")
    problem(fleet.at(EDGE).get("/tasks?limit=0"), 400, "bad-query")


def test_events_are_streamed_and_resumed(fleet: Any) -> None:
    """Each event has an id; a client that comes again with Last-Event-ID gets only what it has not seen."""
    fleet.at(HELLO).post("/tasks", json=TASK)
    kinds = ["queued", "leased", "progress", "succeeded"]
    fleet.broker.events = [
        {"task": "t_0", "seq": number, "kind": kind, "at_wall_ms": 1, "data": {}}
        for number, kind in enumerate(kinds, start=1)
    ]
    client = fleet.at(HELLO)
    whole = client.get("/tasks/t_0/events")
    assert whole.headers["content-type"].startswith("text/event-stream")
    assert [line for line in whole.text.splitlines() if line.startswith("event:")] == [f"event: {k}" for k in kinds]
    rest = client.get("/tasks/t_0/events", headers={"Last-Event-ID": "3"}).text
    assert "id: 4\nevent: succeeded" in rest
    assert "id: 3" not in rest
    assert fleet.broker.closed == 2
    problem(client.get("/tasks/t_7/events"), 404, "not-found")


@pytest.mark.parametrize(
    ("method", "path", "status"), [("PUT", "/tasks", 405), ("POST", "/health", 405), ("GET", "/no", 404)]
)
def test_wrong_method_and_wrong_path_are_problems_too(fleet: Any, method: str, path: str, status: int) -> None:
    """Also what no route takes is answered in the one form."""
    code = "method-not-allowed" if status == 405 else "not-found"
    problem(fleet.at(HELLO).request(method, path), status, code)


def test_a_bug_is_answered_without_its_inside(fleet: Any) -> None:
    """An unexpected failure is a 500 that tells nothing of the inside."""
    fleet.broker.failure = RuntimeError("secret inside")  # type: ignore[assignment]
    body = problem(fleet.at(HELLO).post("/tasks", json=TASK), 500, "internal")
    assert "secret" not in body["detail"]


def test_a_dead_letter_is_replayed_once(fleet: Any) -> None:
    """202 with the new task, then 200; what is not dead is 409; another agent's port does not see it."""
    hello = fleet.at(HELLO)
    name = hello.post("/tasks", json={"skill": "greet", "input": {"name": "Ada"}}).json()["id"]
    refused = hello.post(f"/tasks/{name}/replay")
    assert (refused.status_code, refused.json()["detail"]) == (409, f"{name} is not dead")
    fleet.broker.tasks[name]["status"] = "dead"
    assert [task["id"] for task in fleet.at(EDGE).get("/tasks/dead-letters?handled=true").json()["tasks"]] == [name]
    assert fleet.broker.asked[-1] == {"t": "dead", "agent": None, "handled": True, "limit": 50}
    first, again = hello.post(f"/tasks/{name}/replay"), fleet.at(EDGE).post(f"/tasks/{name}/replay")
    assert (first.status_code, first.headers["location"], again.status_code) == (202, "/tasks/t_new", 200)
    assert fleet.at(ADDER).post(f"/tasks/{name}/replay").status_code == 404
    assert hello.get("/tasks/dead-letters?handled=maybe").status_code == 400


def test_a_window_goes_with_its_key(fleet: Any) -> None:
    """Seconds become milliseconds; without the header the body does not fit."""
    body = {"skill": "greet", "input": {"name": "Ada"}, "idempotency_window_s": 1.5}
    answer = fleet.at(HELLO).post("/tasks", json=body)
    assert (answer.status_code, answer.json()["errors"][0]["pointer"]) == (422, "#/idempotency_window_s")
    assert fleet.at(HELLO, **{"Idempotency-Key": "k"}).post("/tasks", json=body).status_code == 202
    assert fleet.broker.asked[-1]["tasks"][0]["idempotency_window_ms"] == 1_500


def test_a_result_alone(fleet: Any) -> None:
    """As JSON with its digest; who has it gets 304; a task that has none says why."""
    client = fleet.at(HELLO)
    name = client.post("/tasks", json=TASK).json()["id"]
    assert "is queued: wait for it" in problem(client.get(f"/tasks/{name}/result"), 409, "no-result")["detail"]
    fleet.broker.tasks[name] |= {"status": "succeeded", "result": {"a": 1}, "result_ref": None}
    found = client.get(f"/tasks/{name}/result")
    assert (found.status_code, found.json(), found.headers["content-type"]) == (200, {"a": 1}, "application/json")
    digest = f'"sha256:{hashlib.sha256(found.content).hexdigest()}"'
    assert found.headers["etag"] == digest
    again = client.get(f"/tasks/{name}/result", headers={"If-None-Match": digest})
    assert (again.status_code, again.content) == (304, b"")
    fleet.broker.tasks[name]["status"] = "failed"
    assert "has no result" in problem(client.get(f"/tasks/{name}/result"), 409, "no-result")["detail"]
    problem(client.get("/tasks/t_9/result"), 404, "not-found")


def test_a_large_result_comes_out_of_its_file(fleet: Any) -> None:
    """With its length and digest; the task says where to get it; a file that is gone or no file of ours is 404."""
    client = fleet.at(HELLO)
    name = client.post("/tasks", json=TASK).json()["id"]
    data = b'"' + b"x" * 600_000 + b'"'
    file, digest = f"{'a' * 64}-{'b' * 16}", f"sha256:{hashlib.sha256(data).hexdigest()}"
    fleet.payloads.mkdir()
    (fleet.payloads / file).write_bytes(data)

    def stored(**changed: Any) -> None:
        reference = {"file": file, "bytes": len(data), "digest": digest, "media": "application/json", **changed}
        fleet.broker.tasks[name] |= {"status": "succeeded", "result": None, "result_ref": reference}

    stored()
    assert client.get(f"/tasks/{name}").json()["result_ref"]["href"] == f"/tasks/{name}/result"
    found = client.get(f"/tasks/{name}/result")
    assert found.content == data
    assert (found.headers["content-length"], found.headers["etag"]) == (str(len(data)), f'"{digest}"')
    head = client.head(f"/tasks/{name}/result")
    assert (head.headers["content-length"], head.content) == (str(len(data)), b"")
    assert client.get(f"/tasks/{name}/result", headers={"If-None-Match": f'"{digest}"'}).status_code == 304
    (fleet.payloads / f"{'c' * 64}-{'d' * 16}").symlink_to(fleet.token)
    for wrong in (
        {"file": "../token"},
        {"bytes": 5},
        {"file": f"{'c' * 64}-{'d' * 16}"},
        {"file": f"{'e' * 64}-{'f' * 16}"},
    ):
        stored(**wrong)
        problem(client.get(f"/tasks/{name}/result"), 404, "not-found")
