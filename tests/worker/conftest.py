"""What workers do must not depend on whether short activities have rows: these files are run with it and without."""

from __future__ import annotations

import pytest

import durable

BOTH_WAYS = ("test_leases", "test_workflow_tasks", "test_activities", "test_worker")


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    if metafunc.module.__name__.rpartition(".")[2] in BOTH_WAYS:
        metafunc.parametrize("local_activities", [True, False], ids=["rowless", "rows"], indirect=True)


@pytest.fixture(autouse=True)
def local_activities(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> bool:
    """The default of `durable.Worker` for this test."""
    defaults = durable.Worker.__init__.__kwdefaults__
    assert defaults is not None
    chosen = bool(getattr(request, "param", True))
    monkeypatch.setitem(defaults, "local_activities", chosen)
    return chosen
