"""An agent that is only planned answers on its port, and nobody can take it for one that works."""

from __future__ import annotations

from typing import Any

import pytest

EDGE, LATER = 10005, 10302
KEYS = {"status", "agent", "version", "uptime", "memory_usage", "cpu_usage"}


def test_health_is_honest(fleet: Any) -> None:
    """The blueprint's six keys with status ``planned``; 501, so that a checker that only reads codes is right, too."""
    response = fleet.at(LATER).get("/health")
    assert response.status_code == 501
    assert set(response.json()) == KEYS
    assert response.json()["status"] == "planned"
    assert response.headers["x-sutazai-state"] == "planned"
    assert fleet.at(EDGE).get("/agents/later/health").json()["status"] == "planned"


@pytest.mark.parametrize("path", ["/", "/skills", "/metrics"])
def test_pages_say_that_it_is_planned(fleet: Any, path: str) -> None:
    """501 as problem+json with what it will do; not 404, which would say that the name is wrong."""
    response = fleet.at(LATER).get(path)
    assert response.status_code == 501
    assert response.headers["content-type"] == "application/problem+json"
    problem = response.json()
    assert (problem["code"], problem["agent"], problem["state"]) == ("planned", "later", "planned")
    assert "later is planned and not built in this version: Does it one day." in problem["detail"]


def test_it_takes_no_task(fleet: Any) -> None:
    """Work for it is refused before the broker is asked."""
    response = fleet.at(LATER).post("/tasks", json={"skill": "x", "input": {}})
    assert response.status_code == 501
    assert fleet.at(EDGE).post("/agents/later/tasks", json={"skill": "x", "input": {}}).status_code == 501
    assert not fleet.broker.asked


def test_the_list_of_agents_tells_them_apart(fleet: Any) -> None:
    """Agents that exist stand in ``agents``, planned ones in ``planned``; services in neither."""
    body = fleet.at(EDGE).get("/agents").json()
    assert [agent["name"] for agent in body["agents"]] == ["hello", "adder"]
    assert body["planned"] == [{"name": "later", "port": LATER, "description": "Does it one day."}]


def test_an_unknown_name_is_still_unknown(fleet: Any) -> None:
    """A planned service is no agent, and a wrong name stays 404."""
    assert fleet.at(EDGE).get("/agents/postgres/health").status_code == 404
    assert fleet.at(EDGE).get("/agents/nobody").status_code == 404
