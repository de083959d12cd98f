"""Which names of the standard library and of well-known packages belong to which rule.

A name ends with ``.*`` for everything below it. ``pathlib.Path().open`` is a method of an instance.
"""

from __future__ import annotations

_CLOCK = """
    time.time time.time_ns time.monotonic time.monotonic_ns time.perf_counter time.perf_counter_ns time.process_time
    time.process_time_ns time.thread_time time.clock_gettime datetime.datetime.now datetime.datetime.utcnow
    datetime.datetime.today datetime.date.today pendulum.now pendulum.today arrow.now arrow.utcnow
"""
_RANDOM = """
    random.betavariate random.choice random.choices random.expovariate random.gauss random.getrandbits
    random.lognormvariate random.normalvariate random.randbytes random.randint random.random random.randrange
    random.sample random.seed random.shuffle random.triangular random.uniform random.SystemRandom secrets.* os.urandom
    os.getrandom uuid.uuid1 uuid.uuid4 numpy.random.*
"""
_THREADS = """
    threading.Thread threading.Timer _thread.* concurrent.futures.ThreadPoolExecutor
    concurrent.futures.ProcessPoolExecutor concurrent.futures.thread.ThreadPoolExecutor multiprocessing.*
    asyncio.to_thread asyncio.run_coroutine_threadsafe anyio.to_thread.run_sync anyio.to_process.run_sync
    anyio.from_thread.*
"""
_IO = """
    open io.open os.open os.listdir os.scandir os.walk os.remove os.unlink os.mkdir os.makedirs os.rmdir os.rename
    os.replace os.stat os.system os.popen os.path.exists os.path.isfile os.path.isdir os.path.getsize os.path.getmtime
    shutil.* tempfile.* glob.glob glob.iglob subprocess.* socket.socket socket.create_connection socket.getaddrinfo
    urllib.request.* http.client.* smtplib.* ftplib.* requests.* httpx.* aiohttp.* urllib3.* boto3.* sqlite3.connect
    psycopg.* psycopg2.* asyncpg.* aiosqlite.* aiomysql.* pymysql.* asyncmy.* redis.* pymongo.* aiofiles.*
    sqlalchemy.create_engine sqlalchemy.ext.asyncio.create_async_engine
    asyncio.open_connection asyncio.open_unix_connection asyncio.start_server asyncio.start_unix_server
    asyncio.create_subprocess_exec asyncio.create_subprocess_shell
    anyio.open_file anyio.connect_tcp anyio.connect_unix anyio.create_tcp_listener anyio.run_process anyio.open_process
    anyio.getaddrinfo
    pathlib.Path().read_text pathlib.Path().read_bytes pathlib.Path().write_text pathlib.Path().write_bytes
    pathlib.Path().open pathlib.Path().exists pathlib.Path().is_file pathlib.Path().is_dir pathlib.Path().iterdir
    pathlib.Path().glob pathlib.Path().rglob pathlib.Path().mkdir pathlib.Path().unlink pathlib.Path().rename
    pathlib.Path().replace pathlib.Path().stat pathlib.Path().touch pathlib.Path().rmdir pathlib.Path().resolve
    pathlib.Path.cwd pathlib.Path.home
"""
_BLOCKING = """
    time.sleep input breakpoint asyncio.run anyio.run threading.Lock threading.RLock threading.Event
    threading.Condition threading.Semaphore threading.BoundedSemaphore threading.Barrier queue.Queue queue.LifoQueue
    queue.PriorityQueue queue.SimpleQueue select.select signal.pause
"""
_STATE = """
    os.getenv os.times resource.getrusage threading.get_ident
    os.getpid os.getcwd os.getlogin platform.node platform.platform socket.gethostname locale.getlocale id
    hash
"""

_TABLES = {
    "DUR101": _CLOCK,
    "DUR102": _RANDOM,
    "DUR103": _THREADS,
    "DUR104": _IO,
    "DUR105": _BLOCKING,
    "DUR106": _STATE,
}
_EXACT = {name: code for code, table in _TABLES.items() for name in table.split() if not name.endswith(".*")}
_BELOW = {name[:-1]: code for code, table in _TABLES.items() for name in table.split() if name.endswith(".*")}

COROUTINES = frozenset(
    {
        "asyncio.sleep", "asyncio.wait", "asyncio.wait_for", "anyio.sleep", "anyio.sleep_until", "anyio.sleep_forever",
        "durable.sleep", "durable.sleep_until", "durable.wait_condition", "durable.Signal().receive",
    }
)  # fmt: skip
"""Coroutine functions, beside those of the package itself."""

MAKES_TASKS = frozenset({"create_task", "ensure_future", "gather", "start", "create_future"})
"""Methods and functions whose result hashes alike in every process: tasks and futures of a run."""

GENERATORS = frozenset({"random.Random", "random.SystemRandom", "numpy.random.default_rng"})
"""What makes a generator of random numbers."""
CLOCKS_WITHOUT = {
    "time.localtime": 1, "time.gmtime": 1, "time.ctime": 1, "time.asctime": 1, "time.strftime": 2
}  # fmt: skip
"""With so many arguments they are told the time; with fewer they take it."""
MUTABLE = frozenset(
    {
        "list", "dict", "set", "bytearray", "collections.defaultdict", "collections.deque", "collections.Counter",
        "collections.OrderedDict",
    }
)  # fmt: skip
SETS = frozenset({"set", "frozenset", "typing.Set", "typing.FrozenSet", "typing.AbstractSet", "collections.abc.Set",
                  "collections.abc.MutableSet"})  # fmt: skip
UNORDERED = frozenset(
    {"sorted", "len", "min", "max", "sum", "any", "all", "set", "frozenset", "bool", "isinstance"}
)
"""What may be given a set: the result does not depend on its order."""


def rule_of(name: str) -> str | None:
    """The code of the rule that a dotted name belongs to."""
    code = _EXACT.get(name)
    if code is not None:
        return code
    return next((code for prefix, code in _BELOW.items() if name.startswith(prefix)), None)
