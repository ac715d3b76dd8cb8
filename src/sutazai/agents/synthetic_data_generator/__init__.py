"""Why it exists: tests and demonstrations need data that looks real and belongs to nobody; this agent makes it."""
