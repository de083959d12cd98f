"""What tests of workflows need; nothing of it is loaded by ``import durable``."""

from durable.testing.environment import Environment, Recorded
from durable.testing.freezing import freeze, replay_frozen
from durable.testing.mocks import Mock
from durable.testing.replayer import replay
from durable.testing.stuck import Stuck

__all__ = ["Environment", "Mock", "Recorded", "Stuck", "freeze", "replay", "replay_frozen"]
