"""Why it exists: a machine that is busy makes no test fail: properties have no deadline for an example."""

from __future__ import annotations

from hypothesis import settings

settings.register_profile("patient", deadline=None)
settings.load_profile("patient")
