"""Why it exists: agents keep what is costly to make anew where the broker keeps it for them: in a file, or in Valkey.

A driver may lose everything at any time; it never gives a value that was not set, has expired, or is another agent's.
``testing.cache_contract.CacheContract`` is what each driver must pass.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from sutazai.bus.cache.file import FileCache
from sutazai.bus.cache.server import ServerCache

if TYPE_CHECKING:
    from sutazai.bus.cache.protocol import CacheDriver

DRIVERS: tuple[type[CacheDriver], ...] = (FileCache, ServerCache)

__all__ = ["DRIVERS", "FileCache", "ServerCache"]
