"""What the server's errors mean: what is worth another try, what one item has brought about, what people must do.

- A deadlock (1213) rolls the whole transaction back. A lock that did not come in time (1205) rolls back *one
  statement*, unless the server is set otherwise. So after any error the session says ``ROLLBACK`` itself, and only
  whole transactions are repeated.
- A lost connection leaves open whether a commit happened: the call is repeated, and looks.
- What is told to people is one line, names the thing and what to do, and never holds a password.

The numbers are those of MySQL 8 and MariaDB; where only one of the two has it, the comment says so.
"""

from __future__ import annotations

DUPLICATE = 1062
DEADLOCK = 1213
NO_TLS, CERTIFICATE = 2026, -1

CONFLICTS = frozenset(
    {
        1205,  # lock wait timeout
        DEADLOCK,
        1412,  # the table's definition has changed meanwhile (another process migrates)
        3572,  # MySQL: NOWAIT
        1020,  # MariaDB: the record has changed since it was read
    }
)
"""Somebody else was there: the whole transaction may be repeated at once."""

LOST = frozenset(
    {
        *range(2000, 2062),  # the driver: no connection, gone away, lost, out of step
        1040,  # too many connections
        1053,  # the server shuts down
        1152,  # aborted connection
        *range(1158, 1162),  # network errors
        1203,  # too many connections of this user
        1317,  # query interrupted (KILL QUERY, shut-down)
        1927,  # MariaDB: connection killed
        1969,  # MariaDB: max_statement_time
        3024,  # MySQL: max_execution_time
        3169,  # MySQL: session killed
        4031,  # MySQL: disconnected for inactivity
        1290,  # --read-only: a standby that is about to become the primary, or the reverse
        1792,
        1836,
        1021,  # disk full
        1114,  # table full
    }
)
"""Nobody knows, or it will be better later: `BackendError`, and the connection is thrown away."""

BROKEN = LOST - {1290, 1792, 1836, 1021, 1114, 1317, 1969, 3024}
"""After these the connection is of no use."""

CULPRITS = frozenset(
    {
        DUPLICATE,
        1048,  # NULL where none may be
        1118,  # row too large
        1153,  # packet too large
        1197,  # transaction larger than max_binlog_cache_size
        1264,  # out of range
        1292,  # incorrect value
        1300,  # invalid character string
        1301,  # result larger than max_allowed_packet
        1366,  # incorrect string
        1406,  # too long
        1690,  # BIGINT out of range
        *range(3140, 3147),  # MySQL: no JSON
        3819,  # MySQL: CHECK
        4025,  # MariaDB: CHECK
    }
)
"""What a single item can bring about by itself: a key that is there already, a value that a column cannot keep."""


class Failure(Exception):
    """An error of the server or the driver: ``number`` as above, ``text`` in the server's words."""

    def __init__(self, number: int, text: str) -> None:
        super().__init__(number, text)
        self.number = number
        self.text = " ".join(text.split())

    def __str__(self) -> str:
        return f"{self.text} ({self.number})"


class TooLarge(ValueError):
    """A statement that the server would not take, found out before it was sent (the server would hang up)."""


def explain(url: str, failure: Failure, user: str = "") -> str:
    """What happened, and what to do, in one line."""
    advice = _ADVICE.get(failure.number)
    who = f" for the user {user!r}" if user else ""
    if advice is None:
        return f"{url}: {failure}"
    number = f"{failure.number}: " if failure.number > 0 else ""
    return f"{url}: {advice.format(who=who)} ({number}{failure.text})"


_ADVICE = {
    1040: "the server has no connection left; raise max_connections or lower pool_size",
    1044: "the database may not be used{who}; an administrator must GRANT rights on it",
    1045: "the server refuses the user name or the password{who}",
    1049: "there is no such database; CREATE it first",
    1130: "the server lets nobody in from this host",
    1142: "a right is missing{who}; see docs/how-to/grants.md",
    1143: "a right is missing{who}; see docs/how-to/grants.md",
    1227: "a right is missing{who}",
    1370: "a right is missing{who}",
    1698: "the server refuses the user name or the password{who}",
    2003: "nothing answers there; is the server running, and is this its host and port?",
    2059: "the server asks for a way to log in that the driver does not know",
    NO_TLS: "TLS was asked for, and the server has none (or none that fits); set it up there, or leave out ssl_mode",
    CERTIFICATE: "the server's certificate is not trusted; see ?ssl_ca= and ?ssl_mode=",
    2061: "to log in without TLS takes a package; add ?ssl_mode=required, or type: pip install cryptography",
    3159: "the server wants TLS; add ?ssl_mode=required",
    1146: "a table is missing; open the store once as a user who may CREATE tables",
    1290: "the server is read-only (a standby?)",
    1836: "the server is read-only (a standby?)",
    1021: "the server's disk is full",
    1114: "a table (or the server's disk) is full",
}
