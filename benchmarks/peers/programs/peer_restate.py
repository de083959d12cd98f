"""Restate: its server, an endpoint in a process of its own, and this process as the client over HTTP."""

# ruff: noqa: D103
from __future__ import annotations

import asyncio
import os
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import aiohttp
from job import JOB, measure, measure_starts

HERE = Path(__file__).parent
NAMES = {"W1": "one_activity", "W2": "ten_in_sequence", "W3": "fan_out", "W4": "one_activity"}
PATIENCE_SECONDS = 40.0


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def server(ports: dict[str, int]) -> subprocess.Popen[bytes]:
    environ = os.environ | {
        "RESTATE_BIND_ADDRESS": f"127.0.0.1:{ports['node']}",
        "RESTATE_ADVERTISED_ADDRESS": f"http://127.0.0.1:{ports['node']}",
        "RESTATE_INGRESS__BIND_ADDRESS": f"127.0.0.1:{ports['ingress']}",
        "RESTATE_ADMIN__BIND_ADDRESS": f"127.0.0.1:{ports['admin']}",
        "RESTATE_LISTEN_MODE": "tcp",
        "RESTATE_DISABLE_TELEMETRY": "true",
        "RESTATE_LOG_FILTER": "error",
        # A sleeper is put away at once: of those that are not, there may be a thousand (W5).
        "RESTATE_WORKER__INVOKER__INACTIVITY_TIMEOUT": "10ms" if JOB["workload"] == "W5" else "1m",
    }
    return subprocess.Popen(
        [JOB["server"], "--base-dir", JOB["folder"]],
        env=environ,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )


def endpoint(port: int) -> subprocess.Popen[bytes]:
    command = [sys.executable, str(HERE / "peer_restate_endpoint.py"), str(port)]
    return subprocess.Popen(command, stdout=subprocess.DEVNULL)


async def registered(http: aiohttp.ClientSession, ports: dict[str, int]) -> None:
    until = time.monotonic() + PATIENCE_SECONDS
    while True:
        try:
            address = f"http://127.0.0.1:{ports['admin']}/deployments"
            async with http.post(address, json={"uri": f"http://127.0.0.1:{ports['endpoint']}"}) as answer:
                if answer.status < 300:
                    return
                problem = await answer.text()
        except aiohttp.ClientError as error:
            problem = str(error)
        if time.monotonic() > until:
            raise RuntimeError(f"the server did not take the endpoint: {problem}")
        await asyncio.sleep(0.1)


async def starts(http: aiohttp.ClientSession, bench: str, end: Callable[[], None]) -> None:
    """Restate calls it a one-way call: it answers when the invocation is in its log."""

    async def start() -> None:
        async with http.post(f"{bench}/sleeper/send", json=0) as answer:
            answer.raise_for_status()
            await answer.read()

    async def asleep() -> int:
        async with http.post(f"{bench}/asleep", json=0) as answer:
            answer.raise_for_status()
            return int(await answer.json())

    await measure_starts(start, asleep, end)


async def main() -> None:
    ports = {name: free_port() for name in ("node", "ingress", "admin", "endpoint")}
    processes = [server(ports), endpoint(ports["endpoint"])]

    def end() -> None:
        for process in processes:
            process.kill()
            process.wait()

    try:
        async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0)) as http:
            await registered(http, ports)
            bench = f"http://127.0.0.1:{ports['ingress']}/bench"
            if JOB["workload"] == "W5":
                await starts(http, bench, end)
            address = f"{bench}/{NAMES[JOB['workload']]}"

            async def run(number: int) -> int:
                async with http.post(address, json=number) as answer:
                    answer.raise_for_status()
                    return int(await answer.json())

            await measure(run)
    finally:
        end()


asyncio.run(main())
