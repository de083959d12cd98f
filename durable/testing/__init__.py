"""What tests of workflows need; nothing of it is loaded by ``import durable``."""

from durable.testing.replayer import replay

__all__ = ["replay"]
