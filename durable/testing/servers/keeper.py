"""The process that keeps one server for tests: it starts it, does what it is told, and removes all of it at the end.

It is a program of its own, run by its file's name with nothing but the standard library, so that it starts at once and
so that a server never outlives the tests, however these end. The ways to end:

- the tests close the pipe, or die: stdin ends (a private server);
- the last test process that shares the server is gone: the kernel drops its lock on the file ``users`` (a shared one);
- this process itself is killed: the server goes with it (Linux), and the folder is swept up by the next keeper.

It speaks lines of JSON. The first line in is the plan, a dictionary:

========== =========================================================================================================
service    the folder's prefix
copies     folder -> place below ``{root}``: programs that the server's user cannot reach where they are
user       whose process the server is to be, or null for ours
environ    more variables for all of the commands
files      name -> text of files in the folder
prepare    commands that are run once
start      the server's command; it stays in the foreground
signals    commands that send it a signal (``KILL``, ``STOP``, ``CONT``, ``INT``), or null for an ordinary kill
clean      commands at the end
farewell   the number of the signal that ends it politely
death      the number of the signal that it gets when this process dies
greeting   "postgres" or "mysql": how to see that it answers
users      the file that those who share it have locked, or null
record     the file to remove when it is gone, or null
========== =========================================================================================================

``{folder}``, ``{data}``, ``{port}``, ``{name}`` and ``{root}`` are filled in. Each line out is ``{"port": ..., "pid":
..., "folder": ...}`` or ``{"error": ...}``. The words that it takes afterwards: start, stop, kill, pause, resume.
"""

from __future__ import annotations

import contextlib
import ctypes
import fcntl
import json
import os
import random
import shutil
import signal
import socket
import struct
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

READY_SECONDS = 60.0
FAREWELL_SECONDS = 20.0


class Trouble(Exception):
    """What goes back as ``error``."""


class Keeper:
    """One server, from its first start to the removal of its folder."""

    def __init__(self, plan: dict[str, Any]) -> None:
        self.plan = plan
        self.folder = _new_folder(plan["service"], plan["user"])
        self.lock = _lock(self.folder / "keeper.lock")
        self.port = _free_port()
        self.root = self.folder / "root"
        self.users: Any = None
        self.server: subprocess.Popen[bytes] | None = None

    def begin(self) -> None:
        for source, place in self.plan["copies"].items():
            shutil.copytree(source, self.root / place, symlinks=True)
        for name, text in self.plan["files"].items():
            path = self.folder / name
            path.write_text(text)
            path.chmod(0o644)  # the folder keeps others out
        for command in self.plan["prepare"]:
            self._run(command)
        self.start()

    def start(self) -> None:
        for last in (False, False, True):
            (self.folder / "log").unlink(missing_ok=True)
            with self._log() as log:
                self.server = subprocess.Popen(
                    self._filled(self.plan["start"]),
                    stdin=subprocess.DEVNULL,
                    stdout=log,
                    stderr=log,
                    env=self._environ(),
                    cwd=self.folder,
                    start_new_session=True,  # Ctrl-C is for the tests
                    preexec_fn=_dies_with_us(self.plan["death"]),  # noqa: PLW1509 - there is one thread
                    **_as_user(self.plan["user"]),
                )
            if self._answers(self.server):
                return
            if last:
                raise Trouble(f"{self.plan['service']} does not start: {self._end_of_log()}")
            self._mend()

    def stop(self) -> None:
        if self.server is not None and self.server.poll() is None:
            self.signal(signal.Signals(self.plan["farewell"]))
            try:
                self.server.wait(FAREWELL_SECONDS)
            except subprocess.TimeoutExpired:
                self.kill()

    def kill(self) -> None:
        if self.server is not None and self.server.poll() is None:
            self.signal(signal.SIGKILL)
            self.server.wait()

    def signal(self, number: signal.Signals) -> None:
        assert self.server is not None
        command = (self.plan["signals"] or {}).get(number.name.removeprefix("SIG"))
        if command is not None:
            self._run(command)
        elif self.server.poll() is not None:
            pass  # there is nobody to hear it
        elif number in (signal.SIGSTOP, signal.SIGCONT, signal.SIGKILL):
            _signal_family(self.server.pid, number)
        else:
            self.server.send_signal(number)

    def end(self) -> None:
        try:
            if self.server is not None:
                with contextlib.suppress(Trouble):
                    self.signal(signal.SIGCONT)
                self.stop()
        finally:
            for command in self.plan["clean"]:
                with contextlib.suppress(Trouble):
                    self._run(command)
            _remove(self.folder)
            if self.plan["record"]:
                Path(self.plan["record"]).unlink(missing_ok=True)

    def obey(self, word: str) -> None:
        orders: dict[str, Callable[[], None]] = {
            "start": self.start,
            "stop": self.stop,
            "kill": self.kill,
            "pause": lambda: self.signal(signal.SIGSTOP),
            "resume": lambda: self.signal(signal.SIGCONT),
        }
        orders[word]()

    def state(self) -> dict[str, object]:
        pid = self.server.pid if self.server is not None else 0
        return {"port": self.port, "pid": pid, "keeper": os.getpid(), "folder": str(self.folder)}

    def _answers(self, server: subprocess.Popen[bytes]) -> bool:
        until = time.monotonic() + READY_SECONDS
        while server.poll() is None:
            if _greets(self.plan["greeting"], self.port):
                return True
            if time.monotonic() > until:
                self.kill()
                raise Trouble(f"{self.plan['service']} does not answer: {self._end_of_log()}")
            time.sleep(0.02)
        return False

    def _filled(self, command: list[str]) -> list[str]:
        names = {"folder": self.folder, "data": self.folder / "data", "port": self.port, "root": self.root}
        return [word.format(name=self.folder.name, **names) for word in command]

    def _run(self, command: list[str]) -> None:
        with self._log() as log:
            done = subprocess.run(
                self._filled(command),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                env=self._environ(),
                cwd=self.folder,
                preexec_fn=_dies_with_us(signal.SIGKILL),
                check=False,
                **_as_user(self.plan["user"]),
            )
        if done.returncode:
            raise Trouble(f"{' '.join(command)}: {self._end_of_log()}")

    def _environ(self) -> dict[str, str]:
        kept = ("PATH", "HOME", "TMPDIR", "DOCKER_HOST", "DOCKER_CONTEXT", "XDG_RUNTIME_DIR")
        return {
            **{name: os.environ[name] for name in kept if name in os.environ},
            **self.plan["environ"],
            "LC_ALL": "C",
        }

    def _log(self) -> Any:
        return (self.folder / "log").open("ab")

    def _end_of_log(self) -> str:
        return (self.folder / "log").read_text(errors="replace")[-1500:].strip() or "it says nothing"

    def _mend(self) -> None:
        """What made it end at once may have a remedy: another port, or patience with a killed PostgreSQL's children."""
        if "already in use" in self._end_of_log():
            self.port = _free_port()
        else:
            time.sleep(0.5)


def _new_folder(service: str, user: str | None) -> Path:
    prefix = f"durable-{service}-"
    for old in Path(tempfile.gettempdir()).glob(f"{prefix}*"):
        _sweep(old)
    folder = Path(tempfile.mkdtemp(prefix=prefix))
    if user is not None:
        shutil.chown(folder, user)
    return folder


def _sweep(old: Path) -> None:
    """Remove a folder whose keeper is gone."""
    with contextlib.suppress(OSError):  # somebody else's, or just being removed
        if (old / "keeper.lock").exists():
            with _lock(old / "keeper.lock"):
                _remove(old)


def _lock(path: Path) -> Any:
    file = path.open("ab")
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        file.close()
        raise
    return file


def _remove(folder: Path) -> None:
    # A killed server's children may still write for an instant.
    for _ in range(50):
        shutil.rmtree(folder, ignore_errors=True)
        if not folder.exists():
            return
        time.sleep(0.1)


def _free_port() -> int:
    """Below the ports that the system gives to clients: while the server is down, a client that connects to a port
    of that range may be given the same one for its own end, and is then connected to itself.
    """
    for _ in range(200):
        port = random.randrange(20_000, 32_000)
        with socket.socket() as probe, contextlib.suppress(OSError):
            probe.bind(("127.0.0.1", port))
            return port
    raise Trouble("no free port on 127.0.0.1 between 20000 and 32000")


def _as_user(user: str | None) -> dict[str, Any]:
    if user is None:
        return {}
    import pwd

    entry = pwd.getpwnam(user)
    return {"user": entry.pw_uid, "group": entry.pw_gid, "extra_groups": []}


def _dies_with_us(number: int) -> Callable[[], None] | None:
    """The kernel's own watch over a process whose parent may be killed; there is one on Linux only."""
    if not sys.platform.startswith("linux"):
        return None
    libc = ctypes.CDLL(None)
    return lambda: libc.prctl(1, number)


def _signal_family(pid: int, number: signal.Signals) -> None:
    """The process and its children: PostgreSQL has a process for each connection, and they go on without the first."""
    children = _children(pid)
    os.kill(pid, number)  # first: it must not start others, nor mourn for these
    for child in children:
        with contextlib.suppress(ProcessLookupError):
            os.kill(child, number)


def _children(pid: int) -> list[int]:
    listed = Path(f"/proc/{pid}/task/{pid}/children")
    if listed.exists():
        return [int(child) for child in listed.read_text().split()]
    found = subprocess.run(["ps", "-eo", "pid=,ppid="], capture_output=True, text=True, check=False).stdout
    pairs = (line.split() for line in found.splitlines())
    return [int(child) for child, parent in pairs if int(parent) == pid]


def _greets(service: str, port: int) -> bool:
    """Does it answer, and not only listen? A PostgreSQL that recovers listens, and refuses."""
    try:
        with socket.create_connection(("127.0.0.1", port), timeout=2.0) as peer:
            if service == "postgres":
                body = struct.pack("!i", 196608) + b"user\0durable\0\0"
                peer.sendall(struct.pack("!i", len(body) + 4) + body)
                return peer.recv(1) == b"R"
            return len(peer.recv(5)) == 5
    except OSError:
        return False


def _say(answer: dict[str, object]) -> None:
    with contextlib.suppress(BrokenPipeError):  # whoever asked is dead: what follows is the end
        print(json.dumps(answer), flush=True)  # noqa: T201


def _wait_for_users(path: str) -> Any:
    """Until nobody holds the lock. Who keeps what this gives keeps newcomers waiting: until all is cleared away."""
    file = Path(path).open("ab")  # noqa: SIM115
    fcntl.flock(file, fcntl.LOCK_EX)
    return file


def _serve(keeper: Keeper) -> None:
    for line in sys.stdin:
        try:
            keeper.obey(line.strip())
            _say(keeper.state())
        except Trouble as trouble:
            _say({"error": str(trouble)})


def main() -> None:
    """Keep the server of the plan on stdin until the end comes."""
    plan = json.loads(sys.stdin.readline())
    for number in (signal.SIGINT, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))  # through `finally`
    keeper = Keeper(plan)
    try:
        try:
            keeper.begin()
        except Trouble as trouble:
            _say({"error": str(trouble)})
            return
        _say(keeper.state())
        if plan["users"]:
            keeper.users = _wait_for_users(plan["users"])
        else:
            _serve(keeper)
    finally:
        keeper.end()


if __name__ == "__main__":
    main()
