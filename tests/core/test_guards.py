from __future__ import annotations

import asyncio
import builtins
import concurrent.futures
import contextlib
import io
import logging
import logging.handlers
import os
import queue
import random
import secrets
import select
import signal
import socket
import sqlite3
import subprocess
import sys
import tempfile
import threading
import time
import traceback
import uuid
import zoneinfo
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from durable.core import guards
from durable.errors import ForbiddenInWorkflow
from tests.core.hosts import START_US, Host

SECOND = 1_000_000


@pytest.fixture
def host() -> Iterator[Host]:
    host = Host()
    yield host
    host.loop.drop()


def inside(host: Host, work: Callable[[], Any]) -> Any:
    """The result of ``work`` called in a task of a run."""

    async def main() -> Any:
        return work()

    return host.start(main()).result()


# --- clock -------------------------------------------------------------------------------------------------------


def test_clocks_are_the_runs_own(host: Host) -> None:
    host.loop.now_us += 1_500_000
    now = (START_US + 1_500_000) / SECOND
    assert inside(host, lambda: (time.time(), time.time_ns())) == (now, (START_US + 1_500_000) * 1_000)
    for name in ("monotonic", "perf_counter", "process_time", "thread_time"):
        assert inside(host, getattr(time, name)) == 1.5
        assert inside(host, getattr(time, f"{name}_ns")) == 1_500_000_000
    assert inside(host, lambda: time.clock_gettime(time.CLOCK_REALTIME)) == now
    assert inside(host, lambda: time.clock_gettime_ns(time.CLOCK_MONOTONIC)) == 1_500_000_000


def test_the_calendar_is_the_runs_own_and_utc(host: Host, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TZ", "Asia/Tokyo")
    time.tzset()
    try:
        assert inside(host, time.gmtime) == time.gmtime(START_US / SECOND)
        assert inside(host, time.localtime) == time.gmtime(START_US / SECOND)
        assert inside(host, lambda: time.localtime(0)) == time.gmtime(0)
        assert inside(host, lambda: time.strftime("%H:%M:%S")) == "22:13:20"
        assert inside(host, lambda: time.strftime("%Y", time.gmtime(0))) == "1970"
        assert inside(host, time.ctime) == "Tue Nov 14 22:13:20 2023"
        assert inside(host, time.asctime) == "Tue Nov 14 22:13:20 2023"
        assert time.localtime(0).tm_hour == 9
    finally:
        monkeypatch.undo()
        time.tzset()


def test_a_log_record_has_the_real_time(host: Host, caplog: pytest.LogCaptureFixture) -> None:
    before = time.time()
    inside(host, lambda: logging.getLogger("workflow").warning("now"))
    assert caplog.records[0].created >= before > START_US / SECOND + 3_600


def test_outside_of_a_step_everything_is_real(host: Host) -> None:
    assert abs(time.time() - time.time_ns() / 1e9) < 60
    assert time.time() > START_US / SECOND + 3_600
    inside(host, time.time)
    assert time.time() > START_US / SECOND + 3_600
    random.seed(7)
    first = [random.random(), random.randint(1, 9)]
    assert first == [(own := random.Random(7)).random(), own.randint(1, 9)]
    assert os.urandom(16) != os.urandom(16)
    assert random.Random().random() != random.Random().random()
    assert time.sleep(0) is None  # type: ignore[func-returns-value]


def test_another_thread_sees_real_values_while_a_step_runs(host: Host) -> None:
    go, done = threading.Event(), threading.Event()
    seen: list[float] = []

    def other() -> None:
        go.wait(10)
        time.sleep(0)
        seen.append(time.time())
        Path(__file__).read_bytes()
        done.set()

    def work() -> float:
        go.set()
        with guards.lifted():
            assert done.wait(10)
        return time.time()

    thread = threading.Thread(target=other)
    thread.start()
    assert inside(host, work) == START_US / SECOND
    thread.join()
    assert seen[0] > START_US / SECOND + 3_600


def test_guards_can_be_lifted(host: Host) -> None:
    def work() -> tuple[float, bool, float]:
        with guards.lifted():
            real = time.time()
            readable = bool(Path(__file__).read_bytes())
        return real, readable, time.time()

    real, readable, own = inside(host, work)
    assert real > own
    assert readable
    assert own == START_US / SECOND


def test_guards_can_be_switched_off(host: Host, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(guards, "enabled", False)
    assert inside(host, time.time) > START_US / SECOND + 3_600
    assert guards.running == {}


def test_after_a_step_nothing_is_guarded(host: Host) -> None:
    def fails() -> None:
        assert list(guards.running) == [threading.get_ident()]
        raise KeyError

    with pytest.raises(KeyError):
        host.loop.step(fails)
    assert guards.running == {}


def test_clean_up_of_a_dropped_run_is_guarded(host: Host) -> None:
    seen: list[object] = []

    async def main() -> None:
        try:
            await host.call("a")
        finally:
            seen.append(time.time())
            try:
                _FORBIDDEN["open"]()
            except ForbiddenInWorkflow as error:
                seen.append(type(error))

    host.start(main())
    host.loop.drop()
    assert seen == [START_US / SECOND, ForbiddenInWorkflow]


# --- randomness --------------------------------------------------------------------------------------------------


def _draw() -> list[object]:
    cards = list(range(20))
    random.shuffle(cards)
    return [
        random.random(),
        random.randint(1, 1_000),
        random.choice("abcdefgh"),
        random.choices(range(100), k=5),
        random.sample(range(100), 5),
        random.uniform(1, 2),
        random.gauss(0, 1),
        random.getrandbits(64),
        random.randbytes(8),
        random.Random().random(),
        random.SystemRandom().random(),
        os.urandom(8),
        os.getrandom(8, 0) if hasattr(os, "getrandom") else random.random(),
        secrets.token_hex(8),
        secrets.randbelow(1_000_000),
        secrets.choice(range(1_000)),
        uuid.uuid4(),
        uuid.uuid1(),
        cards,
    ]


def test_randomness_is_the_runs_own() -> None:
    first, again, other = (inside(Host(name), _draw) for name in ("run", "run", "other"))
    assert first == again
    assert all(one != two for one, two in zip(first[5:], other[5:], strict=True))


def test_randomness_of_the_process_is_untouched_by_a_run(host: Host) -> None:
    random.seed(7)
    expected = random.Random(7).random()
    inside(host, _draw)
    inside(host, lambda: random.seed(99))
    assert random.random() == expected


def test_the_runs_stream_can_be_seeded_but_not_from_the_system(host: Host) -> None:
    def work() -> list[object]:
        random.seed(5)
        state = random.getstate()
        drawn = random.random()
        random.setstate(state)
        return [drawn, random.random()]

    expected = random.Random(5).random()
    assert inside(host, work) == [expected, expected]
    with pytest.raises(ForbiddenInWorkflow, match="seed"):
        inside(host, random.seed)


def test_uuids_are_well_formed(host: Host) -> None:
    one, four = inside(host, lambda: (uuid.uuid1(), uuid.uuid4()))
    assert (one.version, four.version) == (1, 4)
    assert one.variant == four.variant == uuid.RFC_4122
    assert (one.time - 0x01B21DD213814000) // 10 == START_US
    assert inside(host, lambda: uuid.uuid1(node=5, clock_seq=6)).node == 5


# --- the world outside -------------------------------------------------------------------------------------------

_FORBIDDEN: dict[str, Callable[[], Any]] = {
    "open": lambda: open("x"),  # noqa: SIM115, PTH123
    "io.open": lambda: io.open(__file__),  # noqa: SIM115, UP020
    "os.open": lambda: os.open(__file__, os.O_RDONLY),
    "write": lambda: Path("/tmp/durable-must-not-exist").write_text("x"),
    "listdir": lambda: os.listdir("."),  # noqa: PTH208
    "iterdir": lambda: list(Path().iterdir()),
    "mkdir": lambda: Path("x").mkdir(),
    "remove": lambda: Path("x").unlink(),
    "mkstemp": tempfile.mkstemp,
    "socket": socket.socket,
    "getaddrinfo": lambda: socket.getaddrinfo("localhost", 80),
    "gethostname": socket.gethostname,
    "create_connection": lambda: socket.create_connection(("127.0.0.1", 1)),
    "Popen": lambda: subprocess.run(["true"], check=True),
    "os.system": lambda: os.system("true"),
    "fork": os.fork,
    "kill": lambda: os.kill(os.getpid(), 0),
    "sqlite": lambda: sqlite3.connect(":memory:"),
    "input": lambda: builtins.input(),
    "sleep": lambda: time.sleep(0),
    "thread": lambda: threading.Thread(target=print).start(),
    "event": lambda: threading.Event().wait(),
    "semaphore": lambda: threading.Semaphore(0).acquire(),
    "queue": lambda: queue.Queue().get(),
    "future": lambda: concurrent.futures.Future().result(),
    "join": lambda: threading.main_thread().join(),
    "select": lambda: select.select([], [], []),
    "poll": lambda: select.poll(),
    "waitpid": lambda: os.waitpid(-1, 0),
    "pause": lambda: signal.pause(),
}


@pytest.mark.parametrize("name", _FORBIDDEN)
def test_the_world_outside_raises(host: Host, name: str) -> None:
    with pytest.raises(ForbiddenInWorkflow, match=r"(activity|asyncio\.sleep)"):
        inside(host, _FORBIDDEN[name])
    assert not Path("/tmp/durable-must-not-exist").exists()


def test_a_thread_that_was_refused_leaves_nothing_behind(host: Host) -> None:
    before = threading.enumerate()
    with pytest.raises(ForbiddenInWorkflow):
        inside(host, _FORBIDDEN["thread"])
    assert threading.enumerate() == before


def test_imports_are_let_through(host: Host, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "imported_late.py").write_text(
        "import os\nFOUND = sorted(os.listdir(os.path.dirname(__file__)))\n"
    )
    monkeypatch.syspath_prepend(tmp_path)

    def work() -> list[str]:
        import imported_late  # type: ignore[import-not-found]

        return imported_late.FOUND  # type: ignore[no-any-return]

    assert "imported_late.py" in inside(host, work)


def test_a_workflow_whose_worker_runs_during_an_import_is_guarded(
    host: Host, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "program_of_a_worker.py").write_text("import builtins\nbuiltins.durable_test_callback()\n")
    monkeypatch.syspath_prepend(tmp_path)
    raised: list[BaseException] = []

    def callback() -> None:
        with contextlib.suppress(ForbiddenInWorkflow):
            inside(host, _FORBIDDEN["open"])
            return
        raised.append(ForbiddenInWorkflow())

    monkeypatch.setattr(builtins, "durable_test_callback", callback, raising=False)
    import program_of_a_worker  # type: ignore[import-not-found]  # noqa: F401

    assert raised


def test_tracebacks_show_source(host: Host) -> None:
    import linecache

    def work() -> str:
        linecache.clearcache()
        try:
            raise ValueError("a source line")
        except ValueError:
            return traceback.format_exc()

    assert 'raise ValueError("a source line")' in inside(host, work)


def test_log_files_are_written(host: Host, tmp_path: Path) -> None:
    logger = logging.getLogger("durable-test-file")
    handler = logging.handlers.RotatingFileHandler(tmp_path / "log", delay=True, maxBytes=50, backupCount=2)
    logger.addHandler(handler)
    try:
        inside(host, lambda: [logger.warning("a line of some length %d", n) for n in range(5)])
    finally:
        logger.removeHandler(handler)
        handler.close()
    assert (tmp_path / "log.1").exists()


def test_logging_may_wait_for_its_own_queue(host: Host) -> None:
    class Waiting(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            threading.Event().wait(0)

    logger = logging.getLogger("durable-test-waiting")
    logger.addHandler(handler := Waiting())
    try:
        inside(host, lambda: logger.warning("a line"))
    finally:
        logger.removeHandler(handler)


def test_waiting_is_possible_outside_of_steps(host: Host) -> None:
    inside(host, time.time)
    assert threading.Event().wait(0) is False
    assert select.select([], [], [], 0) == ([], [], [])
    with pytest.raises(queue.Empty):
        queue.Queue[int]().get(timeout=0)


def test_time_zones_are_loaded(host: Host) -> None:
    zoneinfo.ZoneInfo.clear_cache()
    try:
        zone = inside(host, lambda: zoneinfo.ZoneInfo("Europe/Berlin"))
    except zoneinfo.ZoneInfoNotFoundError:
        pytest.skip("this machine has no time zone data")
    assert zone.key == "Europe/Berlin"


def test_time_zones_are_loaded_from_a_package(
    host: Host, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = next((file for path in zoneinfo.TZPATH if (file := Path(path, "Etc/GMT+5")).exists()), None)
    if source is None:
        pytest.skip("this machine has no time zone data")
    for package in ("tzdata", "tzdata/zoneinfo", "tzdata/zoneinfo/Durable"):
        (tmp_path / package).mkdir()
        (tmp_path / package / "__init__.py").touch()
    (tmp_path / "tzdata/zoneinfo/Durable/Test").write_bytes(source.read_bytes())
    for name in [name for name in sys.modules if name.split(".")[0] == "tzdata"]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.syspath_prepend(tmp_path)
    assert inside(host, lambda: zoneinfo.ZoneInfo("Durable/Test")).key == "Durable/Test"


def test_printing_is_no_business_of_the_guards(host: Host, capsys: pytest.CaptureFixture[str]) -> None:
    inside(host, lambda: print("hello"))  # noqa: T201
    assert capsys.readouterr().out == "hello\n"


async def test_the_hosts_loop_keeps_its_clock_in_a_step(host: Host) -> None:
    outer = asyncio.get_running_loop()
    assert inside(host, outer.time) > 0
    assert abs(inside(host, outer.time) - outer.time()) < 60


def test_installing_twice_wraps_once() -> None:
    before = time.time
    guards.install()
    assert time.time is before


def test_a_guard_costs_next_to_nothing_outside_of_steps() -> None:
    def best_of(function: Callable[[], float], runs: int = 20_000) -> float:
        best = 1.0
        for _ in range(7):
            began = time.perf_counter()
            for _ in range(runs):
                function()
            best = min(best, (time.perf_counter() - began) / runs)
        return best

    real: Callable[[], float] = time.time.__wrapped__  # type: ignore[attr-defined]
    # 30 to 40 ns, measured; the limit is for a machine that does other things at the same time.
    assert best_of(time.time) - best_of(real) < 400e-9


def test_pickling_and_names_are_as_before() -> None:
    assert (time.time.__name__, time.time.__module__) == ("time", "time")
    assert random.random.__name__ == "random"
    assert sys.modules["random"].Random.seed.__name__ in ("seed", "_reseed")
