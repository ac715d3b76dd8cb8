"""Why it exists: the public test kit: doubles and contract suites for those who test against this product.

Nothing that ships imports it. ``ManualClock`` is time that a test turns; ``store_contract`` is the suite that every
store driver must pass.
"""

from __future__ import annotations

from sutazai.testing.manual_clock import ManualClock

__all__ = ["ManualClock"]
