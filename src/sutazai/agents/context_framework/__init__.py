"""Why it exists: a small model has a small context; what goes into it decides the answer, so it is chosen."""
