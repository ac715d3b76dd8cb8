"""Run a whole fleet of AI agents, and every service they need, on one CPU-only machine that never falls over."""

from __future__ import annotations

__version__ = "0.1.0"
