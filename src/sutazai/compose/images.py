"""Why it exists: a few dozen images make up most Compose files around a language model, and we know what each one is.

One table says what stands for an image in a fleet, how much memory it is proposed where the file says nothing, which
port it listens on and how its program is started where it is installed. All else is unknown, and said to be.
"""

from __future__ import annotations

from dataclasses import dataclass

LLM = "llm"
#: Images that hold a language or an operating system and no program: what runs is what the file says.
BASES = (
    "python", "pypy", "node", "golang", "debian", "ubuntu", "alpine", "busybox", "ruby", "php", "rust",
    "eclipse-temurin", "openjdk", "amazoncorretto", "bun", "deno", "uv", "miniconda3", "micromamba", "fedora",
    "rockylinux", "bash", "slim", "cuda", "pytorch", "tensorflow", "devcontainers", "base", "scratch", "distroless",
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Known:
    """An image that we know.

    Attributes:
        name: in the blueprint; empty when it is not there.
        memory_mb: proposed limit.
        pool: memory pool.
        ports: port in the container → the blueprint's port, 0 for none; the first is the main one.
        program: what starts it where it is installed, empty when we do not know for sure.
        why: why it is not run, empty for the usual reason.
    """

    name: str
    memory_mb: int
    pool: str
    ports: dict[int, int]
    program: str = ""
    why: str = ""


_POSTGRES = Known("postgres", 2048, "infrastructure", {5432: 10000})
_REDIS = Known(
    "redis", 1024, "infrastructure", {6379: 10001}, "redis-server --bind 127.0.0.1 --port {port} --dir {state}"
)
_CHROMA = Known(
    "chromadb", 2048, "infrastructure", {8000: 10100}, "chroma run --host 127.0.0.1 --port {port} --path {state}"
)
_NO_CONTAINERS = "it watches containers, and there are none"
#: Repository without registry and tag → what it is.
KNOWN = {
    "ollama/ollama": Known(LLM, 1024, "infrastructure", {11434: 10104}),
    "postgres": _POSTGRES,
    "bitnami/postgresql": _POSTGRES,
    "pgvector/pgvector": _POSTGRES,
    "ankane/pgvector": _POSTGRES,
    "supabase/postgres": _POSTGRES,
    "timescale/timescaledb": _POSTGRES,
    "redis": _REDIS,
    "bitnami/redis": _REDIS,
    "redis/redis-stack": _REDIS,
    "redis/redis-stack-server": _REDIS,
    "valkey/valkey": _REDIS,
    "neo4j": Known("neo4j", 4096, "infrastructure", {7474: 10002, 7687: 10003}),
    "chromadb/chroma": _CHROMA,
    "chroma-core/chroma": _CHROMA,
    "qdrant/qdrant": Known("qdrant", 2048, "infrastructure", {6333: 10101, 6334: 10102}),
    "rabbitmq": Known("rabbitmq", 512, "infrastructure", {5672: 10007, 15672: 10008}),
    "kong": Known("kong", 512, "infrastructure", {8000: 0}),
    "consul": Known("consul", 256, "infrastructure", {8500: 10006}),
    "hashicorp/consul": Known("consul", 256, "infrastructure", {8500: 10006}),
    "prom/prometheus": Known("prometheus", 1024, "monitoring", {9090: 10200}),
    "grafana/grafana": Known("grafana", 512, "monitoring", {3000: 10201}),
    "grafana/grafana-oss": Known("grafana", 512, "monitoring", {3000: 10201}),
    "grafana/loki": Known("loki", 512, "monitoring", {3100: 10202}),
    "grafana/promtail": Known("", 128, "monitoring", {9080: 0}),
    "prom/alertmanager": Known("alertmanager", 128, "monitoring", {9093: 10203}),
    "prom/node-exporter": Known("node-exporter", 64, "monitoring", {9100: 0}),
    "jaegertracing/all-in-one": Known("jaeger", 512, "monitoring", {16686: 0}),
    "cadvisor/cadvisor": Known("", 256, "monitoring", {8080: 0}, why=_NO_CONTAINERS),
    "google/cadvisor": Known("", 256, "monitoring", {8080: 0}, why=_NO_CONTAINERS),
    "portainer/portainer-ce": Known("", 128, "monitoring", {9000: 0}, why=_NO_CONTAINERS),
    "containrrr/watchtower": Known("", 64, "monitoring", {}, why=_NO_CONTAINERS),
    "n8nio/n8n": Known("n8n", 1024, "standard", {5678: 0}, "n8n start"),
    "flowiseai/flowise": Known("flowise", 1024, "standard", {3000: 0}),
    "langflowai/langflow": Known(
        "langflow", 2048, "standard", {7860: 0}, "langflow run --host 127.0.0.1 --port {port}"
    ),
    "letta/letta": Known("letta", 1024, "standard", {8283: 0}),
    "langgenius/dify-api": Known("dify", 2048, "standard", {5001: 0}),
    "skyvern/skyvern": Known("skyvern", 2048, "standard", {8000: 0}),
    "all-hands-ai/openhands": Known("openhands", 2048, "standard", {3000: 0}, why="it starts containers of its own"),
    "tabbyml/tabby": Known("tabby", 2048, "standard", {8080: 0}),
    "vault": Known("vault", 256, "infrastructure", {8200: 0}),
    "hashicorp/vault": Known("vault", 256, "infrastructure", {8200: 0}),
    "open-webui/open-webui": Known("", 2048, "standard", {8080: 0}, "open-webui serve --host 127.0.0.1 --port {port}"),
    "semitechnologies/weaviate": Known("", 2048, "infrastructure", {8080: 0}),
    "milvusdb/milvus": Known("", 4096, "infrastructure", {19530: 0}),
    "minio/minio": Known("", 512, "infrastructure", {9000: 0, 9001: 0}),
    "mysql": Known("", 1024, "infrastructure", {3306: 0}),
    "mariadb": Known("", 1024, "infrastructure", {3306: 0}),
    "mongo": Known("", 1024, "infrastructure", {27017: 0}),
    "nginx": Known("", 128, "infrastructure", {80: 0}),
    "caddy": Known("", 128, "infrastructure", {80: 0}),
    "traefik": Known("", 128, "infrastructure", {80: 0}, why=_NO_CONTAINERS),
    "searxng/searxng": Known("", 256, "standard", {8080: 0}),
    "dpage/pgadmin4": Known("", 512, "standard", {80: 0}),
    "adminer": Known("", 128, "standard", {8080: 0}),
}


def repository(image: str) -> str:
    """Strip registry, tag and digest: ``docker.io/library/redis:7`` is ``redis``."""
    name = image.partition("@")[0]
    head, slash, tail = name.rpartition("/")
    name = f"{head}{slash}{tail.partition(':')[0]}"
    first, slash, rest = name.partition("/")
    if slash and ("." in first or ":" in first or first == "localhost"):
        name = rest
    return name.removeprefix("library/").lower()


def known(image: str) -> Known | None:
    """Look an image up; a mirror's prefix and the vendor's other repositories count too."""
    name = repository(image)
    if name in KNOWN:
        return KNOWN[name]
    tail = "/".join(name.split("/")[-2:])
    return KNOWN.get(tail)


def is_base(image: str) -> bool:
    """Tell whether an image holds a language or an operating system, so that the file says what runs."""
    words = repository(image).split("/")
    return any(base in {words[-1], words[-1].partition("-")[0], words[0]} for base in BASES)
