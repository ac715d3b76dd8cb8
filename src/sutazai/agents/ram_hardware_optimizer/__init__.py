"""Why it exists: memory is what kills fleets; this agent says who holds it, who grows, and when that ends."""
