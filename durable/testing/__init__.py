"""What tests of workflows need; nothing of it is loaded by ``import durable``."""

from durable.testing.crashing import Broken, Crashes, crash_everywhere
from durable.testing.environment import Environment, Recorded
from durable.testing.freezing import freeze, replay_frozen
from durable.testing.mocks import Mock
from durable.testing.replayer import replay
from durable.testing.stuck import Stuck
from durable.testing.time_travel import TimeTravel

__all__ = [
    "Broken",
    "Crashes",
    "Environment",
    "Mock",
    "Recorded",
    "Stuck",
    "TimeTravel",
    "crash_everywhere",
    "freeze",
    "replay",
    "replay_frozen",
]
