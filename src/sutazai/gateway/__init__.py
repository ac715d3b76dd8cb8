"""Why it exists: one process answers HTTP for all agents and workers, so that a sleeping agent needs no process for it.

It checks what comes in, hands durable work to the broker and tells facts that others know. It keeps nothing itself:
killing it loses no task. It never imports what runs the fleet (control, supervisor, governor, runtime, agents).
"""
