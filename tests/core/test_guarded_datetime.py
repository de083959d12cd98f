from __future__ import annotations

import asyncio
import copy
import datetime as datetime_module
import pickle
import sys
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta, timezone
from typing import Any
from zoneinfo import ZoneInfo

import pytest
from pydantic import BaseModel, TypeAdapter

from durable.core import guards
from tests.core.hosts import Host

AT = datetime(2023, 11, 14, 22, 13, 20)
TOKYO = timezone(timedelta(hours=9))


@pytest.fixture
def host() -> Iterator[Host]:
    host = Host()
    yield host
    host.loop.drop()


@pytest.fixture
def far_zone(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setenv("TZ", "Asia/Tokyo")
    time.tzset()
    yield
    monkeypatch.undo()
    time.tzset()


def inside(host: Host, work: Callable[[], Any]) -> Any:
    async def main() -> Any:
        return work()

    return host.start(main()).result()


def utcnow() -> datetime:
    # Looked up like this, or every line that tests it would be reported as deprecated.
    return getattr(datetime, "utcnow")()  # type: ignore[no-any-return]  # noqa: B009


# --- in a run --------------------------------------------------------------------------------------------------------


def test_the_calendar_is_the_runs_own_and_utc(host: Host, far_zone: None) -> None:
    host.loop.now_us += 1_500_001
    now = AT + timedelta(microseconds=1_500_001)
    assert inside(host, datetime.now) == inside(host, utcnow) == inside(host, datetime.today) == now
    assert inside(host, date.today) == now.date()
    assert inside(host, lambda: datetime.now(UTC)) == now.replace(tzinfo=UTC)
    there = inside(host, lambda: datetime.now(tz=TOKYO))
    assert (there, there.tzinfo, there.hour) == (now.replace(tzinfo=UTC), TOKYO, 7)
    assert inside(host, lambda: datetime.now(ZoneInfo("UTC"))).tzinfo == ZoneInfo("UTC")


def test_the_types_of_the_results_are_those_asked_for(host: Host) -> None:
    class Mine(datetime):
        pass

    class Day(date):
        pass

    assert type(inside(host, Mine.now)) is type(inside(host, Mine.today)) is Mine
    assert type(inside(host, lambda: Mine.now(TOKYO))) is Mine
    assert type(inside(host, Day.today)) is Day
    assert type(inside(host, lambda: Day.fromtimestamp(0))) is Day


def test_local_time_is_utc_and_agrees_with_itself(host: Host, far_zone: None) -> None:
    def work() -> list[object]:
        return [
            datetime.now().timestamp() == time.time(),
            datetime.fromtimestamp(time.time()) == datetime.now(),
            date.fromtimestamp(time.time()) == date.today(),
            datetime.now().astimezone() == datetime.now(UTC),
            datetime.now().astimezone(TOKYO) == datetime.now(TOKYO),
            datetime.now(TOKYO).astimezone().tzinfo is UTC,
            time.mktime(datetime.now().timetuple()) == time.time(),
            datetime.fromtimestamp(0, TOKYO).hour == 9,
        ]

    assert inside(host, work) == [True] * 8
    assert inside(host, lambda: datetime(1970, 1, 1).timestamp()) == 0
    assert datetime(1970, 1, 1).timestamp() == -9 * 3_600
    assert time.mktime((1970, 1, 1, 0, 0, 0, 0, 1, 0)) == -9 * 3_600
    assert datetime.fromtimestamp(0).hour == datetime(1970, 1, 1, tzinfo=UTC).astimezone().hour == 9


def test_wrong_arguments_raise_what_they_always_did(host: Host) -> None:
    for work in (
        lambda: datetime.now("UTC"),  # type: ignore[arg-type]
        lambda: datetime.now(zone=None),  # type: ignore[call-arg]
        lambda: date.today(1),  # type: ignore[call-arg]
    ):
        with pytest.raises(TypeError):
            inside(host, work)
        with pytest.raises(TypeError):
            work()


# --- everywhere else -------------------------------------------------------------------------------------------------


def test_outside_of_a_step_the_clock_is_real(host: Host) -> None:
    inside(host, datetime.now)
    assert abs(datetime.now(UTC).timestamp() - time.time_ns() / 1e9) < 60
    assert abs((datetime.now() - datetime.today()).total_seconds()) < 60
    assert datetime.now(UTC) > AT.replace(tzinfo=UTC) + timedelta(days=1)
    assert date.today() > AT.date()


def test_a_thread_and_a_task_beside_a_step_see_the_real_clock(host: Host) -> None:
    go, done = threading.Event(), threading.Event()
    seen: list[datetime] = []

    def activity() -> None:
        go.wait(10)
        seen.append(datetime.now())
        done.set()

    def work() -> datetime:
        go.set()
        with guards.lifted():
            assert done.wait(10)
        return datetime.now()

    async def beside() -> datetime:
        return datetime.now()

    thread = threading.Thread(target=activity)
    thread.start()
    assert inside(host, work) == AT
    thread.join()
    assert seen[0] > AT + timedelta(days=1)
    assert asyncio.run(beside()) > AT + timedelta(days=1)


def test_datetime_keeps_its_identity(host: Host) -> None:
    @dataclass
    class Order:
        placed: datetime

    class Model(BaseModel):
        placed: datetime
        day: date

    assert datetime is datetime_module.datetime
    assert type(datetime) is type
    assert datetime.__mro__ == (datetime, date, object)
    made = inside(host, lambda: datetime.now(UTC))
    assert type(made) is datetime
    assert isinstance(made, date)
    assert pickle.loads(pickle.dumps(made)) == copy.deepcopy(made) == made  # noqa: S301
    assert pickle.loads(pickle.dumps(datetime)) is datetime  # noqa: S301
    assert pickle.loads(pickle.dumps(datetime.now)) == datetime.now  # noqa: S301
    model = Model(placed=made, day=made.date())
    assert Model.model_validate_json(model.model_dump_json()) == model
    assert TypeAdapter(Order).validate_python({"placed": made.isoformat()}) == Order(made)
    with pytest.raises(TypeError, match="immutable"):
        datetime.now = None  # type: ignore[method-assign, assignment]


def test_every_guard_was_taken_and_bears_its_name() -> None:
    for cls, name, *_ in guards.guarded_datetime._GUARDED:
        method = getattr(cls, name)
        assert method.__name__ == name
        assert method.__module__ == "datetime"
        assert method.__wrapped__ is not method


def test_an_interpreter_that_takes_no_guard_is_told_about(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(guards.guarded_datetime, "_replace", lambda *_: False)
    assert guards.guarded_datetime.install({}, lambda _: None) == [
        "datetime.now", "datetime.utcnow", "datetime.fromtimestamp", "datetime.timestamp", "datetime.astimezone",
        "date.today", "date.fromtimestamp",
    ]  # fmt: skip
    assert sys.modules["datetime"].datetime is datetime
