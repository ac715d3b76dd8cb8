"""Why it exists: finds dangerous code by its form and by where its data comes from, offline, with rules of its own."""
