"""Why it exists: one language model server for the whole fleet, so that its memory and its cores are paid for once.

``models`` says which files there are and where they come from, ``fetch`` brings them onto the disk, ``drivers`` run
them, ``server`` speaks the OpenAI form on the fleet's port. Nothing here knows agents, tasks or the governor.
"""
