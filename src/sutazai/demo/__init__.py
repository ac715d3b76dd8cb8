"""Why it exists: the demonstration needs a program that is really broken, so that what the agents find is really there.

Nothing in here is imported by the product; ``leaky_shop`` runs as a service of the demonstration's fleet.
"""
