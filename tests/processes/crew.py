"""The worker processes of a test. They end with it, however it ends; only processes that it started are signalled."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import sys
import time
from collections.abc import Callable
from pathlib import Path
from types import TracebackType
from typing import Any

from tests.processes import tally

ROOT = Path(__file__).resolve().parent.parent.parent
PATIENCE_SECONDS = 60.0


class Hand:
    """One worker process."""

    def __init__(self, process: asyncio.subprocess.Process, log: Path) -> None:
        self.process = process
        self.log = log

    @property
    def pid(self) -> int:
        return self.process.pid

    def is_ready(self) -> bool:
        return self.log.with_name(f"ready-{self.pid}").exists()

    async def kill(self) -> None:
        self.process.kill()
        await self.process.wait()

    async def drain(self) -> None:
        """SIGTERM, and it must go of its own will."""
        self.process.terminate()
        async with asyncio.timeout(PATIENCE_SECONDS):
            code = await self.process.wait()
        assert code == 0, f"worker {self.pid} ended with {code}:\n{self.said()}"

    def pause(self) -> None:
        os.kill(self.pid, signal.SIGSTOP)

    def resume(self) -> None:
        os.kill(self.pid, signal.SIGCONT)

    def said(self) -> str:
        return self.log.read_text(errors="replace")[-4000:]


class Crew:
    """Starts worker processes that all do the same work. ``killed``: pid -> when it was killed."""

    def __init__(self, url: str, folder: Path, **told: Any) -> None:
        self.url = url
        self.folder = folder
        self.told = told
        self.tally = tally.Tally(folder / "tally.txt")
        self.hands: list[Hand] = []
        self.killed: dict[int, int] = {}
        self._started = 0

    async def __aenter__(self) -> Crew:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for hand in self.hands:
            if hand.process.returncode is None:
                await hand.kill()
        if error is not None:
            for path in sorted(self.folder.glob("worker-*.log")):
                sys.stdout.write(f"--- {path.name}\n{path.read_text(errors='replace')[-3000:]}\n")

    async def start(
        self, count: int = 1, *, at_once: bool = False, release: Path = ROOT, **told: Any
    ) -> list[Hand]:
        """Returns when they have a connection, and would hear SIGTERM; ``at_once``: before.

        ``release``: the folder that holds the package that they run.
        """
        hands = [await self._start(told, release) for _ in range(count)]
        if not at_once:
            await self._are_ready(hands)
        return hands

    async def _are_ready(self, hands: list[Hand]) -> None:
        """Or have ended already: some are to die at once."""
        async with asyncio.timeout(PATIENCE_SECONDS):
            for hand in hands:
                while hand.process.returncode is None and not hand.is_ready():  # noqa: ASYNC110
                    await asyncio.sleep(0.005)

    async def _start(self, told: dict[str, Any], release: Path) -> Hand:
        self._started += 1
        log = self.folder / f"worker-{self._started:02}.log"
        words = json.dumps({"url": self.url, **self.told, **told})
        with log.open("wb") as file:
            process = await asyncio.create_subprocess_exec(
                sys.executable,
                "-m",
                "tests.processes.work",
                words,
                cwd=release,
                env={**os.environ, tally.VARIABLE: str(self.tally.path)},
                stdin=asyncio.subprocess.DEVNULL,
                stdout=file,
                stderr=file,
            )
        hand = Hand(process, log)
        self.hands.append(hand)
        return hand

    async def kill(self, hand: Hand) -> None:
        self.hands.remove(hand)
        self.killed[hand.pid] = time.time_ns()
        await hand.kill()

    async def drain(self, hand: Hand) -> None:
        self.hands.remove(hand)
        await hand.drain()

    async def lines(self, count: int) -> None:
        """Wait until the tally has so many lines. Fails at once when a worker ends that nobody ended."""
        await self.until(lambda: self.tally.look() >= count)

    async def until(self, condition: Callable[[], bool]) -> None:
        async with asyncio.timeout(PATIENCE_SECONDS):
            while not condition():
                self.look_after()
                await asyncio.sleep(0.005)  # what other processes do: there is nothing else to wait on

    def complaints(self, expected: str | None = None) -> list[str]:
        """What the workers' logs tell of mistakes of the engine's own: errors, and what its audit had to mend.

        ``expected``: what an error says that is none.
        """
        lines = [line for path in self.folder.glob("worker-*.log") for line in path.read_text().splitlines()]
        found = [line for line in lines if " ERROR " in line or "the audit found" in line]
        return [line for line in found if expected is None or expected not in line]

    def look_after(self) -> None:
        """No worker may have ended by itself."""
        for hand in self.hands:
            code = hand.process.returncode
            assert code is None, f"worker {hand.pid} ended by itself with {code}:\n{hand.said()}"
