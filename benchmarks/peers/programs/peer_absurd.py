"""Absurd: worker processes that poll every 10 ms; the schema is that of ``absurdctl``.

A fan-out is tasks of a second queue, begun in one step and waited for in another.
"""

# ruff: noqa: D103
from __future__ import annotations

import multiprocessing
import threading
import time
from collections import deque
from collections.abc import Callable
from typing import Any

import psycopg
from absurd_sdk import Absurd
from absurdctl import BUNDLED_SCHEMA_SQL
from job import BACKLOG, HOUR_SECONDS, JOB, LOOK_SECONDS, STEPS, WARM_UP, WIDTH, Readings, check

POLL_SECONDS = 0.01
WORKERS = 4
CLIENTS = 4
"""Threads with a connection each, which start workflows and wait for them."""
BATCH = 10
ASLEEP = "SELECT count(*) FROM absurd.t_default WHERE state = 'sleeping'"


def done_result(app: Absurd, task_id: str, queue: str) -> Any:
    while True:
        found = app.fetch_task_result(task_id, queue_name=queue)
        if found is not None and found.state == "completed":
            return found.result
        if found is not None and found.state in ("failed", "cancelled"):
            raise RuntimeError(f"{task_id}: {found}")
        time.sleep(POLL_SECONDS)


def one_activity(number: int, context: Any) -> int:
    return int(context.step("add", lambda: number + 1))


def ten_in_sequence(number: int, context: Any) -> int:
    for step in range(STEPS):
        number = context.step(f"add-{step}", lambda number=number: number + 1)
    return number


def sleeper(number: int, context: Any) -> None:
    context.sleep_for("sleep", HOUR_SECONDS)


def serve(queue: str, batch: int) -> None:
    app = Absurd(JOB["url"], queue_name=queue)

    def fan_out(number: int, context: Any) -> int:
        def begin() -> list[str]:
            return [str(app.spawn("leaf", number + n, queue="leaves")["task_id"]) for n in range(WIDTH)]

        leaves = context.step("begin", begin)
        return int(context.step("wait", lambda: sum(done_result(app, leaf, "leaves") for leaf in leaves)))

    handlers = {"W1": one_activity, "W2": ten_in_sequence, "W3": fan_out, "W4": one_activity, "W5": sleeper}
    if queue == "leaves":
        handlers = {"leaf": one_activity}
    for name, handler in handlers.items():
        app.register_task(name, queue=queue)(handler)
    app.start_worker(poll_interval=POLL_SECONDS, concurrency=1, batch_size=batch)


def workers() -> list[multiprocessing.Process]:
    if JOB["workload"] == "W3":
        plans = [("default", 1)] * JOB["in_flight"] + [("leaves", BATCH)] * WORKERS
    elif JOB["in_flight"] == 1:
        plans = [("default", 1)]
    else:
        plans = [("default", BATCH)] * WORKERS
    found = [multiprocessing.Process(target=serve, args=plan, daemon=True) for plan in plans]
    for process in found:
        process.start()
    return found


def spawn(app: Absurd, number: int) -> str:
    return str(app.spawn(JOB["workload"], number, queue="default")["task_id"])


def client(readings: Readings, in_flight: int) -> None:
    """Results are taken in the order of the starts: one look a workflow, or few, whatever is in flight."""
    app = Absurd(JOB["url"])
    flying: deque[tuple[int, float, str]] = deque()
    while True:
        while len(flying) < in_flight and (number := readings.next_number()) is not None:
            flying.append((number, time.perf_counter(), spawn(app, number)))
        if not flying:
            return
        number, began, task_id = flying.popleft()
        readings.done(number, began, done_result(app, task_id, "default"))


def main() -> None:
    with psycopg.connect(JOB["url"], autocommit=True) as db:
        db.execute(BUNDLED_SCHEMA_SQL)
    app = Absurd(JOB["url"])
    app.create_queue("default")
    app.create_queue("leaves")
    serving = workers()
    if JOB["workload"] == "W5":
        starts(app)
        return end(serving)
    for number in range(WARM_UP):
        check(number, done_result(app, spawn(app, number), "default"))
    readings = Readings()
    in_threads(client, readings)
    readings.say()
    end(serving)


def starts(app: Absurd) -> None:
    with psycopg.connect(JOB["url"], autocommit=True) as db:

        def asleep() -> int:
            return int(db.execute(ASLEEP).fetchone()[0]) - WARM_UP

        for number in range(WARM_UP):
            spawn(app, number)
        while asleep() < 0:
            time.sleep(LOOK_SECONDS)
        readings = Readings()

        def look() -> None:
            while not readings.all_asleep(asleep()):
                time.sleep(LOOK_SECONDS)

        looking = threading.Thread(target=look)
        looking.start()
        in_threads(starter, readings)
        looking.join()
        readings.say()


def starter(readings: Readings, in_flight: int) -> None:
    """A connection starts one after the other."""
    app = Absurd(JOB["url"])
    while (number := readings.next_number()) is not None:
        while number - readings.asleep > BACKLOG:
            time.sleep(LOOK_SECONDS)
        began = time.perf_counter()
        spawn(app, number)
        readings.done(number, began, None)


def in_threads(work: Callable[[Readings, int], None], readings: Readings) -> None:
    each = max(1, JOB["in_flight"] // CLIENTS)
    clients = [
        threading.Thread(target=work, args=(readings, each)) for _ in range(min(CLIENTS, JOB["in_flight"]))
    ]
    for thread in clients:
        thread.start()
    for thread in clients:
        thread.join()


def end(serving: list[multiprocessing.Process]) -> None:
    for process in serving:
        process.terminate()


if __name__ == "__main__":
    main()
