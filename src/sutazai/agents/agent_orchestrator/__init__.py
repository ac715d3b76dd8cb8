"""Why it exists: runs workflows; each step is a durable task, and each move of the engine is one committed turn."""
