"""Why it exists: the agents that come with the product, one folder each.

A folder holds ``manifest.toml`` (what it is and what it may use), ``agent.py`` (its skills, thin), modules of pure
analysis, ``models.py`` (what its skills return) and ``checks.toml`` (golden tasks for ``sutazai smoke``). Folders
share nothing but the runtime: each can be copied out of the tree and still works.

The convention that joins them is ``sutazai.runtime.evidence``: an agent states a fact as a ``Finding``, a sentence with
named places, and every number in it is a ``Measure`` with unit and source. ``docs/reference/agents.md`` describes it.
"""
