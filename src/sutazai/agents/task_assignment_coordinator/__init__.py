"""Why it exists: many agents can do a bit of everything; who should get a task depends on skill, load and record."""
