"""Why it exists: processes of a fleet, also of other languages, talk over unix sockets in one small protocol.

Frames carry JSON messages and raw bytes (``frames``), one table names every message (``messages``), blocking code uses
``transport``, asyncio code uses ``aio``. ``planfacts`` is the plan file as those see it who may not import
``supervisor``. The protocol for implementers is ``docs/reference/protocol.md``.
"""
