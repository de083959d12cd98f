"""What the public names of anyio do in a workflow."""

from __future__ import annotations

import warnings
from typing import Any

import anyio
import anyio.abc
import anyio.from_thread
import anyio.functools
import anyio.itertools
import anyio.lowlevel
import anyio.streams.buffered
import anyio.streams.file
import anyio.streams.memory
import anyio.streams.stapled
import anyio.streams.text
import anyio.streams.tls
import anyio.to_interpreter
import anyio.to_process
import anyio.to_thread

from tests.asyncio_table.table import Module, echo, refused

table = Module(name="anyio")
_ACTIVITY = "activity"


async def _named(value: str, seconds: float = 0) -> str:
    await anyio.sleep(seconds)
    return value


async def _all_refused(*works: Any) -> str:
    texts = [await refused(work) for work in works]
    assert all("ForbiddenInWorkflow" in text and _ACTIVITY in text for text in texts), texts
    return texts[0]


# --- tasks and cancellation -------------------------------------------------------------------------------------------


@table.works("create_task_group", [["b", "a"], ["ValueError"], "started"])
async def task_groups() -> list[Any]:
    said: list[str] = []

    async def say(name: str, seconds: float) -> None:
        said.append(await _named(name, seconds))

    async def fails() -> None:
        raise ValueError

    async def begin(*, task_status: anyio.abc.TaskStatus[str]) -> None:
        await echo("x")
        task_status.started("started")

    async with anyio.create_task_group() as group:
        group.start_soon(say, "a", 2)
        group.start_soon(say, "b", 1)
    errors: list[str] = []
    try:
        async with anyio.create_task_group() as group:
            group.start_soon(anyio.sleep_forever)
            group.start_soon(fails)
    except* ValueError as found:
        errors = [type(error).__name__ for error in found.exceptions]
    async with anyio.create_task_group() as group:
        value = await group.start(begin)
    return [said, errors, value]


@table.works(
    "create_task_group CancelScope", 24, "What is cancelled is cancelled in the same order everywhere."
)
async def cancelling_a_group() -> int:
    said: list[str] = []

    async def leaf(name: str) -> None:
        with anyio.CancelScope():
            try:
                await anyio.sleep_forever()
            finally:
                said.append(name)

    async def branch(name: str) -> None:
        async with anyio.create_task_group() as group:
            for index in range(4):
                group.start_soon(leaf, f"{name}.{index}")

    async with anyio.create_task_group() as group:
        for index in range(6):
            group.start_soon(branch, str(index))
        await anyio.sleep(1)
        group.cancel_scope.cancel()
    await echo(said)
    return len(said)


@table.works("TaskHandle CancelScope", 20)
async def sets_of_handles() -> int:
    async with anyio.create_task_group() as group:
        handles = {group.create_task(_named(str(index)), name=str(index)) for index in range(20)}
        scopes = {anyio.CancelScope(deadline=index) for index in range(20)}
        await echo([handle.name for handle in handles] + [scope.deadline for scope in scopes])
        assert all(isinstance(handle, anyio.TaskHandle) for handle in handles)
    return len(handles)


@table.works("TASK_STATUS_IGNORED", "called")
async def ignored_status() -> str:
    async def begin(*, task_status: anyio.abc.TaskStatus[str] = anyio.TASK_STATUS_IGNORED) -> str:
        task_status.started("nobody")
        return "called"

    return await begin()


@table.works(
    "TaskHandle TaskFailed TaskCancelled TaskNotFinished", ["TaskNotFinished", "a", "TaskCancelled", True]
)
async def task_handles() -> list[Any]:
    said: list[Any] = []
    async with anyio.create_task_group() as group:
        handle = group.create_task(_named("a", 1))
        assert isinstance(handle, anyio.TaskHandle)
        try:
            handle.return_value  # noqa: B018
        except anyio.TaskNotFinished as error:
            said.append(type(error).__name__)
        said.append(await handle)
        cancelled = group.create_task(_named("b", 9))
        cancelled.cancel()
        try:
            await cancelled
        except anyio.TaskFailed as error:
            said += [type(error).__name__, isinstance(error, anyio.TaskCancelled)]
    return said


@table.works("gather amap", [["a", "b"], ["c", "d"]])
async def gathering() -> list[Any]:
    both = await anyio.gather(_named("a", 2), _named("b", 1))
    return [list(both), await anyio.amap(_named, ["c", "d"])]


@table.works("as_completed", ["b", "c", "a"])
async def completing() -> list[str]:
    async with anyio.as_completed(_named("a", 3), _named("b", 1), _named("c", 2)) as handles:
        return [await handle async for handle in handles]


@table.works("CancelScope get_cancelled_exc_class", ["CancelledError", True, "clean"])
async def scopes() -> list[Any]:
    said: list[Any] = []

    async def work(scope: anyio.CancelScope) -> None:
        with scope:
            try:
                await anyio.sleep_forever()
            except anyio.get_cancelled_exc_class() as error:
                said.append(type(error).__name__)
                raise
            finally:
                with anyio.CancelScope(shield=True):
                    clean = await echo("clean")
        said.extend([scope.cancelled_caught, clean])

    scope = anyio.CancelScope()
    async with anyio.create_task_group() as group:
        group.start_soon(work, scope)
        await anyio.sleep(1)
        scope.cancel()
    return said


@table.works(
    "move_on_after move_on_at fail_after fail_at current_effective_deadline current_time",
    [1.0, 2.0, ["TimeoutError", 3.0], ["TimeoutError", 4.0], True],
    "Durable timers; the time is the run's own.",
)
async def deadlines() -> list[Any]:
    said: list[Any] = []
    for limit in (lambda: anyio.move_on_after(1), lambda: anyio.move_on_at(2)):
        with limit():
            await anyio.sleep_forever()
        said.append(anyio.current_time())
    for fail in (lambda: anyio.fail_after(1), lambda: anyio.fail_at(4)):
        try:
            with fail():
                await anyio.sleep_forever()
        except TimeoutError as error:
            said.append([type(error).__name__, anyio.current_time()])
    with anyio.move_on_at(9):
        said.append(anyio.current_effective_deadline() == 9)
    return said


@table.works("sleep sleep_until sleep_forever", [1.0, 3.0, 5.0], "`sleep_forever` ends by cancellation only.")
async def sleeping() -> list[float]:
    await anyio.sleep(1)
    times = [anyio.current_time()]
    await anyio.sleep_until(3)
    times.append(anyio.current_time())
    with anyio.move_on_after(2):
        await anyio.sleep_forever()
    return [*times, anyio.current_time()]


@table.works(
    "get_current_task get_running_tasks TaskInfo",
    [True, ["anyio.get_current_task", "child"], True],
    "Those of this run. `TaskInfo.id` is an address: do not let it leave the run.",
)
async def looking_at_tasks() -> list[Any]:
    async with anyio.create_task_group() as group:
        group.start_soon(_named, "a", 1, name="child")
        names = sorted(task.name or "" for task in anyio.get_running_tasks())
        current = anyio.get_current_task()
    return [isinstance(current, anyio.TaskInfo), names, current.name in names]


@table.works("wait_all_tasks_blocked", "waiting", "Looks again every 0.1 s, by a durable timer.")
async def blocked() -> str:
    event, said = anyio.Event(), list[str]()

    async def wait() -> None:
        said.append("waiting")
        await event.wait()

    async with anyio.create_task_group() as group:
        group.start_soon(wait)
        await anyio.wait_all_tasks_blocked()
        event.set()
    return said[0]


@table.works(
    "Future FutureNotFinished FutureAlreadyFinished FutureFailed FutureCancelled",
    ["FutureNotFinished", "a", "FutureAlreadyFinished", "FutureFailed", "FutureCancelled"],
)
async def futures() -> list[str]:
    said: list[str] = []
    future: anyio.Future[str] = anyio.Future()
    failed: anyio.Future[str] = anyio.Future()
    cancelled: anyio.Future[str] = anyio.Future()
    try:
        future.return_value  # noqa: B018
    except anyio.FutureNotFinished as error:
        said.append(type(error).__name__)

    async def finish() -> None:
        await anyio.sleep(1)
        future.return_value = "a"

    async with anyio.create_task_group() as group:
        group.start_soon(finish)
        said.append(await future)
    try:
        future.return_value = "b"
    except anyio.FutureAlreadyFinished as error:
        said.append(type(error).__name__)
    failed.exception = ValueError("no")
    cancelled.cancel()
    for one in (failed, cancelled):
        try:
            await one
        except (anyio.FutureFailed, anyio.FutureCancelled) as error:
            said.append(type(error).__name__)
    return said


@table.raises("run", "already running asyncio", "A loop runs already, as in any coroutine: `await` instead.")
async def running() -> str:
    return (await refused(lambda: anyio.run(_named, "a"))).lower()


# --- synchronisation --------------------------------------------------------------------------------------------------


@table.works("Event EventStatistics", [["a", "b"], 2])
async def events() -> list[Any]:
    event, said = anyio.Event(), list[str]()

    async def wait(name: str) -> None:
        await event.wait()
        said.append(name)

    async with anyio.create_task_group() as group:
        group.start_soon(wait, "a")
        group.start_soon(wait, "b")
        await anyio.sleep(1)
        statistics = event.statistics()
        assert isinstance(statistics, anyio.EventStatistics)
        event.set()
    return [said, statistics.tasks_waiting]


@table.works("Lock LockStatistics WouldBlock", [["a in", "a out", "b in", "b out"], True, "WouldBlock"])
async def locks() -> list[Any]:
    lock, said = anyio.Lock(), list[str]()

    async def enter(name: str) -> None:
        async with lock:
            said.append(f"{name} in")
            await anyio.sleep(1)
            said.append(f"{name} out")

    async with anyio.create_task_group() as group:
        group.start_soon(enter, "a")
        group.start_soon(enter, "b")
        await anyio.sleep(0.5)
        statistics, refusal = lock.statistics(), ""
        assert isinstance(statistics, anyio.LockStatistics)
        try:
            lock.acquire_nowait()
        except anyio.WouldBlock as error:
            refusal = type(error).__name__
    return [said, statistics.locked, refusal]


@table.works("Condition ConditionStatistics", [["a", "b"], 2])
async def conditions() -> list[Any]:
    condition, said = anyio.Condition(), list[str]()

    async def wait(name: str) -> None:
        async with condition:
            await condition.wait()
            said.append(name)

    async with anyio.create_task_group() as group:
        group.start_soon(wait, "a")
        group.start_soon(wait, "b")
        await anyio.sleep(1)
        statistics = condition.statistics()
        assert isinstance(statistics, anyio.ConditionStatistics)
        async with condition:
            condition.notify_all()
    return [said, statistics.tasks_waiting]


@table.works("Semaphore SemaphoreStatistics CapacityLimiter CapacityLimiterStatistics", [2, 0, 2, 2])
async def semaphores() -> list[int]:
    semaphore, limiter, found = anyio.Semaphore(2), anyio.CapacityLimiter(2), list[int]()
    for gate in (semaphore, limiter):
        inside = most = 0

        async def enter(gate: Any = gate) -> None:
            nonlocal inside, most
            async with gate:
                inside += 1
                most = max(most, inside)
                await anyio.sleep(1)
                inside -= 1

        async with anyio.create_task_group() as group:
            for _ in range(5):
                group.start_soon(enter)
        found.append(most)
    waiting, limits = semaphore.statistics(), limiter.statistics()
    assert isinstance(waiting, anyio.SemaphoreStatistics)
    assert isinstance(limits, anyio.CapacityLimiterStatistics)
    return [found[0], waiting.tasks_waiting, found[1], int(limits.total_tokens)]


@table.works("ResourceGuard BusyResourceError", "BusyResourceError")
async def resource_guards() -> str:
    guard = anyio.ResourceGuard()
    with guard:
        try:
            with guard:
                pass
        except anyio.BusyResourceError as error:
            return type(error).__name__
    return ""


@table.works(
    "create_memory_object_stream EndOfStream ClosedResourceError BrokenResourceError aclose_forcefully",
    [[0, 1, 2], "EndOfStream", "ClosedResourceError", "BrokenResourceError"],
)
async def memory_streams() -> list[Any]:
    sender, receiver = anyio.create_memory_object_stream[int](1)

    async def send() -> None:
        async with sender:
            for value in range(3):
                await anyio.sleep(1)
                await sender.send(value)

    said: list[Any] = []
    async with anyio.create_task_group() as group:
        group.start_soon(send)
        said.append([await receiver.receive() for _ in range(3)])
    other_sender, other_receiver = anyio.create_memory_object_stream[int](1)
    await anyio.aclose_forcefully(other_receiver)
    for work in (receiver.receive, lambda: sender.send(1), lambda: other_sender.send(1)):
        try:
            await work()
        except (anyio.EndOfStream, anyio.ClosedResourceError, anyio.BrokenResourceError) as error:
            said.append(type(error).__name__)
    receiver.close()
    other_sender.close()
    return said


@table.works(
    "IncompleteRead DelimiterNotFound",
    ["line", "DelimiterNotFound", "IncompleteRead"],
    "What buffered streams raise; over memory streams they work.",
)
async def buffered() -> list[str]:
    sender, receiver = anyio.create_memory_object_stream[bytes](5)
    stream = anyio.streams.buffered.BufferedByteReceiveStream(receiver)
    await sender.send(b"line\nno delimiter")
    said = [(await stream.receive_until(b"\n", 10)).decode()]
    sender.close()
    for work in (lambda: stream.receive_until(b"\n", 5), lambda: stream.receive_exactly(100)):
        try:
            await work()
        except (anyio.DelimiterNotFound, anyio.IncompleteRead) as error:
            said.append(type(error).__name__)
    await stream.aclose()
    return said


# --- typing and mixins ------------------------------------------------------------------------------------------------


@table.works("AsyncContextManagerMixin ContextManagerMixin", ["enter", "exit", "enter", "exit"])
async def mixins() -> list[str]:
    from collections.abc import AsyncGenerator, Generator
    from contextlib import asynccontextmanager, contextmanager

    said: list[str] = []

    class Plain(anyio.ContextManagerMixin):
        @contextmanager
        def __contextmanager__(self) -> Generator[None]:
            said.append("enter")
            yield
            said.append("exit")

    class Async(anyio.AsyncContextManagerMixin):
        @asynccontextmanager
        async def __asynccontextmanager__(self) -> AsyncGenerator[None]:
            said.append("enter")
            yield
            said.append("exit")

    with Plain():
        pass
    async with Async():
        await anyio.sleep(1)
    return said


@table.works(
    "TypedAttributeSet TypedAttributeProvider TypedAttributeLookupError typed_attribute",
    ["a", "TypedAttributeLookupError"],
)
async def typed_attributes() -> list[str]:
    class Attributes(anyio.TypedAttributeSet):
        name: str = anyio.typed_attribute()
        missing: str = anyio.typed_attribute()

    class Provider(anyio.TypedAttributeProvider):
        @property
        def extra_attributes(self) -> Any:
            return {Attributes.name: lambda: "a"}

    try:
        Provider().extra(Attributes.missing)
    except anyio.TypedAttributeLookupError as error:
        return [Provider().extra(Attributes.name), type(error).__name__]
    return []


@table.works("get_all_backends", True)
async def backends() -> bool:
    return "asyncio" in anyio.get_all_backends()


@table.works(
    "get_available_backends", True, "What is installed: another worker may answer otherwise.", since=(3, 11)
)
async def available_backends() -> bool:
    return "asyncio" in anyio.get_available_backends()


# --- the world outside ------------------------------------------------------------------------------------------------


@table.raises(
    "Path",
    _ACTIVITY,
    "What looks at the disk. Parts of a path (`/`, `name`, `with_suffix`) can be computed.",
)
async def paths() -> str:
    assert str(anyio.Path("a") / "b.txt") == "a/b.txt"
    return await _all_refused(anyio.Path("x").read_text, anyio.Path("x").exists)


@table.raises(
    "open_file TemporaryFile NamedTemporaryFile TemporaryDirectory mkdtemp mkstemp gettempdir gettempdirb",
    _ACTIVITY,
)
async def files() -> str:
    async def enter(manager: Any) -> None:
        async with manager:
            pass

    return await _all_refused(
        lambda: anyio.open_file("x"),
        lambda: enter(anyio.TemporaryFile()),
        lambda: enter(anyio.NamedTemporaryFile()),
        lambda: enter(anyio.TemporaryDirectory()),
        anyio.mkdtemp,
        anyio.mkstemp,
        anyio.gettempdir,
        anyio.gettempdirb,
    )


@table.raises("SpooledTemporaryFile", _ACTIVITY, "When it outgrows the memory.")
async def spooled() -> str:
    async with anyio.SpooledTemporaryFile(max_size=3) as file:
        await file.write(b"abc")
    file = anyio.SpooledTemporaryFile(max_size=3)
    return await _all_refused(lambda: file.write(b"abcd"))


@table.raises("wrap_file AsyncFile", _ACTIVITY, "The methods of the file that it gives.")
async def wrapping_files() -> str:
    import io

    file = anyio.wrap_file(io.StringIO("text"))
    assert isinstance(file, anyio.AsyncFile)
    return await _all_refused(file.read)


@table.raises(
    "connect_tcp connect_unix create_tcp_listener create_unix_listener create_udp_socket create_connected_udp_socket "
    "create_unix_datagram_socket create_connected_unix_datagram_socket getaddrinfo getnameinfo",
    _ACTIVITY,
)
async def sockets() -> str:
    return await _all_refused(
        lambda: anyio.connect_tcp("localhost", 1),
        lambda: anyio.connect_unix("/nowhere"),
        lambda: anyio.create_tcp_listener(local_port=0),
        lambda: anyio.create_unix_listener("/nowhere"),
        lambda: anyio.create_udp_socket(local_host="localhost"),
        lambda: anyio.create_connected_udp_socket("localhost", 1),
        lambda: anyio.create_unix_datagram_socket(local_path="/nowhere"),
        lambda: anyio.create_connected_unix_datagram_socket("/nowhere"),
        lambda: anyio.getaddrinfo("localhost", 1),
        lambda: anyio.getnameinfo(("127.0.0.1", 1)),
    )


@table.raises("TCPConnectable UNIXConnectable as_connectable", _ACTIVITY, "When they connect.")
async def connectables() -> str:
    return await _all_refused(
        anyio.TCPConnectable("localhost", 1).connect,
        anyio.UNIXConnectable("/nowhere").connect,
        anyio.as_connectable(("localhost", 1)).connect,
    )


class _Descriptor:
    def fileno(self) -> int:
        return 0


@table.raises("wait_readable wait_writable wait_socket_readable wait_socket_writable", _ACTIVITY)
async def descriptors() -> str:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # two of them are deprecated
        return await _all_refused(
            lambda: anyio.wait_readable(0),
            lambda: anyio.wait_writable(0),
            lambda: anyio.wait_socket_readable(_Descriptor()),  # type: ignore[arg-type]
            lambda: anyio.wait_socket_writable(_Descriptor()),  # type: ignore[arg-type]
        )


@table.raises("open_process run_process", _ACTIVITY)
async def processes() -> str:
    return await _all_refused(lambda: anyio.open_process("true"), lambda: anyio.run_process("true"))


@table.raises("open_signal_receiver", "belong to the worker")
async def signals() -> str:
    import signal

    def receive() -> None:
        with anyio.open_signal_receiver(signal.SIGUSR1):
            pass

    return await refused(receive)


table.has_no_use(
    "ConnectionFailed NoEventLoopError RunFinishedError BrokenWorkerInterpreter BrokenWorkerProcess notify_closing",
    "For connections, threads and processes, which a workflow does not have.",
)

# --- modules ----------------------------------------------------------------------------------------------------------

to_thread = Module(name="anyio.to_thread")
from_thread = Module(name="anyio.from_thread")
to_process = Module(name="anyio.to_process")
lowlevel = Module(name="anyio.lowlevel")
cached = Module(name="anyio.functools")
iterated = Module(name="anyio.itertools")
memory = Module(name="anyio.streams.memory")
buffering = Module(name="anyio.streams.buffered")
stapled = Module(name="anyio.streams.stapled")
text = Module(name="anyio.streams.text")
file_streams = Module(name="anyio.streams.file")


@to_thread.raises("run_sync", _ACTIVITY)
async def threads() -> str:
    return await _all_refused(lambda: anyio.to_thread.run_sync(len, ""))


to_thread.has_no_use("current_default_thread_limiter", "A workflow has no threads.")


@to_process.raises("run_sync", _ACTIVITY)
async def worker_processes() -> str:
    return await _all_refused(lambda: anyio.to_process.run_sync(len, ""))


to_process.has_no_use("current_default_process_limiter process_worker", "A workflow has no processes.")


@from_thread.raises("run run_sync check_cancelled", "worker thread", "A workflow is no worker thread.")
async def from_threads() -> str:
    texts = [
        await refused(lambda: anyio.from_thread.run(_named, "a")),
        await refused(lambda: anyio.from_thread.run_sync(len, "")),
        await refused(anyio.from_thread.check_cancelled),
    ]
    assert all("worker thread" in text for text in texts), texts
    return texts[0]


@from_thread.raises("start_blocking_portal BlockingPortalProvider", "threads")
async def portals() -> str:
    def start() -> None:
        with anyio.from_thread.start_blocking_portal():
            pass

    def provide() -> None:
        with anyio.from_thread.BlockingPortalProvider():
            pass

    texts = [await refused(start), await refused(provide)]
    assert all("ForbiddenInWorkflow" in found for found in texts), texts
    return texts[0]


from_thread.has_no_use("BlockingPortal", "For other threads to reach in: send the workflow a signal.")


@lowlevel.works("checkpoint checkpoint_if_cancelled cancel_shielded_checkpoint", ["a", "b", "c"])
async def checkpoints() -> list[str]:
    said: list[str] = []

    async def say() -> None:
        said.append("b")

    async with anyio.create_task_group() as group:
        group.start_soon(say)
        said.append("a")
        await anyio.lowlevel.checkpoint_if_cancelled()
        await anyio.lowlevel.checkpoint()
        await anyio.lowlevel.cancel_shielded_checkpoint()
        said.append("c")
    return said


@lowlevel.works("RunVar RunvarToken current_token EventLoopToken", ["nobody", "a", "nobody", True])
async def run_variables() -> list[Any]:
    variable: anyio.lowlevel.RunVar[str] = anyio.lowlevel.RunVar("who", "nobody")
    said: list[Any] = [variable.get()]
    token = variable.set("a")
    assert isinstance(token, anyio.lowlevel.RunvarToken)
    said.append(variable.get())
    variable.reset(token)
    same = anyio.lowlevel.current_token() == anyio.lowlevel.current_token()
    assert isinstance(anyio.lowlevel.current_token(), anyio.lowlevel.EventLoopToken)
    return [*said, variable.get(), same]


@cached.works(
    "cache lru_cache AsyncLRUCacheWrapper AsyncCacheInfo AsyncCacheParameters reduce", [["a", "a"], 1, "abc"]
)
async def caches() -> list[Any]:
    calls = 0

    async def slow(value: str) -> str:
        nonlocal calls
        calls += 1
        return await _named(value, 1)

    wrapped = anyio.functools.lru_cache(maxsize=3)(slow)
    assert isinstance(wrapped, anyio.functools.AsyncLRUCacheWrapper)
    both = [await wrapped("a"), await wrapped("a")]
    assert isinstance(wrapped.cache_info(), anyio.functools.AsyncCacheInfo)
    parameters: anyio.functools.AsyncCacheParameters = wrapped.cache_parameters()
    assert parameters["maxsize"] == 3
    assert anyio.functools.cache(slow) is not None

    async def add(one: str, other: str) -> str:
        return one + await _named(other, 1)

    return [both, calls, await anyio.functools.reduce(add, ["a", "b", "c"])]


@iterated.works(" ".join(anyio.itertools.__all__), [3, ["a0", "a1", "b0", "b1"]])
async def iterators() -> list[Any]:
    async def names() -> Any:
        for name in "ab":
            await anyio.sleep(1)
            yield name

    pairs = [f"{name}{index}" async for name, index in anyio.itertools.product(names(), [0, 1])]
    firsts = [each async for each in anyio.itertools.islice(anyio.itertools.cycle(names()), 3)]
    return [len(firsts), pairs]


@memory.works(
    "MemoryObjectReceiveStream MemoryObjectSendStream MemoryObjectStreamStatistics",
    [True, True, 1],
    "Make them by `create_memory_object_stream`.",
)
async def classes_of_memory_streams() -> list[Any]:
    sender, receiver = anyio.create_memory_object_stream[int](1)
    sender.send_nowait(1)
    statistics = sender.statistics()
    assert isinstance(statistics, anyio.streams.memory.MemoryObjectStreamStatistics)
    kinds = [
        isinstance(receiver, anyio.streams.memory.MemoryObjectReceiveStream),
        isinstance(sender, anyio.streams.memory.MemoryObjectSendStream),
    ]
    sender.close()
    receiver.close()
    return [*kinds, statistics.current_buffer_used]


def _pipe() -> anyio.streams.stapled.StapledObjectStream[bytes]:
    sender, receiver = anyio.create_memory_object_stream[bytes](5)
    return anyio.streams.stapled.StapledObjectStream(sender, receiver)


@buffering.works("BufferedByteReceiveStream BufferedByteStream", ["ab", "cd"], "Over memory streams.")
async def buffered_streams() -> list[str]:
    one = anyio.streams.buffered.BufferedByteStream(_pipe())  # type: ignore[arg-type]
    await one.send(b"abcd")
    said = [(await one.receive_exactly(2)).decode()]
    other = anyio.streams.buffered.BufferedByteReceiveStream(one)
    said.append((await other.receive_exactly(2)).decode())
    await one.aclose()
    return said


buffering.has_no_use("BufferedConnectable", "For connections.")


@stapled.works("StapledObjectStream StapledByteStream", ["a", "b"], "Over memory streams.")
async def stapled_streams() -> list[str]:
    one = _pipe()
    await one.send(b"a")
    said = [(await one.receive()).decode()]
    sender, receiver = anyio.create_memory_object_stream[bytes](5)
    other = anyio.streams.stapled.StapledByteStream(
        sender,  # type: ignore[arg-type]
        anyio.streams.buffered.BufferedByteReceiveStream(receiver),
    )
    await other.send(b"b")
    said.append((await other.receive()).decode())
    await one.aclose()
    await other.aclose()
    return said


stapled.has_no_use("MultiListener", "For connections.")


@text.works("TextReceiveStream TextSendStream TextStream", ["ä", "ö"], "Over memory streams.")
async def text_streams() -> list[str]:
    pipe = _pipe()
    one = anyio.streams.text.TextStream(pipe)  # type: ignore[arg-type]
    await one.send("ä")
    said = [await one.receive()]
    sender = anyio.streams.text.TextSendStream(pipe)
    receiver = anyio.streams.text.TextReceiveStream(pipe)
    await sender.send("ö")
    said.append(await receiver.receive())
    await one.aclose()
    return said


text.has_no_use("TextConnectable", "For connections.")


@file_streams.raises("FileReadStream FileWriteStream", _ACTIVITY)
async def file_stream() -> str:
    return await _all_refused(
        lambda: anyio.streams.file.FileReadStream.from_path("x"),
        lambda: anyio.streams.file.FileWriteStream.from_path("x"),
    )


file_streams.has_no_use("FileStreamAttribute", "For files.")
Module(name="anyio.streams.tls").has_no_use(
    "TLSAttribute TLSConnectable TLSListener TLSStream", "For connections, which a workflow cannot open."
)
Module(name="anyio.to_interpreter").has_no_use(
    "current_default_interpreter_limiter run_sync", "A workflow has no interpreters."
)
Module(name="anyio.abc").has_no_use(
    " ".join(name for name in dir(anyio.abc) if not name.startswith("_")),
    "Types, for annotations.",
)
