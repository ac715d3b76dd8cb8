"""Why it exists: limits are guessed once and never looked at again; this agent measures what they should have been."""
