"""Activities in processes of their own: real processes, a stand-in for the running attempt, no sleeping."""

from __future__ import annotations

import asyncio
import base64
import os
import select
import signal
import subprocess
import sys
import zlib
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from textwrap import dedent
from types import SimpleNamespace
from typing import Any

import pytest

import durable.worker.processes as under_test
from durable.core.failure import known_exceptions
from durable.core.payload import Converter, PlainCodec
from durable.errors import NonRetryable, PayloadError, PayloadTooLarge, RemoteError, WorkerLost
from durable.primitives.activity import Activity, activity
from durable.primitives.attempt import ActivityInfo
from durable.worker.processes import Processes, ResultRefused, check
from tests.worker import crunch

ROOT = Path(__file__).resolve().parent.parent.parent


class Backwards:
    """A codec with a secret: a child process that saw what it makes would not understand it."""

    def encode(self, text: str) -> str:
        return text[::-1]

    def decode(self, text: str) -> str:
        return text[::-1]


@dataclass
class Attempt:
    """What a running attempt offers to `Processes`."""

    item: Any
    label: str = "'it' (3) of instance 'a'"
    beats: asyncio.Queue[Any] = field(default_factory=asyncio.Queue)
    parked: bool = False
    unwanted: bool = False
    begun: bool = False
    last: Any = None

    @property
    def info(self) -> ActivityInfo:
        moment = datetime(2024, 2, 29, 12, 0, 0, 123456, tzinfo=UTC)
        return ActivityInfo(
            attempt=2,
            instance_id="a",
            run_id="r",
            task_id="r/3",
            name="it",
            workflow="w",
            queue="default",
            deadline=moment,
            scheduled_at=moment,
            last_heartbeat=self.last,
            client=object(),
        )

    def begin(self) -> None:
        self.begun = True

    def heartbeat(self, details: Any) -> None:
        if self.unwanted:
            raise asyncio.CancelledError
        self.beats.put_nowait(details)

    def complete_later(self) -> Any:
        self.parked = True

        async def token() -> str:
            return "r.3.token.a"

        return token()


class Short:
    """A codec that makes a payload much smaller."""

    def encode(self, text: str) -> str:
        return base64.b85encode(zlib.compress(text.encode())).decode()

    def decode(self, text: str) -> str:
        return zlib.decompress(base64.b85decode(text)).decode()


class Bench:
    def __init__(self, converter: Converter, most: int) -> None:
        self.converter = converter
        self.processes = Processes(converter, known_exceptions(), most=most)

    def attempt(self, called: Activity[..., Any], *args: Any, **kwargs: Any) -> Attempt:
        definition = called.definition
        payload = self.converter.encode_args(definition.signature, args, kwargs, definition.name)
        return Attempt(SimpleNamespace(payload=payload))

    async def call(self, called: Activity[..., Any], *args: Any, **kwargs: Any) -> Any:
        return await self.processes.run(self.attempt(called, *args, **kwargs), called.definition)


MakeBench = Callable[..., Bench]


@pytest.fixture
async def make() -> AsyncIterator[MakeBench]:
    made: list[Bench] = []

    def bench(codec: Any = None, most: int = 1, **limits: int) -> Bench:
        made.append(Bench(Converter(codec=codec or PlainCodec(), **limits), most))
        return made[-1]

    yield bench
    for each in made:
        await each.processes.close()


@pytest.fixture
def fifo(tmp_path: Path) -> Path:
    path = tmp_path / "fifo"
    os.mkfifo(path)
    return path


def ended(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return True
    return False


# ------------------------------------------------------------------------------------------------ values and errors


async def test_arguments_and_result_go_by_their_annotations(make: MakeBench) -> None:
    box = await make().call(crunch.widen, crunch.Box(1, "a"), by=2)
    assert box == crunch.Box(3, "A")


async def test_the_codec_stays_in_the_worker(make: MakeBench) -> None:
    bench = make(codec=Backwards())
    assert await bench.call(crunch.size, "abc") == "3abc"


async def test_the_limit_is_for_what_the_codec_makes(make: MakeBench) -> None:
    bench = make(codec=Short(), max_payload_bytes=204)
    assert await bench.call(crunch.size, "x" * 10_000) == "10000" + "x" * 10_000


async def test_it_is_another_process_and_it_is_used_again(make: MakeBench) -> None:
    bench = make()
    pids = {await bench.call(crunch.pid) for _ in range(3)}
    assert len(pids) == 1
    assert os.getpid() not in pids


async def test_no_more_processes_than_allowed_and_the_rest_waits(make: MakeBench) -> None:
    bench = make(most=2)
    pids = await asyncio.gather(*(bench.call(crunch.pid) for _ in range(10)))
    assert len(set(pids)) <= 2


async def test_an_exception_comes_out_as_itself(make: MakeBench) -> None:
    bench = make()
    with pytest.raises(crunch.Broken) as caught:
        await bench.call(crunch.fail, "axle")
    assert (caught.value.part, caught.value.count, str(caught.value)) == ("axle", 3, "axle is broken 3 times")
    assert isinstance(caught.value.__cause__, KeyError)
    with pytest.raises(NonRetryable):
        await bench.call(crunch.refuse)


async def test_exit_in_an_activity_is_its_error_and_not_the_end_of_its_process(make: MakeBench) -> None:
    bench = make()
    before = await bench.call(crunch.pid)
    with pytest.raises(RemoteError, match="SystemExit: 3"):
        await bench.call(crunch.leave, 3)
    assert await bench.call(crunch.pid) == before


async def test_what_does_not_fit_is_refused(make: MakeBench) -> None:
    bench = make()
    with pytest.raises(ResultRefused) as caught:
        await bench.call(crunch.wrong_result)
    assert isinstance(caught.value.error, PayloadError)
    attempt = Attempt(SimpleNamespace(payload='[{"no": "box"}]'))
    with pytest.raises(ResultRefused, match=r"cannot be decoded|do not fit"):
        await bench.processes.run(attempt, crunch.widen.definition)


async def test_two_mebibytes_go_both_ways(make: MakeBench) -> None:
    text = "\x01é\n" * 300_000  # 2.7 MB as JSON text, much more where that text is quoted again
    assert await make(max_payload_bytes=2**22).call(crunch.size, text) == f"900000{text}"


async def test_the_limit_for_results_holds(make: MakeBench) -> None:
    with pytest.raises(ResultRefused) as caught:
        await make(max_payload_bytes=204).call(crunch.size, "x" * 200)
    assert isinstance(caught.value.error, PayloadTooLarge)


async def test_printing_does_not_disturb_and_there_is_no_input(
    make: MakeBench, capfd: pytest.CaptureFixture[str]
) -> None:
    bench = make()
    text = '{"kind":"result","number":1,"value":"\\"forged\\""}'
    assert await bench.call(crunch.chatter, text) == "nothing to read"
    await bench.processes.close()
    out, err = capfd.readouterr()
    assert (out, err) == ("", f"{text}\n{text} raw\n")


# -------------------------------------------------------------------------------------- what the function can reach


async def test_heartbeats_arrive_in_order_with_details(make: MakeBench) -> None:
    bench = make(codec=Backwards())
    attempt = bench.attempt(crunch.beat, 3)
    attempt.last = {"done": 99}
    assert await bench.processes.run(attempt, crunch.beat.definition) == {"done": 99}
    assert [attempt.beats.get_nowait()["done"] for _ in range(3)] == [0, 1, 2]
    assert attempt.beats.empty()


async def test_information_on_the_attempt(make: MakeBench) -> None:
    assert await make().call(crunch.tell_info) == {
        "attempt": 2,
        "deadline": "2024-02-29 12:00:00.123456+00:00",
        "client": None,
        "last": None,
    }


async def test_completing_later_asks_the_worker_for_the_token(make: MakeBench) -> None:
    bench = make()
    attempt = bench.attempt(crunch.later)
    assert await bench.processes.run(attempt, crunch.later.definition) is None
    assert attempt.parked


async def test_an_attempt_that_is_over_gets_no_token_and_its_process_goes_on(make: MakeBench) -> None:
    bench = make()
    before = await bench.call(crunch.pid)
    attempt = bench.attempt(crunch.later)

    async def over() -> str:
        raise asyncio.CancelledError

    attempt.complete_later = over  # type: ignore[method-assign]
    with pytest.raises(asyncio.CancelledError):
        await bench.processes.run(attempt, crunch.later.definition)
    assert await bench.call(crunch.pid) == before


# ------------------------------------------------------------------------------------------------------- cancelling


async def test_a_cancelled_call_ends_at_its_next_heartbeat_and_its_process_goes_on(make: MakeBench) -> None:
    bench = make()
    attempt = bench.attempt(crunch.until_cancelled)
    call = asyncio.create_task(bench.processes.run(attempt, crunch.until_cancelled.definition))
    pid = await attempt.beats.get()
    call.cancel()
    with pytest.raises(asyncio.CancelledError):
        await call
    assert await bench.call(crunch.pid) == pid


async def test_a_call_that_hears_nothing_is_let_go_at_once_and_killed_later(
    make: MakeBench, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(under_test, "GRACE_SECONDS", 0.05)
    bench = make()
    attempt = bench.attempt(crunch.stubborn)
    call = asyncio.create_task(bench.processes.run(attempt, crunch.stubborn.definition))
    pid = await attempt.beats.get()
    call.cancel()
    with pytest.raises(asyncio.CancelledError):
        await call
    assert not ended(pid)  # nobody waited for it
    assert await bench.call(crunch.pid) != pid
    assert ended(pid)


async def test_a_call_can_be_cancelled_while_it_waits(make: MakeBench) -> None:
    bench = make()
    attempt = bench.attempt(crunch.until_cancelled)
    first = asyncio.create_task(bench.processes.run(attempt, crunch.until_cancelled.definition))
    await attempt.beats.get()
    waiting = bench.attempt(crunch.beat, 1)
    second = asyncio.create_task(bench.processes.run(waiting, crunch.beat.definition))
    third = asyncio.create_task(bench.call(crunch.size, "z"))
    await asyncio.sleep(0)
    assert attempt.begun and not waiting.begun, "the time of a call begins when it has a process"
    for each in (second, first):
        each.cancel()
    assert await third == "1z"
    assert waiting.beats.empty()
    await asyncio.gather(first, second, return_exceptions=True)


async def test_an_attempt_that_is_over_takes_no_heartbeat(make: MakeBench) -> None:
    bench = make()
    attempt = bench.attempt(crunch.beat, 3)
    attempt.unwanted = True  # its task is about to be cancelled
    assert await bench.processes.run(attempt, crunch.beat.definition) is None


async def test_a_heartbeat_that_the_codec_refuses_fails_the_attempt(make: MakeBench) -> None:
    bench = make()
    attempt = bench.attempt(crunch.stubborn)

    def refuse(details: Any) -> None:
        raise PayloadError("the codec failed")

    attempt.heartbeat = refuse  # type: ignore[method-assign]
    with pytest.raises(PayloadError, match="the codec failed"):
        await bench.processes.run(attempt, crunch.stubborn.definition)
    assert await bench.call(crunch.size, "") == "0"


# ---------------------------------------------------------------------------------------------------------- dying


@pytest.mark.parametrize(
    ("called", "args", "told"),
    [(crunch.exit_hard, (3,), "exit code 3"), (crunch.segfault, (), r"signal 11 \(SIGSEGV\)")],
)
async def test_a_crash_fails_its_own_attempt_only(
    make: MakeBench, called: Activity[..., Any], args: tuple[Any, ...], told: str
) -> None:
    bench = make(most=2)
    other = bench.attempt(crunch.until_cancelled)
    beside = asyncio.create_task(bench.processes.run(other, crunch.until_cancelled.definition))
    await other.beats.get()
    with pytest.raises(WorkerLost, match=rf"the process of activity 'it' \(3\) of instance 'a' died: {told}"):
        await bench.call(called, *args)
    assert await bench.call(crunch.size, "a") == "1a"
    assert not beside.done()
    beside.cancel()
    await asyncio.wait([beside])


async def test_a_process_that_died_while_it_was_idle_costs_no_attempt(make: MakeBench) -> None:
    bench = make()
    pid = await bench.call(crunch.pid)
    os.kill(pid, signal.SIGKILL)  # noticed, or not, by the time of the next call
    assert await bench.call(crunch.pid) != pid


async def test_a_death_is_noticed_while_a_forked_process_lives_on(make: MakeBench, fifo: Path) -> None:
    bench = make()
    reader = os.open(fifo, os.O_RDONLY | os.O_NONBLOCK)
    with pytest.raises(WorkerLost, match="signal 9"):
        await bench.call(crunch.die_with_a_forked_child, str(fifo))
    assert select.select([reader], [], [], 60)[0]
    left = os.pidfd_open(int(os.read(reader, 100)))
    os.close(reader)
    signal.pidfd_send_signal(left, signal.SIGTERM)  # not one of those that we take from our own children
    assert select.select([left], [], [], 60)[0]
    os.close(left)


async def test_no_process_can_be_started(make: MakeBench, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "executable", "/nowhere/python")
    with pytest.raises(WorkerLost, match="no process could be started"):
        await make().call(crunch.pid)


async def test_signals_to_the_group_are_left_to_the_worker(make: MakeBench) -> None:
    bench = make()
    pid = await bench.call(crunch.pid)
    os.kill(pid, signal.SIGINT)
    os.kill(pid, signal.SIGTERM)
    assert await bench.call(crunch.pid) == pid


async def test_closing_ends_idle_and_busy_processes(make: MakeBench, monkeypatch: pytest.MonkeyPatch) -> None:
    bench = make(most=2)
    attempt = bench.attempt(crunch.stubborn)
    busy = asyncio.create_task(bench.processes.run(attempt, crunch.stubborn.definition))
    pids = [await attempt.beats.get(), await bench.call(crunch.pid)]
    # The idle one is not killed but sees the end of its input; only the busy one has to be.
    await bench.processes.close()
    assert all(map(ended, pids))
    assert busy.cancelled() or (await asyncio.wait([busy]) and busy.cancelled())
    with pytest.raises(RuntimeError, match="is closed"):
        await bench.call(crunch.pid)


# ------------------------------------------------------------------------------------------- finding the function


@activity(executor="process")
def at_the_top() -> None: ...


def test_functions_that_a_process_can_find() -> None:
    for good in (
        at_the_top,
        crunch.widen,
        crunch.Shop.price,
        crunch.renamed,
        crunch.widen.options(timeout=3),
    ):
        check(good.definition)
    check(crunch.in_thread.definition)


def test_functions_that_no_process_can_find(monkeypatch: pytest.MonkeyPatch) -> None:
    @activity(executor="process")
    def nested() -> None: ...

    anonymous = activity(name="anonymous", executor="process")(lambda: None)
    bound: Any = crunch.Shop().total
    for bad, reason in (
        (nested, "inside another function"),
        (anonymous, "a lambda"),
        (bound, "bound to an object"),
    ):
        with pytest.raises(ValueError, match=rf"executor='process'.*{reason}.*at the top of a module"):
            check(bad.definition)
    monkeypatch.setattr(crunch, "input_or_nothing", None)
    with pytest.raises(ValueError, match=r"crunch\.input_or_nothing is something else, or nothing"):
        check(crunch.shadowed.definition)
    monkeypatch.setattr(crunch._plain, "__module__", "__main__")
    monkeypatch.setitem(sys.modules, "__main__", SimpleNamespace(_plain=crunch._plain))  # type: ignore[misc]
    with pytest.raises(ValueError, match="no file holds it"):
        check(crunch.renamed.definition)


async def test_a_static_method_is_found(make: MakeBench) -> None:
    assert await make().call(crunch.Shop.price, 4) == 8


async def test_a_module_is_found_where_the_worker_found_it(
    make: MakeBench, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "found_late.py").write_text("def at_home():\n    return 7\n")
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setattr(crunch.at_home, "__module__", "found_late")
    assert await make().call(crunch.home) == 7


async def test_a_module_that_cannot_be_loaded_is_an_error_of_the_attempt(
    make: MakeBench, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(crunch.at_home, "__module__", "nowhere.at_all")
    with pytest.raises(ImportError, match=r"cannot load nowhere\.at_all\.at_home: ModuleNotFoundError"):
        await make().call(crunch.home)


MAIN = '''
"""A program whose activities stand in its main module."""
import asyncio
import os
import sys
from pathlib import Path
from pydantic import BaseModel
import durable.worker.processes as p
from durable.core.failure import known_exceptions
from durable.core.payload import Converter
from durable.primitives.activity import activity
from durable.primitives.attempt import heartbeat
from tests.worker.test_processes import Bench
{more}

print("loaded as", __name__, sys.argv[1:], file=sys.stderr, flush=True)

class Box(BaseModel):
    size: "int"

class Wrong(Exception):
    pass

@activity(executor="process")
def double(box: Box) -> Box:
    return Box(size=box.size * 2)

@activity(executor="process")
def wrong() -> None:
    raise Wrong("so wrong")

@activity(executor="process")
def hold(fifo: str, wait: bool) -> None:
    import threading
    fd = os.open(fifo, os.O_WRONLY)
    os.write(fd, b"!")
    if wait:
        threading.Event().wait()

async def main() -> None:
    bench = Bench(Converter(), 1)
    p.check(double.definition)
    if len(sys.argv) > 2:
        call = asyncio.ensure_future(bench.call(hold, sys.argv[1], sys.argv[2] == "busy"))
        if sys.argv[2] == "idle":
            await call
        print("ready", flush=True)
        await asyncio.Event().wait()
    print(await bench.call(double, Box(size=4)))
    try:
        await bench.call(wrong)
    except Wrong as error:
        print("Wrong:", error)
    await bench.processes.close()
    print("done")
'''
GUARD = '\nif __name__ == "__main__":\n    asyncio.run(main())\n'


def program(folder: Path, name: str, *, more: str = "", start: str = GUARD) -> Path:
    path = folder / name
    path.parent.mkdir(exist_ok=True)
    path.write_text(dedent(MAIN).replace("{more}", more) + start)
    return path


def ran(*command: str, cwd: Path) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    return subprocess.run(
        [sys.executable, *command],
        cwd=cwd,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )


def test_a_function_of_a_script(tmp_path: Path) -> None:
    program(tmp_path, "script.py")
    done = ran("script.py", "one", cwd=tmp_path)
    assert done.stdout == "size=8\nWrong: so wrong\ndone\n", done.stderr
    assert done.stderr == "loaded as __main__ ['one']\nloaded as __durable_main__ ['one']\n"


def test_a_function_of_a_program_run_by_its_module_name(tmp_path: Path) -> None:
    program(tmp_path, "shop/__main__.py", more="from . import other")
    (tmp_path / "shop" / "__init__.py").touch()
    (tmp_path / "shop" / "other.py").touch()
    done = ran("-m", "shop", cwd=tmp_path)
    assert done.stdout == "size=8\nWrong: so wrong\ndone\n", done.stderr
    assert "loaded as __durable_main__" in done.stderr


def test_a_program_without_a_guard_is_told_so_and_does_not_multiply(tmp_path: Path) -> None:
    program(tmp_path, "script.py", start="\nasyncio.run(main())\n")
    done = ran("script.py", cwd=tmp_path)
    assert done.returncode == 1
    assert "put what starts the worker under `if __name__ == '__main__':`" in done.stderr
    assert done.stderr.count("loaded as") == 2


@pytest.mark.parametrize("state", ["busy", "idle"])
def test_processes_end_when_their_worker_is_killed(tmp_path: Path, fifo: Path, state: str) -> None:
    path = program(tmp_path, "script.py")
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    reader = os.open(fifo, os.O_RDONLY | os.O_NONBLOCK)
    with subprocess.Popen(
        [sys.executable, path, fifo, state],
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
    ) as worker:
        assert worker.stdout is not None
        assert worker.stdout.readline() == b"ready\n"
        assert select.select([reader], [], [], 60)[0]
        assert os.read(reader, 1) == b"!"
        assert not select.select([reader], [], [], 0)[0]  # it lives
        worker.kill()
    assert select.select([reader], [], [], 60)[0]
    assert os.read(reader, 1) == b""  # the last process that had it open is gone
    os.close(reader)
