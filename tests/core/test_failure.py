"""Exceptions stored and rebuilt: as themselves where possible, as a RemoteError otherwise, and never an accident."""

from __future__ import annotations

import asyncio
import dataclasses
import json
import pickle
from collections.abc import Mapping
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any, ClassVar

import pytest
from hypothesis import given
from hypothesis import strategies as st

import durable.errors
from durable.core.attributes import NotPortable, from_portable, to_portable
from durable.core.failure import Failure, failure_of, known_exceptions, rebuild, type_name
from durable.errors import (
    ActivityTimeout,
    NonDeterminismError,
    NonRetryable,
    PayloadError,
    RemoteError,
    RetryAfter,
    remote_error_class,
)


class CardDeclined(Exception):
    def __init__(self, code: str, *, amount: Decimal) -> None:
        super().__init__(f"card declined: {code}")
        self.code = code
        self.amount = amount


class NoSuper(Exception):
    def __init__(self, code: str) -> None:
        self.code = code

    def __str__(self) -> str:
        return f"code {self.code}"


@dataclasses.dataclass
class Detailed(Exception):
    code: str
    at: datetime


class Slotted(Exception):
    __slots__ = ("code",)

    def __init__(self, code: int) -> None:
        super().__init__("slotted")
        self.code = code


class HasConnection(Exception):
    def __init__(self, text: str) -> None:
        super().__init__(text, object())
        self.connection = object()
        self.code = 7

    def __str__(self) -> str:
        return str(self.args[0])


class TextFromObject(Exception):
    def __init__(self, order: object) -> None:
        super().__init__(order)
        self.order = order

    def __str__(self) -> str:
        return f"order of {type(self.order).__name__}"


class Missing(FileNotFoundError):
    pass


class Recorded(Exception):
    calls: ClassVar[list[Any]] = []

    def __new__(cls, *args: Any) -> Recorded:
        cls.calls.append(("new", args))
        return super().__new__(cls, *args)

    def __init__(self, *args: Any) -> None:
        self.calls.append(("init", args))
        super().__init__(*args)

    def __reduce__(self) -> Any:
        self.calls.append("reduce")
        return (print, ("hello",))

    def __setattr__(self, name: str, value: Any) -> None:
        self.calls.append(("set", name))
        super().__setattr__(name, value)

    def __setstate__(self, state: Any) -> None:
        self.calls.append("setstate")


class Group(ExceptionGroup[Exception]):
    pass


KNOWN = known_exceptions()


def through(error: BaseException, known: Mapping[str, type[BaseException]] = KNOWN) -> Any:
    """As the exception comes out in another process."""
    return rebuild(Failure.from_text(failure_of(error).to_text()), known)


def raised(error: BaseException) -> BaseException:
    try:
        raise error
    except BaseException as caught:
        return caught


AS_THEMSELVES = [
    ValueError("x"),
    ValueError(),
    Exception("a", 2, None, [1.5], {"k": True}),
    KeyError("missing"),
    KeyError(("a", 1)),
    LookupError((1, b"\xff")),
    OSError(2, "No such file", "name.txt"),
    FileNotFoundError(2, "No such file", "a", None, "b"),
    Missing(2, "gone", "x.txt"),
    ImportError("no", name="mod", path="/x"),
    SyntaxError("bad", ("f.py", 1, 2, "x = ", 1, 3)),
    UnicodeDecodeError("utf-8", b"\xff", 0, 1, "invalid"),
    AttributeError("no attribute", name="x"),
    TimeoutError("late"),
    AssertionError("é\x00漢"),
    ZeroDivisionError("n" * 20_000),
    CardDeclined("x", amount=Decimal("1.10")),
    NoSuper("n"),
    Detailed("d", datetime(2024, 1, 1, tzinfo=UTC)),
    Detailed(code="d", at=datetime(2024, 1, 1)),
    Slotted(5),
    HasConnection("text"),
    ActivityTimeout("late", kind="queue"),
    NonDeterminismError("differs", expected="a", actual="b", file="f.py", line=3, event=7),
    NonRetryable("stop"),
    RetryAfter(5, "wait"),
    PayloadError("p"),
    asyncio.QueueFull("q"),
]


@pytest.mark.parametrize("error", AS_THEMSELVES, ids=lambda error: type(error).__name__)
def test_known_exceptions_come_out_as_themselves(error: Exception) -> None:
    back = through(raised(error))
    assert type(back) is type(error)
    limit = 16 * 1024
    if len(str(error)) <= limit:
        assert str(back) == str(error)
    else:
        assert str(back) == str(error)[: limit - 3] + "..."
    # And once more, as when a workflow lets it through to its parent.
    again = through(raised(back))
    assert (type(again), str(again)) == (type(back), str(back))


def test_attributes_and_arguments_come_back() -> None:
    back = through(CardDeclined("x", amount=Decimal("1.10")))
    assert (back.code, back.amount, back.args) == ("x", Decimal("1.10"), ("card declined: x",))
    assert through(Detailed("d", datetime(2024, 1, 1))).at == datetime(2024, 1, 1)
    assert through(Slotted(5)).code == 5
    assert through(KeyError(("a", 1))).args == (("a", 1),)
    oserror = through(OSError(2, "No such file", "name.txt"))
    assert (oserror.errno, oserror.filename) == (2, "name.txt")
    assert through(ImportError("no", name="mod")).name == "mod"
    assert through(ActivityTimeout("late", kind="queue")).kind == "queue"
    assert through(RetryAfter(5, "wait")).delay_seconds == 5
    divergence = through(NonDeterminismError("d", expected="a", event=7))
    assert (divergence.expected, divergence.event) == ("a", 7)


def test_what_is_not_plain_data_is_left_out_and_the_rest_kept() -> None:
    back = through(HasConnection("text"))
    assert type(back) is HasConnection
    assert (back.args, back.code, hasattr(back, "connection")) == (("text",), 7, False)


def test_no_code_of_the_class_is_run() -> None:
    error = Recorded("a", 1)
    error.extra = 5  # type: ignore[attr-defined]
    Recorded.calls.clear()
    back = through(error)
    assert type(back) is Recorded
    assert (back.args, back.extra) == (("a", 1), 5)
    assert Recorded.calls == []


def test_a_text_that_cannot_be_had_again_gives_a_remote_error() -> None:
    error = TextFromObject(object())
    back = through(error)
    assert isinstance(back, RemoteError)
    assert back.type.endswith("TextFromObject")
    assert back.message == "order of object"
    assert "order of object" in str(back)


# ------------------------------------------------------------------------------------------ unknown classes


def _unknown(*bases: type[BaseException]) -> type[Any]:
    return type("Unknown", bases, {"__module__": "elsewhere.errors"})


@pytest.mark.parametrize(
    "base", [ValueError, KeyError, OSError, FileNotFoundError, TimeoutError, ArithmeticError]
)
def test_unknown_classes_come_out_as_remote_errors_of_their_built_in_base(base: type[Exception]) -> None:
    back = through(raised(_unknown(base)("why")), _without_unknown())
    assert isinstance(back, RemoteError)
    assert isinstance(back, base)
    assert back.type == "elsewhere.errors.Unknown"
    assert "why" in str(back)
    assert back.message == str(base("why"))
    assert 'File "' in back.traceback
    assert back.traceback == back.remote_traceback


def _without_unknown() -> dict[str, type[BaseException]]:
    return {name: kind for name, kind in known_exceptions().items() if not name.startswith("elsewhere.")}


def test_a_base_with_arguments_of_its_own_is_replaced_by_the_nearest_that_fits() -> None:
    assert issubclass(remote_error_class(UnicodeDecodeError), ValueError)
    assert not issubclass(remote_error_class(UnicodeDecodeError), UnicodeDecodeError)
    assert remote_error_class(ExceptionGroup) is RemoteError
    assert remote_error_class(Exception) is RemoteError
    assert remote_error_class(None) is RemoteError


@pytest.mark.parametrize(
    "error",
    [
        KeyboardInterrupt("k"),
        SystemExit(3),
        GeneratorExit("g"),
        asyncio.CancelledError("c"),
        StopIteration(1),
    ],
)
def test_what_is_no_ordinary_exception_comes_out_as_a_remote_error(error: BaseException) -> None:
    back = through(raised(error))
    assert isinstance(back, RemoteError)
    assert not isinstance(back, StopIteration)
    assert str(error) in str(back)
    assert back.type == type_name(type(error))


def test_passing_through_a_worker_without_the_class_loses_nothing() -> None:
    error = raised(CardDeclined("x", amount=Decimal(2)))
    abroad = through(error, {})
    assert isinstance(abroad, RemoteError)
    home = through(raised(abroad))
    assert type(home) is CardDeclined
    assert (home.code, home.amount) == ("x", Decimal(2))


def test_remote_errors_made_by_hand() -> None:
    back = through(remote_error_class(ValueError)("why", type="shop.Odd"))
    assert isinstance(back, RemoteError)
    assert isinstance(back, ValueError)
    assert (back.type, back.message) == ("shop.Odd", "why")


def test_known_exceptions_takes_the_newest_and_then_the_given_namespace() -> None:
    first, second = (type("Twice", (ValueError,), {"__module__": "elsewhere.errors"}) for _ in range(2))
    name = "elsewhere.errors.Twice"
    known = known_exceptions()
    assert known[name] is second
    assert known_exceptions({"x": first, "y": 5})[name] is first
    assert known_exceptions(durable.errors)["durable.errors.NonRetryable"] is NonRetryable
    assert known["ValueError"] is ValueError
    with pytest.raises(TypeError):
        known["x"] = ValueError  # type: ignore[index]


# ------------------------------------------------------------------------------------------ causes, notes, groups


def test_causes_and_contexts_come_back_as_causes() -> None:
    try:
        try:
            raise KeyError("inner")
        except KeyError as inner:
            raise ValueError("outer") from inner
    except ValueError as caught:
        back = through(caught)
    assert (type(back.__cause__), back.__cause__.args) == (KeyError, ("inner",))
    try:
        try:
            raise KeyError("inner")
        except KeyError:
            raise ValueError("outer")  # noqa: B904 -- the context is what is tested
    except ValueError as caught:
        assert type(through(caught).__cause__) is KeyError
    try:
        try:
            raise KeyError("inner")
        except KeyError:
            raise ValueError("outer") from None
    except ValueError as caught:
        assert through(caught).__cause__ is None


def test_retryable_signals_keep_message_chain_and_mark() -> None:
    error = NonRetryable("stop")
    error.__cause__ = ValueError("because")
    failure = failure_of(error)
    assert (failure.non_retryable, failure.retry_after_seconds) == (True, None)
    back = through(error)
    assert (type(back), str(back), str(back.__cause__)) == (NonRetryable, "stop", "because")
    assert failure_of(RetryAfter(2.5)).retry_after_seconds == 2.5
    assert failure_of(RetryAfter(-1)).retry_after_seconds == 0
    assert failure_of(RetryAfter(float("nan"))).retry_after_seconds is None


def test_causes_are_cut_after_ten_and_circles_end() -> None:
    error = first = ValueError("0")
    for number in range(1, 30):
        error.__cause__ = ValueError(str(number))
        error = error.__cause__  # type: ignore[assignment]
    chain = [back := through(first)]
    while back.__cause__ is not None:
        chain.append(back := back.__cause__)
    assert [str(each) for each in chain] == [str(number) for number in range(11)]
    a, b = ValueError("a"), ValueError("b")
    a.__cause__, b.__cause__ = b, a
    assert through(a).__cause__.__cause__ is None


def test_notes_are_kept() -> None:
    error = ValueError("x")
    error.add_note("first")
    error.add_note("\ud800")
    assert through(error).__notes__ == ["first", "\\ud800"]
    assert not hasattr(through(ValueError("x")), "__notes__")


def test_groups_keep_their_parts() -> None:
    group = ExceptionGroup(
        "all", [ValueError("a"), ExceptionGroup("in", [CardDeclined("x", amount=Decimal(1))])]
    )
    back = through(group)
    assert type(back) is ExceptionGroup
    assert str(back) == str(group)
    assert [type(each) for each in back.exceptions] == [ValueError, ExceptionGroup]
    assert back.exceptions[1].exceptions[0].code == "x"
    assert type(through(Group("own", [ValueError("a")]))) is Group
    mixed = through(BaseExceptionGroup("mixed", [KeyboardInterrupt("k"), ValueError("v")]))
    assert type(mixed) is ExceptionGroup
    assert [isinstance(each, RemoteError) for each in mixed.exceptions] == [True, False]


def test_large_groups_are_cut_and_say_so() -> None:
    back = through(ExceptionGroup("many", [ValueError(str(number)) for number in range(100)]))
    assert back.message == "many"
    assert len(back.exceptions) == 17
    assert "84 more" in str(back.exceptions[-1])


def test_a_tree_of_exceptions_is_bounded() -> None:
    def count(failure: Failure) -> int:
        return 1 + sum(map(count, failure.parts))

    assert count(failure_of(_bushy(9))) == 64


def test_names_that_python_reserves_are_not_restored() -> None:
    back = rebuild(Failure(type="ValueError", args=[], state={"__notes__": 5, "plain": 1}), KNOWN)
    assert vars(back) == {"plain": 1, "remote_traceback": ""}


def test_where_it_was_raised_is_an_attribute_without_source_or_values() -> None:
    def failing(secret: str) -> None:
        raise ValueError("plain")

    try:
        failing("s3cret")
    except ValueError as caught:
        failure = failure_of(caught)
        back = through(caught)
    lines = failure.traceback.splitlines()
    assert len(lines) == 2
    assert all(line.startswith('File "') for line in lines)
    assert lines[-1].endswith("failing")
    assert "s3cret" not in failure.to_text()
    assert back.remote_traceback == failure.traceback
    again = failure_of(raised(back))
    assert again.traceback.startswith(failure.traceback + "\nraised again:\nFile ")
    assert again.state is None


def test_traceback_of_a_deep_recursion_is_bounded() -> None:
    def deep() -> None:
        deep()

    try:
        deep()
    except RecursionError as caught:
        failure = failure_of(caught)
    assert "more frames)" in failure.traceback
    assert len(failure.traceback) <= 16 * 1024


# ------------------------------------------------------------------------------------------ hostile exceptions


class BrokenText(Exception):
    def __str__(self) -> str:
        raise SystemExit("no")

    __repr__ = __str__


class NotText(Exception):
    def __str__(self) -> str:
        return 5  # type: ignore[return-value] # noqa: PLE0307 -- on purpose


class TextSubclass(Exception):
    def __str__(self) -> str:
        class Odd(str):
            def encode(self, *args: Any) -> bytes:
                raise ValueError

            def __getitem__(self, index: Any) -> str:
                raise ValueError

        return Odd("odd")


class BrokenEverything(ValueError):
    def __getattribute__(self, name: str) -> Any:
        raise RuntimeError(name)

    def __reduce__(self) -> Any:
        raise RuntimeError


class Frozen(Exception):
    def __setattr__(self, name: str, value: Any) -> None:
        raise AttributeError


class BrokenMeta(type):
    def __getattribute__(cls, name: str) -> Any:
        if name == "__qualname__":
            raise ValueError
        return super().__getattribute__(name)

    def __subclasses__(cls) -> Any:
        raise ValueError


class Meta(Exception, metaclass=BrokenMeta):
    pass


def _odd_notes() -> Exception:
    error = ValueError("n")
    error.__notes__ = [1, "ok", None]
    return error


def _huge() -> Exception:
    return ValueError("x" * 10_000_000, ["y" * 10_000_000])


def _wide() -> Exception:
    error = ValueError("w")
    for number in range(5000):
        setattr(error, f"a{number}", "z" * 1000)
    return error


def _bushy(levels: int = 12) -> BaseException:
    if levels == 0:
        return ValueError("leaf" * 10_000)
    return ExceptionGroup("g" * 10_000, [_bushy(levels - 1), _bushy(levels - 1)])  # type: ignore[list-item]


HOSTILE = {
    "broken text": BrokenText(),
    "not text": NotText(),
    "text subclass": TextSubclass(),
    "broken everything": BrokenEverything("b"),
    "frozen": Frozen("f"),
    "meta": Meta("m"),
    "surrogate": ValueError("\ud800"),
    "nul": ValueError("\x00"),
    "odd notes": _odd_notes(),
    "huge": _huge(),
    "wide": _wide(),
    "bushy": _bushy(),
    "circle": ValueError([]),
    "long int": ValueError(10**5000),
    "lambda": ValueError(lambda: 0),
}
_circle: list[Any] = HOSTILE["circle"].args[0]
_circle.append(_circle)


@pytest.mark.parametrize("name", HOSTILE)
def test_any_exception_is_stored_and_comes_out_again(name: str) -> None:
    error = HOSTILE[name]
    text = failure_of(error).to_text()
    assert len(text.encode()) < 512 * 1024
    back = through(error)
    assert isinstance(back, Exception)
    if isinstance(error, ValueError):
        assert isinstance(back, ValueError)
    assert isinstance(through(error, {}), Exception)
    assert through(back).args is not None


def test_messages_are_capped_and_made_storable() -> None:
    assert len(failure_of(_huge()).message) == 16 * 1024
    assert failure_of(ValueError("\ud800")).message == "\\ud800"
    assert type(through(ValueError("\ud800"))) is ValueError
    assert len(failure_of(ValueError("é" * 20_000)).message.encode()) <= 16 * 1024
    assert "SystemExit" in failure_of(BrokenText()).message


HOSTILE_TEXT = [
    "", "{", "null", "5", "[]", "{}", '{"type":5}', '{"type":null}', '{"type":"x","message":5}',
    '{"type":"x","args":{}}', '{"type":"x","bases":"ValueError"}', '{"type":"x","bases":[1]}',
    '{"type":"x","cause":5}', '{"type":"x","parts":[1]}', '{"type":"x","notes":{}}', '{"type":"x","state":[]}',
    '{"type":"\\ud800"}', "\ud800", '{"type":"x","retry_after_seconds":"5"}', '{"type":"x","omitted":1e400}',
    '{"type":"x","cause":' * 10_000 + "null" + "}" * 10_000, "[" * 100_000, pickle.dumps({}, 0).decode(),
    "1" * 100_000,
]  # fmt: skip


@pytest.mark.parametrize("text", HOSTILE_TEXT, ids=lambda text: repr(text[:30]))
def test_other_text_is_a_payload_error(text: str) -> None:
    with pytest.raises(PayloadError, match="stored failure"):
        Failure.from_text(text)


@pytest.mark.parametrize("text", [b"\xff", None, 5])
def test_no_text_is_a_payload_error(text: Any) -> None:
    with pytest.raises(PayloadError):
        Failure.from_text(text)


@pytest.mark.parametrize(
    "data",
    [
        {"type": "os.system", "args": ["true"]},
        {"type": "builtins.eval", "args": ["1"]},
        {"type": "int", "args": ["1"]},
        {"type": "ValueError", "args": [{"$": "os.system", "value": "true"}], "message": "m"},
        {"type": "ValueError", "args": [{"$": ["a"]}], "message": "m"},
        {"type": "ValueError", "state": {"__class__": "int", "__traceback__": 5, "__cause__": 5, "args": 5}},
        {"type": "OSError", "args": [1, 2, 3, 4, 5, 6, 7]},
        {"type": "UnicodeDecodeError", "args": [1]},
        {"type": "ExceptionGroup", "args": ["m"]},
        {"type": "ExceptionGroup", "args": [], "parts": [{"type": "ValueError"}]},
        {"type": "ImportError", "state": {"name": 5}, "args": []},
        {"type": "RemoteError", "args": []},
        {"type": "durable.errors.RemoteError", "args": []},
        {"type": "durable.errors.ActivityTimeout", "args": [], "state": {"kind": {}}},
        {"type": "x", "bases": ["KeyboardInterrupt", "eval", "object"]},
    ],
    ids=str,
)
def test_hostile_records_give_an_exception_and_nothing_else(data: dict[str, Any]) -> None:
    back = rebuild(Failure.from_text(json.dumps(data)), KNOWN)
    assert isinstance(back, Exception)
    assert isinstance(str(back), str)
    assert not isinstance(back, KeyboardInterrupt)
    failure_of(back).to_text()


def test_fields_of_a_newer_release_are_ignored() -> None:
    assert Failure.from_text('{"type":"x","novelty":1}') == Failure(type="x")


# ------------------------------------------------------------------------------------------ portable attributes

PORTABLE = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text() | st.binary()
    | st.decimals(allow_nan=False) | st.uuids() | st.dates() | st.times() | st.timedeltas()
    | st.datetimes(timezones=st.none() | st.just(UTC)),
    lambda inner: st.lists(inner, max_size=4) | st.lists(inner, max_size=4).map(tuple)
    | st.dictionaries(st.text(max_size=3) | st.just("$") | st.just("value"), inner, max_size=4),
    max_leaves=15,
)  # fmt: skip


@given(PORTABLE)
def test_portable_values_come_back(value: Any) -> None:
    back = from_portable(json.loads(json.dumps(to_portable(value), allow_nan=False)))
    assert (back, type(back)) == (value, type(value))


@given(PORTABLE)
def test_exceptions_with_portable_arguments_come_back(value: Any) -> None:
    error = ValueError(value, 1)
    error.detail = value  # type: ignore[attr-defined]
    back = through(error)
    assert type(back) is ValueError
    assert back.args == error.args
    assert back.detail == value


@pytest.mark.parametrize(
    "value", [object(), {1: 2}, {1, 2}, "\ud800", 10**4300, {"a": object()}, int], ids=lambda _: ""
)
def test_other_values_are_not_portable(value: Any) -> None:
    with pytest.raises(NotPortable):
        to_portable(value)
