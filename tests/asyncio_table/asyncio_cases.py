"""What the public names of asyncio do in a workflow."""

from __future__ import annotations

import asyncio
import concurrent.futures
from functools import partial
from typing import Any

from tests.asyncio_table.table import Module, echo, refused

table = Module(name="asyncio")


async def _named(value: str, seconds: float = 0) -> str:
    await asyncio.sleep(seconds)
    return value


# --- tasks ------------------------------------------------------------------------------------------------------------


@table.works("sleep", 60.0, "A durable timer; `sleep(0)` lets others run and leaves nothing in the history.")
async def sleeping() -> float:
    began = asyncio.get_running_loop().time()
    await asyncio.sleep(0)
    await asyncio.sleep(60)
    return asyncio.get_running_loop().time() - began


@table.works("create_task", ["Task-2", "named", "a", "b"])
async def making_tasks() -> list[str]:
    first, second = asyncio.create_task(_named("a")), asyncio.create_task(_named("b"), name="named")
    return [first.get_name(), second.get_name(), await first, await second]


@table.works(
    "Task", [True, "a"], "To ask `isinstance`. Make tasks by `create_task`: only those have the run's order."
)
async def the_class_task() -> list[Any]:
    task = asyncio.create_task(_named("a"))
    return [isinstance(task, asyncio.Task), await task]


@table.works("TaskGroup", ["a", "b", ["ValueError"], True])
async def task_groups() -> list[Any]:
    async with asyncio.TaskGroup() as group:
        first, second = group.create_task(_named("a", 2)), group.create_task(_named("b", 1))
    result: list[Any] = [first.result(), second.result()]

    async def fails() -> None:
        await asyncio.sleep(1)
        raise ValueError

    slow: asyncio.Task[str] | None = None
    try:
        async with asyncio.TaskGroup() as group:
            slow = group.create_task(_named("never", 100))
            group.create_task(fails())
    except* ValueError as errors:
        result.append([type(error).__name__ for error in errors.exceptions])
    assert slow is not None
    return [*result, slow.cancelled()]


@table.works("gather", [["a", "b"], ["c", "ValueError"]])
async def gathering() -> list[Any]:
    async def fails() -> None:
        raise ValueError

    both = await asyncio.gather(_named("a", 2), _named("b", 1))
    some = await asyncio.gather(_named("c"), fails(), return_exceptions=True)
    return [both, [some[0], type(some[1]).__name__]]


@table.works(
    "wait ALL_COMPLETED FIRST_COMPLETED FIRST_EXCEPTION",
    [["0"], 5, ["error"], 4, 4],
    "The sets it gives iterate in the same order in every process.",
)
async def waiting() -> list[Any]:
    async def fails() -> str:
        await asyncio.sleep(1.5)
        raise ValueError

    tasks = {asyncio.create_task(_named(str(index), index), name=str(index)) for index in range(5)}
    tasks.add(asyncio.create_task(fails(), name="error"))
    done, pending = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
    result: list[Any] = [[task.get_name() for task in done], len(pending)]
    done, pending = await asyncio.wait(pending, return_when=asyncio.FIRST_EXCEPTION)
    result += [[task.get_name() for task in done if task.exception()], len(pending) + 1]
    done, _ = await asyncio.wait({*done, *pending}, return_when=asyncio.ALL_COMPLETED)
    return [*result, len([task for task in done if task.exception() is None])]


@table.works("wait all_tasks", 40)
async def iterating_over_sets_of_tasks() -> int:
    """What the history holds is in the order of these sets."""
    done, _ = await asyncio.wait(
        {asyncio.create_task(_named(str(index)), name=str(index)) for index in range(20)}
    )
    await echo([task.get_name() for task in done])
    rest = [asyncio.create_task(_named(str(index), 1)) for index in range(19)]
    await asyncio.sleep(0)
    await echo([task.get_name() for task in asyncio.all_tasks()])
    await asyncio.wait(rest)
    return len(done) + len(rest) + 1


@table.works("TaskGroup", 20, "What is cancelled when one fails is cancelled in the same order everywhere.")
async def aborting_a_group() -> int:
    said: list[str] = []

    async def wait(name: str) -> None:
        try:
            await asyncio.sleep(100)
        finally:
            said.append(name)

    async def fails() -> None:
        await asyncio.sleep(1)
        raise ValueError

    try:
        async with asyncio.TaskGroup() as group:
            for index in range(20):
                group.create_task(wait(str(index)))
            group.create_task(fails())
    except* ValueError:
        pass
    await echo(said)
    return len(said)


@table.works("as_completed", 20, "The same for a set of tasks.")
async def completing_a_set() -> int:
    tasks = {asyncio.create_task(_named(str(index))) for index in range(20)}
    order = [await each for each in asyncio.as_completed(tasks)]
    await echo(order)
    return len(order)


@table.works("gather", 20, "Its futures may stand in sets.")
async def a_set_of_gatherings() -> int:
    names = {asyncio.gather(_named(str(index))): str(index) for index in range(20)}
    await echo([names[each] for each in set(names)])
    await asyncio.wait(names)
    return len(names)


@table.works("wait", ["b", "a"], "Answers of activities come in the order of history.")
async def waiting_for_activities() -> list[str]:
    first, second = asyncio.create_task(_named("a", 5)), asyncio.create_task(echo("b"))
    done, _ = await asyncio.wait([first, second], return_when="FIRST_COMPLETED")
    return [done.pop().result(), await first]


@table.works(
    "as_completed", ["b", "c", "a"], "Not with a *set* of bare coroutines, which has no order: raises."
)
async def completing() -> list[str]:
    coroutines = [_named("a", 3), _named("b", 1), _named("c", 2)]
    return [await each for each in asyncio.as_completed(coroutines)]


@table.works("as_completed", ["b", "a"], "As an async iterator too.", since=(3, 13))
async def completing_with_async_for() -> list[str]:
    found = []
    async for task in asyncio.as_completed([_named("a", 3), _named("b", 1)]):  # type: ignore[attr-defined, unused-ignore]
        found.append(await task)
    return found


@table.works("wait_for", ["a", "TimeoutError"])
async def waiting_for() -> list[str]:
    result = [await asyncio.wait_for(_named("a", 1), 2)]
    try:
        await asyncio.wait_for(_named("b", 3), 2)
    except TimeoutError as error:
        result.append(type(error).__name__)
    return result


@table.works("timeout timeout_at Timeout TimeoutError", [True, 5.0, True, 10.0])
async def timing_out() -> list[Any]:
    loop = asyncio.get_running_loop()
    result: list[Any] = []
    for limit in (asyncio.timeout(5), asyncio.timeout_at(10)):
        assert isinstance(limit, asyncio.Timeout)
        try:
            async with limit:
                await asyncio.Event().wait()
        except asyncio.TimeoutError:  # noqa: UP041 - it is what is looked at
            result += [limit.expired(), loop.time()]
    return result


@table.works("shield CancelledError", ["cancelled", "a"])
async def shielding() -> list[str]:
    inner = asyncio.create_task(_named("a", 2))
    outer = asyncio.create_task(asyncio.wait_for(asyncio.shield(inner), 10))
    await asyncio.sleep(1)
    outer.cancel()
    try:
        await outer
    except asyncio.CancelledError:
        return ["cancelled", await inner]
    return []


@table.works("current_task all_tasks", [True, ["asyncio.current_task", "child"]], "Those of this run.")
async def looking_at_tasks() -> list[Any]:
    child = asyncio.create_task(_named("a"), name="child")
    names = sorted(task.get_name() for task in asyncio.all_tasks())
    await child
    return [asyncio.current_task() in asyncio.all_tasks(), names]


@table.works("ensure_future", [True, "a"])
async def ensuring() -> list[Any]:
    future = asyncio.ensure_future(_named("a"))
    return [asyncio.ensure_future(future) is future, await future]


@table.works(
    "Future isfuture InvalidStateError",
    [True, "a", "InvalidStateError"],
    "Make futures by `get_running_loop().create_future()`: one that is made by calling the class hashes by its "
    "address, so a set of such has no order.",
)
async def futures() -> list[Any]:
    future = asyncio.get_running_loop().create_future()
    assert isinstance(future, asyncio.Future)
    asyncio.get_running_loop().call_later(1, future.set_result, "a")
    result: list[Any] = [asyncio.isfuture(future), await future]
    try:
        future.set_result("b")
    except asyncio.InvalidStateError as error:
        result.append(type(error).__name__)
    return result


@table.works("iscoroutine iscoroutinefunction", [True, True, False])
async def recognising() -> list[bool]:
    coroutine = _named("a")
    result = [
        asyncio.iscoroutine(coroutine),
        asyncio.iscoroutinefunction(_named),
        asyncio.iscoroutinefunction(len),
    ]
    await coroutine
    return result


# --- the loop ---------------------------------------------------------------------------------------------------------


@table.works(
    "get_running_loop get_event_loop AbstractEventLoop",
    [True, True],
    "The run's own loop. `time`, `call_soon`, `call_later`, `call_at`, `create_task`, `create_future` and the "
    "exception handlers work; whatever does I/O, drives or stops it raises.",
)
async def loops() -> list[bool]:
    loop = asyncio.get_running_loop()
    return [asyncio.get_event_loop() is loop, isinstance(loop, asyncio.AbstractEventLoop)]


@table.works("Handle TimerHandle", [True, True, ["soon", "later"]])
async def handles() -> list[Any]:
    loop, called = asyncio.get_running_loop(), list[str]()
    soon, later = loop.call_soon(called.append, "soon"), loop.call_later(1, called.append, "later")
    loop.call_later(2, called.append, "never").cancel()
    await asyncio.sleep(3)
    return [isinstance(soon, asyncio.Handle), isinstance(later, asyncio.TimerHandle), called]


@table.raises(
    "run Runner", "running event loop", "A loop runs already, as in any coroutine: `await` instead."
)
async def running() -> str:
    coroutine = _named("a")
    try:
        return await refused(lambda: asyncio.run(coroutine)) + await refused(_run_with_runner)
    finally:
        coroutine.close()


def _run_with_runner() -> None:
    coroutine = _named("a")
    try:
        asyncio.Runner().run(coroutine)
    finally:
        coroutine.close()


@table.raises("new_event_loop SelectorEventLoop", "is not available in a workflow")
async def another_loop() -> str:
    texts = [await refused(asyncio.new_event_loop), await refused(asyncio.SelectorEventLoop)]
    assert all("is not available in a workflow" in text for text in texts), texts
    return texts[0]


@table.raises("EventLoop", "is not available in a workflow", since=(3, 13))
async def another_default_loop() -> str:
    return await refused(asyncio.EventLoop)  # type: ignore[attr-defined, unused-ignore]


@table.raises(
    "set_event_loop set_event_loop_policy",
    "is not available in a workflow",
    "The loop belongs to the worker.",
)
async def setting_a_loop() -> str:
    texts = [
        await refused(lambda: asyncio.set_event_loop(None)),
        await refused(lambda: asyncio.set_event_loop_policy(None)),
    ]
    assert all("is not available in a workflow" in text for text in texts), texts
    return texts[0]


@table.raises("set_child_watcher", "is not available in a workflow", until=(3, 13))
async def setting_a_child_watcher() -> str:
    return await refused(lambda: asyncio.set_child_watcher(None))


@table.raises(
    "eager_task_factory create_eager_task_factory", "set_task_factory is not available", since=(3, 12)
)
async def eager_tasks() -> str:
    loop = asyncio.get_running_loop()
    made = asyncio.create_eager_task_factory(asyncio.Task)  # type: ignore[attr-defined, unused-ignore]
    texts = [
        await refused(partial(loop.set_task_factory, factory))
        for factory in (asyncio.eager_task_factory, made)  # type: ignore[attr-defined, unused-ignore]
    ]
    assert texts[0] == texts[1]
    return texts[0]


table.has_no_use(
    "BaseEventLoop AbstractEventLoopPolicy DefaultEventLoopPolicy get_event_loop_policy",
    "How a process makes its loops; a workflow has one already.",
)
table.has_no_use(
    "AbstractChildWatcher FastChildWatcher MultiLoopChildWatcher PidfdChildWatcher SafeChildWatcher "
    "ThreadedChildWatcher get_child_watcher",
    "Subprocesses belong into activities.",
    until=(3, 13),
)

# --- synchronisation --------------------------------------------------------------------------------------------------


@table.works("Lock", ["a in", "a out", "b in", "b out"])
async def locks() -> list[str]:
    lock, said = asyncio.Lock(), list[str]()

    async def enter(name: str) -> None:
        async with lock:
            said.append(f"{name} in")
            await asyncio.sleep(1)
            said.append(f"{name} out")

    await asyncio.gather(enter("a"), enter("b"))
    return said


@table.works("Event", ["a", "b", "set"])
async def events() -> list[str]:
    event, said = asyncio.Event(), list[str]()

    async def wait(name: str) -> None:
        await event.wait()
        said.append(name)

    tasks = [asyncio.create_task(wait("a")), asyncio.create_task(wait("b"))]
    await asyncio.sleep(1)
    event.set()
    await asyncio.wait(tasks)
    return [*said, "set" if event.is_set() else "not set"]


@table.works("Condition", ["a", "b"])
async def conditions() -> list[str]:
    condition, said = asyncio.Condition(), list[str]()

    async def wait(name: str) -> None:
        async with condition:
            await condition.wait()
            said.append(name)

    tasks = [asyncio.create_task(wait("a")), asyncio.create_task(wait("b"))]
    await asyncio.sleep(1)
    async with condition:
        condition.notify_all()
    await asyncio.wait(tasks)
    return said


@table.works("Semaphore BoundedSemaphore", [2, "ValueError"])
async def semaphores() -> list[Any]:
    semaphore, inside, most = asyncio.Semaphore(2), 0, 0

    async def enter() -> None:
        nonlocal inside, most
        async with semaphore:
            inside += 1
            most = max(most, inside)
            await asyncio.sleep(1)
            inside -= 1

    await asyncio.gather(*(enter() for _ in range(5)))
    try:
        asyncio.BoundedSemaphore(1).release()
    except ValueError as error:
        return [most, type(error).__name__]
    return []


@table.works("Barrier BrokenBarrierError", [[0, 1], "BrokenBarrierError"])
async def barriers() -> list[Any]:
    barrier = asyncio.Barrier(2)
    places = await asyncio.gather(barrier.wait(), barrier.wait())
    waiting = asyncio.create_task(barrier.wait())
    await asyncio.sleep(1)
    await barrier.abort()
    try:
        await waiting
    except asyncio.BrokenBarrierError as error:
        return [sorted(places), type(error).__name__]
    return []


@table.works("Queue LifoQueue PriorityQueue", [["b", "a", "c"], ["c", "a", "b"], ["a", "b", "c"]])
async def queues() -> list[list[str]]:
    found = []
    for kind in (asyncio.Queue, asyncio.LifoQueue, asyncio.PriorityQueue):
        queue: asyncio.Queue[str] = kind()

        async def put(queue: asyncio.Queue[str] = queue) -> None:
            for value in "bac":
                await queue.put(value)

        await asyncio.create_task(put())
        found.append([await queue.get() for _ in range(3)])
        for _ in range(3):
            queue.task_done()
        await queue.join()
    return found


@table.works("QueueEmpty QueueFull", ["QueueEmpty", "QueueFull"])
async def queue_errors() -> list[str]:
    queue: asyncio.Queue[int] = asyncio.Queue(1)
    said = []
    try:
        queue.get_nowait()
    except asyncio.QueueEmpty as error:
        said.append(type(error).__name__)
    queue.put_nowait(1)
    try:
        queue.put_nowait(2)
    except asyncio.QueueFull as error:
        said.append(type(error).__name__)
    return said


@table.works("QueueShutDown", ["QueueShutDown"], since=(3, 13))
async def queue_shut_down() -> list[str]:
    queue: asyncio.Queue[int] = asyncio.Queue()
    asyncio.get_running_loop().call_later(1, queue.shutdown)  # type: ignore[attr-defined, unused-ignore]
    try:
        await queue.get()
    except asyncio.QueueShutDown as error:  # type: ignore[attr-defined, unused-ignore]
        return [type(error).__name__]
    return []


# --- streams ----------------------------------------------------------------------------------------------------------


@table.works(
    "StreamReader IncompleteReadError LimitOverrunError",
    ["line\n", "IncompleteReadError", "LimitOverrunError"],
    "As a parser that is fed by hand.",
)
async def reading() -> list[str]:
    reader = asyncio.StreamReader(limit=8)
    reader.feed_data(b"line\nrest")
    reader.feed_eof()
    said = [(await reader.readline()).decode()]
    try:
        await reader.readexactly(10)
    except asyncio.IncompleteReadError as error:
        said.append(type(error).__name__)
    reader = asyncio.StreamReader(limit=8)
    reader.feed_data(b"x" * 20)
    try:
        await reader.readuntil(b"\n")
    except asyncio.LimitOverrunError as error:
        said.append(type(error).__name__)
    return said


@table.raises("open_connection open_unix_connection start_server start_unix_server", "into an activity")
async def connecting() -> str:
    texts = [
        await refused(lambda: asyncio.open_connection("localhost", 1)),
        await refused(lambda: asyncio.open_unix_connection("/nowhere")),
        await refused(lambda: asyncio.start_server(lambda *_: None, "localhost", 0)),
        await refused(lambda: asyncio.start_unix_server(lambda *_: None, "/nowhere")),
    ]
    assert all("is not available in a workflow" in text for text in texts), texts
    return texts[0]


@table.raises("create_subprocess_exec create_subprocess_shell", "into an activity")
async def subprocesses() -> str:
    texts = [
        await refused(lambda: asyncio.create_subprocess_exec("true")),
        await refused(lambda: asyncio.create_subprocess_shell("true")),
    ]
    assert all("is not available in a workflow" in text for text in texts), texts
    return texts[0]


@table.raises("to_thread", "into an activity")
async def threads() -> str:
    return await refused(lambda: asyncio.to_thread(len, ""))


@table.raises("run_coroutine_threadsafe", "send it a signal")
async def from_another_thread() -> str:
    coroutine = _named("a")
    try:
        return await refused(lambda: asyncio.run_coroutine_threadsafe(coroutine, asyncio.get_running_loop()))
    finally:
        coroutine.close()


@table.raises(
    "wrap_future",
    "another thread would finish it",
    "A future of `concurrent.futures`. One of asyncio comes back as it is.",
)
async def wrapping() -> str:
    own = asyncio.get_running_loop().create_future()
    assert asyncio.wrap_future(own) is own
    return await refused(lambda: asyncio.wrap_future(concurrent.futures.Future[int]()))


table.has_no_use(
    "StreamReaderProtocol StreamWriter BaseProtocol BufferedProtocol DatagramProtocol Protocol SubprocessProtocol "
    "BaseTransport DatagramTransport ReadTransport SubprocessTransport Transport WriteTransport AbstractServer Server "
    "SendfileNotAvailableError",
    "Parts of connections, which a workflow cannot open.",
)
