"""Why it exists: the store decides which task is next, a dispatcher only says when to look; that part can be exchanged.

``match`` brings credits, counts and looks together, the same for every driver. A driver says where to look: ``inproc``
everywhere at the end of each group, ``rabbitmq`` where a message said so (``docs/explanation/dispatch.md``).
"""

from __future__ import annotations

from sutazai.bus.dispatch.inproc import Inproc
from sutazai.bus.dispatch.rabbitmq import RabbitMQ

#: All drivers, by what ``--dispatch`` calls them.
DRIVERS = (Inproc, RabbitMQ)

__all__ = ["DRIVERS", "Inproc", "RabbitMQ"]
