"""Why it exists: a real server (PostgreSQL …) is started inside its limits, from its own folder, by one command.

A recipe writes the server's settings and secrets into a state folder, then becomes the server (``exec``): the process
that ``sutazaid`` started, limits and stops is the server itself. Run: ``python -m sutazai.services NAME --state DIR``.
Standard library only, and nothing of the fleet but its words.
"""
