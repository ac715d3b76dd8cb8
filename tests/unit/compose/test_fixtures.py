"""Whole Compose files of the kind that people run around a language model, with all their awkward parts."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from sutazai import plan

if TYPE_CHECKING:
    from collections.abc import Callable

    from sutazai import spec
    from sutazai.compose import Imported, Report

BLUEPRINT_HOST = plan.parse_host("12c,29.38GB")


def becomes(report: Report) -> dict[str, tuple[str, str]]:
    """Service → what it becomes, and its name."""
    return {row.service: (row.becomes, row.name) for row in report.services}


def ports(report: Report) -> dict[tuple[str, int], tuple[int, int]]:
    """Service and port in the container → old and new."""
    return {(row.service, row.inside): (row.old, row.new) for row in report.ports}


@pytest.mark.parametrize("name", ["chat", "flows", "research", "watch", "small"])
def test_each_is_a_valid_fleet_that_fits_the_blueprints_host(
    name: str, fixture: Callable[..., Imported], loaded: Callable[[], spec.Manifest]
) -> None:
    """The manifest loads without a mistake, the plan fits, and the same files give the same text."""
    first = fixture(name, "*") if name in {"chat", "flows"} else fixture(name)
    result = plan.make(loaded(), BLUEPRINT_HOST)
    assert result.fits, result.findings
    assert "/tmp" not in first.text  # noqa: S108 the folder of this test: paths are relative


def test_the_same_file_gives_the_same_manifest(fixture: Callable[..., Imported]) -> None:
    """Nothing of the machine or of the order of a run is in the text."""
    import shutil
    from pathlib import Path

    first = fixture("research")
    shutil.rmtree(Path.cwd())
    assert fixture("research").text == first.text


def test_chat(fixture: Callable[..., Imported], loaded: Callable[[], spec.Manifest]) -> None:
    """A page over Ollama: the model server stands for Ollama and its helper, the page is planned, the pipeline runs."""
    report = fixture("chat").report
    assert becomes(report) == {
        "ollama": ("llm", "llm"),
        "fetch-models": ("llm", "llm"),
        "open-webui": ("planned", "open-webui"),
        "pipelines": ("service", "pipelines"),
        "ollama-gpu": ("left out", ""),
    }
    manifest = loaded()
    assert manifest.fleet == "fireside"
    assert manifest.llm is not None
    assert manifest.llm.memory_bytes == 6 * 1024**3
    assert manifest.llm.cpu_cores == 4
    service = manifest.services["pipelines"]
    assert service.argv[1:] == ("-m", "uvicorn", "app.main:app", "--host", "127.0.0.1", "--port", "{port}")
    assert service.argv[0] == ".venv/bin/python"
    assert service.ports[0].number == 9099
    assert service.after == ("llm",)
    assert service.env == {
        "LOG_LEVEL": "info",
        "PYTHONPATH": "{folder}/pipelines",
        "MODEL_URL": "http://127.0.0.1:{port_of.llm}/v1",
        "PAGE_URL": "http://127.0.0.1:{port_of.open-webui}",
        "TEMPLATE": '{{"role": "${{role}}"}}',
    }
    assert report.prepare == [
        ("pipelines", "cd pipelines && python3 -m venv .venv && .venv/bin/pip install -r requirements.txt")
    ]
    told = " ".join(note.text for note in report.notes)
    for word in ("ffmpeg", "without one", "labels are read", "rotated at 5 MB", "model server's settings"):
        assert word in told, word


def test_flows(fixture: Callable[..., Imported], loaded: Callable[[], spec.Manifest]) -> None:
    """Anchors, merge keys and profiles: the profile chosen runs, its vector store keeps both ports, data is planned."""
    report = fixture("flows", "cpu").report
    assert becomes(report) == {
        "tables": ("planned", "postgres"),
        "load-flows": ("planned", "load-flows"),
        "n8n": ("planned", "n8n"),
        "qdrant": ("planned", "qdrant"),
        "ollama-cpu": ("llm", "llm"),
        "pull-cpu": ("llm", "llm"),
        "indexer": ("service", "indexer"),
        "ollama-gpu": ("left out", ""),
    }
    assert ports(report) == {
        ("postgres", 5432): (0, 10000),
        ("n8n", 5678): (5678, 5678),
        ("qdrant", 6333): (6333, 6333),
        ("qdrant", 6334): (6334, 6334),
        ("llm", 11434): (11434, 10104),
    }
    service = loaded().services["indexer"]
    assert service.argv[-4:] == (
        "--store",
        "http://127.0.0.1:{port_of.qdrant}",
        "--model",
        "http://127.0.0.1:{port_of.llm}",
    )
    assert service.cwd.endswith("/flows/indexer")
    assert service.after == ("llm",)
    assert any("local.env is missing and not required" in note.text for note in report.notes)
    assert any("starts without qdrant" in note.text for note in report.notes)


def test_research(fixture: Callable[..., Imported], loaded: Callable[[], spec.Manifest]) -> None:
    """Agents from Dockerfiles: extends, clashing ports, missing limits, hosts and ports in pairs of variables."""
    report = fixture("research").report
    assert ports(report)["my-gateway", 8000] == (8080, 8080)
    assert ports(report)["search", 8000] == (8080, 10600)
    assert ports(report)["writer-agent", 9000] == (40000, 10601)
    reasons = {row.service: row.reason for row in report.ports}
    assert reasons["search"] == "8080 is taken by my-gateway"
    assert "outgoing connections" in reasons["writer-agent"]
    assert "the fleet's own" in next(row.reason for row in report.ports if row.old == 10400)
    services = loaded().services
    assert set(services) >= {"my-gateway", "search", "writer-agent", "migrate"}
    gateway, search, writer = services["my-gateway"], services["search"], services["writer-agent"]
    assert gateway.after == ("search", "writer-agent", "migrate")
    assert gateway.argv[:2] == ("/bin/sh", "-c")
    assert gateway.argv[2].endswith("uvicorn gateway.app:app --host 127.0.0.1 --port ${{PORT}}")
    assert gateway.env["SEARCH_URL"] == "http://127.0.0.1:{port_of.search}/find"
    assert gateway.env["LOG_LEVEL"] == "debug"
    assert gateway.stop_grace_ms == 90_000
    assert gateway.log_bytes_max == 10 * 1024**2
    assert (gateway.probe.kind, gateway.probe.path, gateway.probe.fail_after) == ("http", "/health", 4)
    assert search.argv[-2:] == ("-b", "127.0.0.1:{port}")
    assert search.env["CHROMA_HOST"] == "127.0.0.1"
    assert search.env["CHROMA_PORT"] == "{port_of.chromadb}"
    assert search.env["CACHE"] == "redis://:pass@127.0.0.1:{port_of.redis}/0"
    assert search.cpu.weight == 50
    assert loaded().cpu_sets["set-1"].members == ("search",)
    assert writer.argv == ("{python}", "-m", "writer.serve", "--port", "{port}", "--data", "{state}")
    assert (writer.memory_bytes, writer.pids_max, writer.cpu.quota_cores) == (300 * 1024**2, 40, 0.5)
    assert services["migrate"].ready.kind == "exit"
    proposed = {row.service for row in report.limits if row.proposed}
    assert proposed == {"my-gateway", "search", "migrate", "llm", "chromadb", "redis", "langflow", "sidecar"}
    told = " ".join(note.text for note in report.notes)
    for word in (
        "udp port 9053",
        "3 replicas",
        "sidecar_mode",
        "no container engine here",
        "others ask it on port 8000",
    ):
        assert word in told, word


def test_watch(fixture: Callable[..., Imported], loaded: Callable[[], spec.Manifest]) -> None:
    """A monitoring stack: an exporter runs where its own code listens; the rest is named as planned."""
    report = fixture("watch").report
    assert becomes(report)["exporter"] == ("service", "exporter")
    assert becomes(report)["cadvisor"][0] == "planned"
    exporter = loaded().services["exporter"]
    assert exporter.ports[0].number == 9105
    planned = loaded().services["prometheus"]
    assert planned.planned
    assert planned.ports[0].number == 9090
    assert (exporter.probe.kind, exporter.probe.path, exporter.probe.interval_ms) == ("http", "/metrics", 20_000)
    told = [note.text for note in report.notes]
    assert any("keeps 9105" in text for text in told)
    assert any("obsolete" in text for text in told)
    limits = {row.service: (row.memory_bytes // 1024**2, row.proposed, row.runs) for row in report.limits}
    assert limits["prometheus"] == (1024, False, False)
    assert limits["exporter"] == (256, True, True)
    assert report.memory_bytes == 256 * 1024**2
