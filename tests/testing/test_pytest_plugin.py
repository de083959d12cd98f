from __future__ import annotations

from pathlib import Path

import pytest

import durable
from durable.testing import replay_frozen

pytest_plugins = "pytester"

DETERMINISTIC = """
import asyncio, durable, pytest

@durable.activity
async def greet(name: str) -> str:
    return f"hello {name}"

@durable.workflow
async def greeting(name: str) -> str:
    await asyncio.sleep(86400)
    return await greet(name)

async def test_it(durable_env):
    assert await durable_env.run(greeting, "ann") == "hello ann"

@pytest.mark.durable
async def test_marked():
    from durable.testing import Environment
    async with Environment([greeting, greet]) as env:
        assert await env.run(greeting, "bob") == "hello bob"

@pytest.mark.durable(greeting, seed=5)
async def test_options(durable_env):
    durable_env.mock(greet, "mocked")
    assert await durable_env.run(greeting, "ann") == "mocked"
"""

COUNTS = """
import asyncio, durable, pytest

calls = 0

@durable.activity
async def greet(name: str) -> str:
    return f"hello {name}"

@durable.workflow
async def fickle() -> str:
    global calls
    calls += 1
    if calls > CALLS:
        await asyncio.sleep(1)
    return await greet("ann") + await greet("bob")

async def test_it(durable_env):
    assert await durable_env.run(fickle) == "hello annhello bob"

@pytest.mark.durable(replay=False)
async def test_not_replayed(durable_env):
    await durable_env.run(fickle)

async def test_without_the_marker():
    from durable.testing import Environment
    async with Environment() as env:
        await env.run(fickle)
"""

A_SET = """
import durable

@durable.activity
async def greet(name: str) -> str:
    return f"hello {name}"

@durable.workflow
async def unordered() -> None:
    for name in {"ann", "bob", "cy", "di", "eve", "fay"}:
        await greet(name)

async def test_it(durable_env):
    await durable_env.run(unordered)
"""


@pytest.fixture
def run(pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch):  # type: ignore[no-untyped-def]
    def run(code: str, *options: str) -> pytest.RunResult:
        pytester.makepyfile(code)
        pytester.makeini("[pytest]\nasyncio_mode = auto\nasyncio_default_fixture_loop_scope = function\n")
        monkeypatch.setenv("PYTEST_PLUGINS", "durable.testing.pytest_plugin")
        return pytester.runpytest_subprocess("-W", "error", "-p", "no:cacheprovider", *options)

    return run


def test_what_is_deterministic_passes(run) -> None:  # type: ignore[no-untyped-def]
    run(DETERMINISTIC, "--strict-markers").assert_outcomes(passed=3)


def test_what_differs_when_it_is_replayed_from_scratch_fails_with_a_report(run) -> None:  # type: ignore[no-untyped-def]
    result = run(COUNTS.replace("CALLS", "1"))
    result.assert_outcomes(failed=1, passed=2)
    result.stdout.fnmatch_lines(["*was replayed from scratch*activity_scheduled 'greet'*"])


def test_what_differs_after_a_later_eviction_only_fails_too(run) -> None:  # type: ignore[no-untyped-def]
    result = run(COUNTS.replace("CALLS", "2"))
    result.assert_outcomes(failed=1, passed=2)
    result.stdout.fnmatch_lines(["*was evicted behind event 2 and replayed*"])


def test_the_order_of_a_set_is_found_under_another_hash_seed(run) -> None:  # type: ignore[no-untyped-def]
    result = run(A_SET)
    result.assert_outcomes(failed=1)
    result.stdout.fnmatch_lines(["*was replayed in another process*"])


def test_histories_are_frozen_and_replayed(run, tmp_path: Path) -> None:  # type: ignore[no-untyped-def]
    code = """
        import durable

        async def test_order(durable_env):
            @durable.workflow
            async def checkout(order: str) -> str:
                return order

            await durable_env.run(checkout, "o-1")
    """
    result = run(code, f"--durable-freeze={tmp_path / 'kept'}")
    result.assert_outcomes(passed=1)
    result.stdout.fnmatch_lines(["*not replayed under other hash seeds*", "*checkout: it is not at the top*"])
    assert [path.name for path in (tmp_path / "kept" / "checkout").iterdir()] == ["test_order-1.history"]

    @durable.workflow
    async def checkout(order: str) -> str:
        return order

    assert replay_frozen(tmp_path / "kept", [checkout]) == 1
    with pytest.raises(LookupError, match="checkout"):
        replay_frozen(tmp_path / "kept", [])


def test_who_does_not_use_it_does_not_load_it(pytester: pytest.Pytester) -> None:
    code = """
        import sys
        import durable.testing.pytest_plugin

        heavy = {"environment", "replayer", "crashing", "conformance", "checker"}
        loaded = {name.rpartition(".")[2] for name in sys.modules if name.startswith("durable.testing.")}
        assert not heavy & loaded, loaded

        import durable.testing
        assert set(durable.testing.__all__) <= set(dir(durable.testing))
        assert all(getattr(durable.testing, name).__name__ == name for name in durable.testing.__all__)
        assert not hasattr(durable.testing, "nothing")
    """
    path = pytester.makepyfile(code)
    assert pytester.runpython(path).ret == 0
