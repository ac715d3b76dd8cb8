"""Why it exists: the model server as a process: ``python -m sutazai.llm [--port N]``.

The model is loaded before the first request is taken; then ``sutazaid`` is told that it is ready. Exit status 1 when
the model cannot be run here, with the reason and the repair on standard error.
"""

from __future__ import annotations

import argparse
import os
import sys
from typing import TYPE_CHECKING

from prometheus_client import disable_created_metrics

from sutazai.errors import SutazaiError
from sutazai.llm.drivers import make
from sutazai.llm.embedder import Embedder
from sutazai.llm.models import DEFAULT_EMBED_MODEL
from sutazai.llm.sentences import Sentences
from sutazai.llm.server import LlmServer
from sutazai.llm.settings import Settings
from sutazai.wire.notify import Notifier
from sutazai.wire.serving import inherited, listen, serve

if TYPE_CHECKING:
    from sutazai.llm.drivers.protocol import Loaded


def main(arguments: list[str] | None = None) -> int:
    """Load, serve, end."""
    parser = argparse.ArgumentParser(prog="python -m sutazai.llm", description="Serve one language model.")
    parser.add_argument("--port", type=int, default=-1, help="open this port instead of an inherited one; 0 takes any")
    options = parser.parse_args(arguments)
    disable_created_metrics()  # type: ignore[no-untyped-call] # each counter's time of birth doubles the page and nobody reads it
    try:
        settings = Settings.from_env()
        sockets = [listen(options.port)] if options.port >= 0 else inherited().get("llm", [])
        if not sockets:
            sys.stderr.write("llm: no socket: start it with --port, or by sutazaid\n")
            return 2
        driver = make(settings)
        loaded = driver.load()
    except SutazaiError as error:
        sys.stderr.write(f"llm: {error}\n")
        return 1
    where = ", ".join(f"127.0.0.1:{socket.getsockname()[1]}" for socket in sockets)
    sys.stdout.write(f"llm: {loaded.name} on {where}, {settings.slots} slots of {loaded.context_tokens} tokens\n")
    sys.stdout.flush()
    notifier = Notifier("llm")
    serve(LlmServer(driver, loaded, settings, _embedder(settings, loaded)).app(), sockets, notifier.ready)
    notifier.close()
    return 0


def _embedder(settings: Settings, loaded: Loaded) -> Embedder:
    """The embedding model, for the memory that the chat model leaves; it loads when somebody asks."""
    room_bytes = settings.memory_bytes - loaded.need_bytes if settings.memory_bytes else None
    return Embedder(Sentences(DEFAULT_EMBED_MODEL, settings.threads), room_bytes)


if __name__ == "__main__":
    status = main()
    sys.stdout.flush()
    os._exit(status)  # a thread that is still inside the library must not hold the end up
