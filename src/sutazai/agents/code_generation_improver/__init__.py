"""Why it exists: improves code and proves it: tests stay green, a measured number gets better, nothing else changes."""
