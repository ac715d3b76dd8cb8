"""Why it exists: a crew of roles works through tasks; facts come from skills, the model gives them words."""
