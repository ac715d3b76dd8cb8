"""Why it exists: facts about the running fleet are gathered in one place, kept for two hours, and given with sources.

``python -m sutazai.control`` samples ``sutazaid`` and the broker once a second into a metric ring and an event log, and
answers ``GET`` requests (``docs/reference/control-api.md``). It may die at any time: no work depends on it.

``control.compile`` is another program: it turns a manifest into the plan file before a fleet starts.
"""
