"""durabletask on its in-memory backend, over gRPC in one process: it keeps nothing."""

# ruff: noqa: D103
from __future__ import annotations

import json
import socket
from datetime import timedelta
from typing import Any

from durabletask import task
from durabletask.client import TaskHubGrpcClient
from durabletask.testing import create_test_backend
from durabletask.worker import TaskHubGrpcWorker
from job import HOUR_SECONDS, JOB, STEPS, WIDTH, measure_in_threads, measure_starts_in_threads


def add_one(ctx: Any, number: int) -> int:
    return number + 1


def one_activity(ctx: Any, number: int) -> Any:
    return (yield ctx.call_activity(add_one, input=number))


def ten_in_sequence(ctx: Any, number: int) -> Any:
    for _ in range(STEPS):
        number = yield ctx.call_activity(add_one, input=number)
    return number


def fan_out(ctx: Any, number: int) -> Any:
    return sum((yield task.when_all([ctx.call_activity(add_one, input=number + n) for n in range(WIDTH)])))


sleeping: list[int] = []


def sleeper(ctx: Any, number: int) -> Any:
    sleeping.append(1)
    yield ctx.create_timer(timedelta(seconds=HOUR_SECONDS))


WORKFLOWS: dict[str, Any] = {"W1": one_activity, "W2": ten_in_sequence, "W3": fan_out, "W4": one_activity}


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def main() -> None:
    port = free_port()
    backend = create_test_backend(port=port, max_history_size=1_000_000)
    worker = TaskHubGrpcWorker(host_address=f"127.0.0.1:{port}")
    for one in (one_activity, ten_in_sequence, fan_out, sleeper):
        worker.add_orchestrator(one)
    worker.add_activity(add_one)
    worker.start()
    client = TaskHubGrpcClient(host_address=f"127.0.0.1:{port}")

    if JOB["workload"] == "W5":
        measure_starts_in_threads(
            lambda: client.schedule_new_orchestration(sleeper, input=0), lambda: len(sleeping)
        )
    work = WORKFLOWS[JOB["workload"]]

    def run(number: int) -> Any:
        instance = client.schedule_new_orchestration(work, input=number)
        found = client.wait_for_orchestration_completion(instance, timeout=60)
        assert found is not None and found.serialized_output is not None
        return json.loads(found.serialized_output)

    measure_in_threads(run)
    worker.stop()
    backend.stop()


if __name__ == "__main__":
    main()
