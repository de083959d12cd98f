"""What tests of workflows need; nothing of it is loaded by ``import durable``.

Each name is loaded when it is first asked for: the pytest plugin is in this package, and what is installed beside a
project's tests must cost those nothing that do not use it.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
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

_MODULES = {
    "Broken": "crashing",
    "Crashes": "crashing",
    "Environment": "environment",
    "Mock": "mocks",
    "Recorded": "environment",
    "Stuck": "stuck",
    "TimeTravel": "time_travel",
    "crash_everywhere": "crashing",
    "freeze": "freezing",
    "replay": "replayer",
    "replay_frozen": "freezing",
}


def __getattr__(name: str) -> Any:
    if name not in _MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    found = getattr(import_module(f"{__name__}.{_MODULES[name]}"), name)
    globals()[name] = found
    return found


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
