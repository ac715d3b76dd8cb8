"""Why it exists: the process that everything else depends on must depend on nothing.

``sutazaid`` starts, watches, limits and ends every process of a fleet. It is standard library only, opens no
database, and reads one compiled plan file, so that it brings the fleet back when the disk is full, the database is
locked or the rest of the installation is broken.
"""
