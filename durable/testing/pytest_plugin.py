"""The pytest plugin: the fixture `durable_env`, and a thorough replay of every run of a test that has it.

It does nothing for tests that use neither the fixture nor the marker ``durable``. Needs pytest-asyncio, or anyio's own
plugin.
"""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator, Generator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from durable.testing.environment import Environment
    from durable.testing.other_process import OtherProcesses

_async_fixture: Any
try:
    import pytest_asyncio
except ImportError:
    _async_fixture = pytest.fixture  # anyio's plugin takes plain ones
else:
    _async_fixture = pytest_asyncio.fixture

MARKER = "durable"
_HELP = (
    "durable(*definitions, replay=True, **options): the environments of this test are replayed when it has passed: "
    "from scratch, after an eviction at every await, and under other hash seeds. Definitions and options are those "
    "of durable.testing.Environment, for the fixture durable_env"
)
_opened = pytest.StashKey[list[Any]]()
_others = pytest.StashKey[Any]()


def pytest_addoption(parser: pytest.Parser) -> None:
    """``--durable-freeze``."""
    group = parser.getgroup("durable")
    group.addoption(
        "--durable-freeze",
        metavar="DIR",
        default=None,
        help="write the history of every run of the environments of tests to DIR, to be replayed for ever",
    )


def pytest_configure(config: pytest.Config) -> None:
    """The marker, which ``--strict-markers`` wants to know."""
    config.addinivalue_line("markers", _HELP)


def pytest_unconfigure(config: pytest.Config) -> None:
    """The other processes end with the session."""
    others: OtherProcesses | None = config.stash.get(_others, None)
    if others is not None:
        others.close()


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> None:
    """What could not be checked is said, not passed over."""
    others: OtherProcesses | None = config.stash.get(_others, None)
    if others is not None and others.missing:
        terminalreporter.section("durable: not replayed under other hash seeds")
        for place, reason in sorted(others.missing.items()):
            terminalreporter.line(f"{place}: {reason}")


@pytest.hookimpl(wrapper=True)
def pytest_runtest_protocol(item: pytest.Item) -> Generator[None, object, object]:
    """From before the fixture is set up, note which environments the test opens."""
    if not _is_ours(item):
        return (yield)
    from durable.testing.environment import environments_of_a_test

    with environments_of_a_test() as opened:
        item.stash[_opened] = opened
        return (yield)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_call(item: pytest.Item) -> Generator[None, object, object]:
    """Within the call, so that a test whose runs cannot be replayed has failed, and not only its teardown."""
    result = yield
    for environment in item.stash.get(_opened, []):
        _judge(item, environment)
    return result


@_async_fixture  # type: ignore[untyped-decorator]  # of the one plugin or of the other
async def durable_env(request: pytest.FixtureRequest) -> AsyncIterator[Environment]:
    """An open `durable.testing.Environment`, with what the marker ``durable`` says.

    Without definitions in the marker, those that are found in the code of the workflow that is started.
    """
    from durable.testing.environment import Environment

    definitions, options = _marked(request.node)
    options.pop("replay", None)
    async with Environment(definitions, **options) as environment:
        yield environment


def _is_ours(item: pytest.Item) -> bool:
    return "durable_env" in getattr(item, "fixturenames", ()) or item.get_closest_marker(MARKER) is not None


def _marked(item: pytest.Item) -> tuple[tuple[Any, ...], dict[str, Any]]:
    marker = item.get_closest_marker(MARKER)
    return ((), {}) if marker is None else (marker.args, dict(marker.kwargs))


def _judge(item: pytest.Item, environment: Environment) -> None:
    from durable.errors import NonDeterminismError
    from durable.testing.thorough import replay_thoroughly

    recorded = environment.recorded
    if _marked(item)[1].get("replay", True):
        report = None
        try:
            replay_thoroughly(recorded, _other_processes(item.config))
        except NonDeterminismError as error:
            report = str(error)
        if report is not None:
            pytest.fail(report, pytrace=False)  # outside of the handler: the report is all there is to see
    folder = item.config.getoption("--durable-freeze")
    if folder is not None:
        from durable.testing.freezing import freeze

        freeze(Path(folder), recorded, item.nodeid.rpartition("::")[2])


def _other_processes(config: pytest.Config) -> OtherProcesses:
    from durable.testing.other_process import OtherProcesses

    with contextlib.suppress(KeyError):
        found: OtherProcesses = config.stash[_others]
        return found
    config.stash[_others] = others = OtherProcesses()
    return others
