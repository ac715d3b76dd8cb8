"""Why it exists: a person has a goal, not a list of skills; this agent finds the skills, delegates, and reports."""
