"""Values and payloads: equal in, equal out, or an error that names the thing."""

import collections
import dataclasses
import enum
import ipaddress
import json
import math
import pickle
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import UTC, date, datetime, timedelta, timezone
from datetime import time as time_of_day
from decimal import Decimal
from pathlib import PurePosixPath
from typing import Any, Generic, Literal, NamedTuple, NotRequired, Optional, TypedDict, TypeVar, Union
from uuid import UUID
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import AliasChoices, BaseModel, ConfigDict, Field, RootModel, computed_field, field_validator

from durable.core.payload import Converter, PlainCodec
from durable.core.sameness import difference
from durable.core.signature import CallSignature
from durable.errors import PayloadError, PayloadTooLarge

T = TypeVar("T")
NAN = float("nan")
INF = float("inf")
CONVERTER = Converter()


class Colour(enum.Enum):
    RED = "red"
    ONE = 1


class Level(enum.IntEnum):
    LOW = 1


class Mode(enum.StrEnum):
    FAST = "fast"


class Flags(enum.Flag):
    A = 1
    B = 2


@dataclasses.dataclass
class Point:
    x: float
    raw: bytes = b""


@dataclasses.dataclass(frozen=True, slots=True)
class Deep:
    points: tuple[Point, ...]
    when: dict[str, datetime]
    next: "Deep | None" = None


@dataclasses.dataclass
class Point3(Point):
    z: float = 0.0


@dataclasses.dataclass
class Pair(Generic[T]):
    left: T
    right: T


class Customer(BaseModel):
    name: str
    token: bytes
    score: float = 0.0


class Vip(Customer):
    perks: list[str] = []


class Aliased(BaseModel):
    from_: str = Field(alias="from")
    to: str = Field(serialization_alias="target", validation_alias=AliasChoices("dest", "to"))


class Loose(BaseModel):
    model_config = ConfigDict(extra="allow", frozen=True, ser_json_bytes="utf8", ser_json_inf_nan="null")
    a: int = 0
    raw: bytes = b""
    f: float = 0.0


class Late(BaseModel):
    model_config = ConfigDict(defer_build=True)
    raw: bytes


class Box(BaseModel, Generic[T]):
    item: T


class Names(RootModel[list[bytes]]):
    pass


class Area(BaseModel):
    side: int

    @computed_field  # type: ignore[prop-decorator]
    @property
    def area(self) -> int:
        return self.side**2


class Fussy(BaseModel):
    name: str

    @field_validator("name")
    @classmethod
    def _upper(cls, value: str) -> str:
        return value + "!"


class Explosive(BaseModel):
    name: str

    @field_validator("name")
    @classmethod
    def _fail(cls, value: str) -> str:
        if value == "boom":
            raise ZeroDivisionError("by hand")
        return value


class Coordinates(NamedTuple):
    point: Point
    token: bytes
    customer: Customer


class Movie(TypedDict):
    title: str
    raw: NotRequired[bytes]


class Series(TypedDict, total=False):
    movies: list[Movie]
    parts: "list[Series]"


@dataclasses.dataclass
class Shelf:
    movie: Movie


NOW = datetime(2024, 2, 29, 12, 30, 15, 123456)
EAST = timezone(timedelta(hours=5, minutes=30))
CUSTOMER = Customer(name="Ann", token=b"\xff\x00", score=NAN)

EQUAL: list[tuple[Any, Any]] = [
    (str, ""),
    (str, 'a"\\\n\t\x00\x1f\x7f\u2028é漢🎈'),
    (int, 0),
    (int, -(2**53) - 1),
    (int, 2**63 - 1),
    (int, 2**63),
    (int, -(2**63)),
    (int, 2**64 + 1),
    (int, 10**4300 - 1),
    (int, 1 - 10**4300),
    (bool, True),
    (bool, False),
    (type(None), None),
    (None, None),
    (float, 0.1),
    (float, -0.0),
    (float, 5e-324),
    (float, 1.7976931348623157e308),
    (float, NAN),
    (float, INF),
    (float, -INF),
    (bytes, b""),
    (bytes, b"\xff\x00>?>?"),
    (list[bytes], [b"\xff", b"text"]),
    (dict[bytes, bytes], {b"\xff": b"\xfe"}),
    (list[float], [NAN, INF, -INF, -0.0, 1.5]),
    (list[float], [1.0, 2.5]),
    (dict[str, float], {"a": NAN}),
    (dict[float, int], {NAN: 1, INF: 2, 1.5: 3}),
    (set[float], {NAN, 1.0}),
    (list[int], [2**70, -1]),
    (dict[int, str], {1: "a", 2**70: "b"}),
    (dict[bool, int], {True: 1, False: 0}),
    (dict[UUID, date], {UUID(int=5): date(2024, 1, 1)}),
    (dict[datetime, int], {NOW: 1}),
    (dict[Mode, int], {Mode.FAST: 1}),
    (Decimal, Decimal("1.10")),
    (Decimal, Decimal("-0")),
    (Decimal, Decimal("1E+400")),
    (Decimal, Decimal("123456789012345678901234567890.000000000000000001")),
    (UUID, UUID(int=2**127)),
    (datetime, NOW),
    (datetime, NOW.replace(tzinfo=UTC)),
    (datetime, NOW.replace(tzinfo=EAST)),
    (datetime, datetime.min),
    (datetime, datetime.max),
    (datetime, NOW.replace(tzinfo=ZoneInfo("Europe/Berlin"))),
    (date, date.min),
    (date, date(2024, 2, 29)),
    (time_of_day, time_of_day(1, 2, 3, 4)),
    (time_of_day, time_of_day(1, 2, 3, tzinfo=EAST)),
    (timedelta, timedelta.min),
    (timedelta, timedelta.max),
    (timedelta, timedelta(microseconds=-1)),
    (date | datetime, NOW),
    (date | datetime, datetime(2024, 1, 1)),
    (date | datetime, date(2024, 1, 1)),
    (Colour, Colour.RED),
    (Colour, Colour.ONE),
    (Level, Level.LOW),
    (Mode, Mode.FAST),
    (Flags, Flags.A | Flags.B),
    (Optional[Mode], Mode.FAST),  # noqa: UP045 -- the old spelling is what is tested
    (int | Mode, Mode.FAST),
    (int | Mode, 1),
    (Colour | None, None),
    (Point, Point(1.5, b"\xff")),
    (Point, Point(NAN)),
    (Point, Point(3)),
    (Deep, Deep((Point(1.0, b"\xfe"),), {"a": NOW}, Deep((), {}))),
    (Pair[int], Pair(1, 2)),
    (Pair[Point], Pair(Point(1.0), Point(NAN))),
    (Customer, CUSTOMER),
    (list[Customer], [CUSTOMER, CUSTOMER]),
    (Customer | Point, CUSTOMER),
    (Customer | Point, Point(1.0)),
    (Point | Vip | Customer, Vip(name="V", token=b"\xff", perks=["a"])),
    (Aliased, Aliased(**{"from": "a", "dest": "b"})),
    (Loose, Loose(a=1, raw=b"\xff", f=INF, more=[1, "x"])),  # type: ignore[call-arg]
    (Late, Late(raw=b"\xff")),
    (list[Late], [Late(raw=b"\xff")]),
    (Box[int], Box[int](item=1)),
    (Box[int], Box(item=1)),
    (Box[Customer], Box[Customer](item=CUSTOMER)),
    (Names, Names([b"\xff"])),
    (Area, Area(side=3)),
    (Coordinates, Coordinates(Point(1.0, b"\xff"), b"\xfe", CUSTOMER)),
    (Movie, {"title": "M"}),
    (Movie, {"title": "M", "raw": b"\xff"}),
    (Movie, {"raw": b"\xff", "title": "M"}),
    (Series, {"movies": [{"title": "M"}], "parts": [{"parts": []}]}),
    (Shelf, Shelf({"title": "M", "raw": b"\xff"})),
    (tuple[int, str], (1, "a")),
    (tuple[int, ...], ()),
    (tuple[bytes, ...], (b"\xff",)),
    (set[int], {1, 2}),
    (frozenset[tuple[int, bytes]], frozenset({(1, b"\xff")})),
    (int | str, 1),
    (int | str, "1"),
    (str | int, 1),
    (str | bytes, "a"),
    (float | str, NAN),
    (float | str, "NaN"),
    (float | int, 1),
    (float | int, 1.0),
    (bool | int, 1),
    (bool | int, True),
    (datetime | str, NOW),
    (Union[int, list[str]], ["a"]),  # noqa: UP007 -- the old spelling is what is tested
    (Literal["a", 1], 1),
    (Literal["a", 1], "a"),
    (list, [1, "a", None]),
    (dict, {"a": [1]}),
    (dict[str, Any], {"a": {"b": [1, 2.5, NAN, None, True]}}),
    (Sequence[int], [1]),
    (Iterable[bytes], [b"\xff"]),
    (Mapping[str, bytes], {"a": b"\xff"}),
    (collections.OrderedDict[str, int], collections.OrderedDict(b=1, a=2)),
    (collections.Counter[str], collections.Counter("aab")),
    (collections.deque[int], collections.deque([1, 2])),
    (complex, 1 + 2j),
    (PurePosixPath, PurePosixPath("/a/b")),
    (ipaddress.IPv4Address, ipaddress.IPv4Address("127.0.0.1")),
    (Any, {"a": [1, -0.0, INF, "x\x00", None, {"b": {}}], "n": 2**200}),
]


@pytest.mark.parametrize(("annotation", "value"), EQUAL, ids=map(str, range(len(EQUAL))))
def test_comes_back_equal(annotation: Any, value: Any) -> None:
    payload = CONVERTER.encode(value, annotation, "it")
    assert type(payload) is str
    back = CONVERTER.decode(payload, annotation, "it")
    assert difference(value, back, 100) is None
    if annotation not in (float, Point, Box[int]) and not _has_nan(value):
        assert back == value
        assert type(back) is type(value)
    # What came back can be passed on.
    again = CONVERTER.decode(CONVERTER.encode(back, annotation, "it"), annotation, "it")
    assert difference(value, again, 100) is None


def _has_nan(value: Any) -> bool:
    return "nan" in repr(value)


AMBIGUOUS_OR_LOSSY: list[tuple[Any, Any]] = [
    (int, True),
    (int, 1.0),
    (int, "1"),
    (int, Level.LOW),
    (int, 10**4300),
    (int, None),
    (float, True),
    (float, 2**53 + 1),
    (float, 10**400),
    (float, "1.5"),
    (bool, 1),
    (str, 1),
    (str, Mode.FAST),
    (str, b"a"),
    (bytes, "a"),
    (bytes, bytearray(b"a")),
    (str | Mode, Mode.FAST),
    (Colour | int, Colour.ONE),
    (str | datetime, NOW),
    (datetime | str, NOW.isoformat()),
    (str | bytes, b"a"),
    (date, NOW),
    (date, datetime(2024, 1, 1)),
    (datetime, date(2024, 1, 1)),
    (datetime, NOW.replace(tzinfo=timezone(timedelta(seconds=61)))),
    (time_of_day, time_of_day(1, tzinfo=ZoneInfo("Europe/Berlin"))),
    (Decimal, 1),
    (Decimal, Decimal("NaN")),
    (Point, Point3(1.0, b"", 2.0)),
    (list[Point], [Point3(1.0)]),
    (Pair[Point], Pair(Point(1.0), Point3(1.0))),
    (Customer, Vip(name="V", token=b"")),
    (dict[str, Customer], {"a": Vip(name="V", token=b"")}),
    (Box[Customer], Box[Customer](item=Vip(name="V", token=b""))),
    (Coordinates, Coordinates(Point3(1.0), b"", CUSTOMER)),
    (Coordinates, (Point(1.0), b"", CUSTOMER)),
    (tuple[int, ...], [1]),
    (tuple[int, str], Coordinates),
    (tuple[int, int], (1,)),
    (list[int], (1,)),
    (set[int], frozenset({1})),
    (set[int], {1, True + 1.0}),
    (list[int], [1, True]),
    (dict[int | str, int], {1: 1, "1": 2}),
    (dict[int | str, int], {1: 1}),
    (dict[str, int], {"a": True}),
    (dict[str, int], collections.OrderedDict(a=1)),
    (Movie, {"title": "M", "unknown": 1}),
    (Movie, {}),
    (Any, 10**4300),
    (Any, [-(10**4300)]),
    (Literal["a", 1], True),
    (Fussy, Fussy.model_construct(name="x")),
    (Explosive, Explosive.model_construct(name="boom")),
    (Iterable[int], iter([1])),
    (dict[str, Any], {"a": (1,)}),
    (list, [{1: 2}]),
    (Callable[[], None], print),
    (object, object()),
    (Exception, ValueError()),
    (bytearray, bytearray(b"")),
    ("NoSuchName", 1),
]


@pytest.mark.parametrize(
    ("annotation", "value"), AMBIGUOUS_OR_LOSSY, ids=map(str, range(len(AMBIGUOUS_OR_LOSSY)))
)
def test_what_would_not_come_back_equal_is_refused_at_the_door(annotation: Any, value: Any) -> None:
    with pytest.raises(PayloadError, match=r"^result of activity 'charge' cannot be encoded as "):
        CONVERTER.encode(value, annotation, "result of activity 'charge'")


@pytest.mark.parametrize(
    "value",
    [
        (1,),
        {1},
        b"",
        Point(1.0),
        CUSTOMER,
        NOW,
        Mode.FAST,
        Level.LOW,
        [(1,)],
        {"a": {"b": b""}},
        {1: 2},
        print,
    ],
    ids=repr,
)
def test_unannotated_values_are_plain_json_or_asked_to_be_annotated(value: Any) -> None:
    with pytest.raises(PayloadError, match="annotate it"):
        CONVERTER.encode(value, Any, "it")


def test_errors_name_the_thing_the_annotation_and_the_place() -> None:
    with pytest.raises(PayloadError) as caught:
        CONVERTER.encode(
            {"a": [Point(1.0), Point3(1.0)]}, dict[str, list[Point]], "argument 'p' of workflow 'w'"
        )
    message = str(caught.value)
    assert message.startswith("argument 'p' of workflow 'w' cannot be encoded as dict[str, list[")
    assert "at ['a'][1]: Point3 comes back as its base Point" in message


def test_errors_do_not_show_values() -> None:
    for annotation, value in [(int, "s3cret"), (Literal["a"], "s3cret"), (Customer, {"name": "s3cret"})]:
        with pytest.raises(PayloadError) as caught:
            CONVERTER.encode(value, annotation, "it")
        assert "s3cret" not in str(caught.value)
    with pytest.raises(PayloadError) as caught:
        CONVERTER.decode('"s3cret"', Customer, "it")
    assert "s3cret" not in str(caught.value)


def test_the_order_of_a_union_is_not_lost_in_the_cache() -> None:
    text = NOW.isoformat()
    assert CONVERTER.decode(f'"{text}"', Union[str, datetime], "it") == text  # noqa: UP007
    assert CONVERTER.decode(f'"{text}"', Union[datetime, str], "it") == NOW  # noqa: UP007
    assert CONVERTER.decode(f'"{text}"', str | datetime, "it") == text
    assert CONVERTER.decode(f'"{text}"', datetime | str, "it") == NOW


def test_fields_are_written_by_name_and_read_by_name_or_alias() -> None:
    value = Aliased(**{"from": "a", "dest": "b"})
    assert json.loads(CONVERTER.encode(value, Aliased, "it")) == {"from_": "a", "to": "b"}
    assert CONVERTER.decode('{"from":"a","dest":"b"}', Aliased, "it") == value
    assert CONVERTER.decode('{"from_":"a","to":"b"}', Aliased, "it") == value


def test_extra_named_as_the_alias_of_a_field_is_refused_rather_than_mixed_up() -> None:
    class Tricky(BaseModel):
        model_config = ConfigDict(extra="allow")
        a: int = Field(alias="b")

    value = Tricky(b=1)
    value.__pydantic_extra__["b"] = 2  # type: ignore[index]
    with pytest.raises(PayloadError):
        CONVERTER.encode(value, Tricky, "it")


def test_private_attributes_are_part_of_a_model() -> None:
    class Private(BaseModel):
        a: int
        _cache: int = 0

    value = Private(a=1)
    CONVERTER.encode(value, Private, "it")
    value._cache = 5
    with pytest.raises(PayloadError, match="private attributes"):
        CONVERTER.encode(value, Private, "it")


def test_settings_of_a_model_elsewhere_are_left_alone() -> None:
    value = Loose(raw=b"text", f=INF)
    before = value.model_dump_json()
    CONVERTER.encode(value, Loose, "it")
    assert value.model_dump_json() == before == '{"a":0,"raw":"text","f":null}'


def test_dataclass_fields_that_are_neither_taken_nor_compared_may_differ() -> None:
    @dataclasses.dataclass
    class Cached:
        a: int
        cache: dict[str, int] = dataclasses.field(default_factory=dict, init=False, compare=False)

    @dataclasses.dataclass
    class Uncompared:
        a: int = dataclasses.field(compare=False)

    @dataclasses.dataclass
    class Counted:
        a: int
        count: int = dataclasses.field(default=0, init=False)

    cached, counted = Cached(1), Counted(1)
    cached.cache["x"] = 1
    CONVERTER.encode(cached, Cached, "it")
    CONVERTER.encode(counted, Counted, "it")
    with pytest.raises(PayloadError, match=r"at \.a: bool comes back as its base int"):
        CONVERTER.encode(Uncompared(True), Uncompared, "it")
    counted.count = 7
    with pytest.raises(PayloadError, match=r"at \.count"):
        CONVERTER.encode(counted, Counted, "it")


# ----------------------------------------------------------------------------------------------- limits


def _nested(levels: int) -> Any:
    value: Any = []
    for _ in range(levels - 1):
        value = [value]
    return value


@dataclasses.dataclass
class Chain:
    next: "Chain | None" = None


def _chain(levels: int) -> Chain:
    chain = Chain()
    for _ in range(levels - 1):
        chain = Chain(chain)
    return chain


@pytest.mark.parametrize(("annotation", "make"), [(Any, _nested), (list, _nested), (Chain, _chain)])
def test_nesting_limit(annotation: Any, make: Callable[[int], Any]) -> None:
    for levels in (99, 100):
        payload = CONVERTER.encode(make(levels), annotation, "it")
        assert CONVERTER.decode(payload, annotation, "it") == make(levels)
    with pytest.raises(PayloadError, match="nested too deeply"):
        CONVERTER.encode(make(101), annotation, "it")
    for levels in (300, 100_000):
        with pytest.raises(PayloadError):
            CONVERTER.encode(make(levels), annotation, "it")


def test_circles_are_refused() -> None:
    circle: list[Any] = []
    circle.append(circle)
    for annotation in (Any, list, list[Any]):
        with pytest.raises(PayloadError):
            CONVERTER.encode(circle, annotation, "it")


@pytest.mark.parametrize("text", ["x" * 8, "é" * 4, "漢" * 2 + "xx", "🎈" * 2])
def test_size_limit_counts_bytes(text: str) -> None:
    size = len(text.encode()) + 2
    for limit in (size, size + 1):
        Converter(max_payload_bytes=limit).encode(text, str, "it")
    with pytest.raises(
        PayloadTooLarge, match=rf"^result of 'f' takes {size} bytes, over the limit of {size - 1} "
    ):
        Converter(max_payload_bytes=size - 1).encode(text, str, "result of 'f'")


def test_the_limit_is_two_mebibytes_and_for_all_arguments_together() -> None:
    CONVERTER.encode("x" * (2 * 1024 * 1024 - 2), str, "it")
    with pytest.raises(PayloadTooLarge):
        CONVERTER.encode("x" * (2 * 1024 * 1024 - 1), str, "it")
    half = "x" * (1024 * 1024)
    with pytest.raises(
        PayloadTooLarge, match=r"arguments of workflow 'w' .* largest is argument '\w+' with \d+ bytes"
    ):
        CONVERTER.encode_args(CallSignature(_two_texts), (half, half), {}, "workflow 'w'")


def _two_texts(a: str, b: str) -> None: ...


# ----------------------------------------------------------------------------------------------- hostile text

HOSTILE = [
    "",
    " ",
    "{",
    "[1,",
    '{"a":1,}',
    "nul",
    "'a'",
    "\x00",
    '"\x00"',
    "1" * 100_000,
    "-" + "9" * 1_000_000,
    "0." + "1" * 100_000,
    "1e" + "9" * 100_000,
    "[" * 100_000,
    "[" * 100_000 + "]" * 100_000,
    '{"a":' * 100_000 + "1" + "}" * 100_000,
    '"\\ud800"',
    '"\\udc00\\ud800"',
    '{"\\ud800":1}',
    '"\ud800"',
    "\ud800",
    '{"a":1,"a":2}',
    '{"x":1,"x":2,"raw":"zz","raw":"!!"}',
    pickle.dumps({"a": 1}, 0).decode("latin-1"),
    "\x80\x04\x95",
    '{"lc":1,"type":"constructor","id":["os","system"],"kwargs":{"command":"true"}}',
    '{"py/object":"os.system","py/reduce":[{"py/type":"os.system"},{"py/tuple":["true"]}]}',
    '{"__class__":"os.system","__reduce__":["os.system",["true"]]}',
    '!!python/object/apply:os.system ["true"]',
    '{"args":[1],"kwargs":{}}',
    "[" + ",".join(["1"] * 100_000) + "]",
    "{" + ",".join(f'"k{i}":{i}' for i in range(50_000)) + "}",
    '"' + "\\u0000" * 100_000 + '"',
    "NaN",
    "-Infinity",
    "1e999",
    '"' + "1" * 100_000 + '"',
    '"P' + "9" * 100_000 + 'D"',
    '"2024-13-45T99:99:99"',
]
TARGETS: list[Any] = [
    Any, str, int, float, bool, bytes, None, Decimal, UUID, datetime, timedelta, Colour, Point, Deep, Customer,
    Aliased, Loose, Movie, Series, Coordinates, list[int], dict[str, Any], dict[int, int], set[int],
    tuple[int, ...], int | str | Point, Chain, complex,
]  # fmt: skip


@pytest.mark.parametrize("index", range(len(HOSTILE)))
def test_hostile_text_gives_a_value_or_a_payload_error_in_bounded_time(index: int) -> None:
    text = HOSTILE[index]
    for annotation in TARGETS:
        started = time.perf_counter()
        try:
            CONVERTER.decode(text, annotation, "it")
        except PayloadError as error:
            assert str(error).startswith("it cannot be decoded")
            assert len(str(error)) < 2000
        assert time.perf_counter() - started < 2


@pytest.mark.parametrize(
    "text", ["1" * 4301, "[" * 100_000, '"\\ud800"', "\ud800", "\x80\x04\x95", "", "[1,"]
)
def test_text_that_no_annotation_makes_sense_of(text: str) -> None:
    for annotation in (Any, int, str, list, Point):
        with pytest.raises(PayloadError):
            CONVERTER.decode(text, annotation, "it")


def test_constructor_style_json_is_plain_data() -> None:
    text = '{"py/object": "os.system", "lc": 1}'
    assert CONVERTER.decode(text, Any, "it") == {"py/object": "os.system", "lc": 1}


@pytest.mark.parametrize("payload", [b"1", None, 1, bytearray(b"1")])
def test_a_payload_is_text(payload: Any) -> None:
    with pytest.raises(PayloadError, match="a payload is text"):
        CONVERTER.decode(payload, int, "it")


@pytest.mark.parametrize("annotation", [Any, str, list[str], Customer, dict[str, int]])
def test_lone_surrogates_are_refused_at_the_door(annotation: Any) -> None:
    bad = "\ud800"
    values = {str: bad, list[str]: [bad], Customer: Customer.model_construct(name=bad, token=b"", score=0.0)}
    with pytest.raises(PayloadError, match=r"surrogates not allowed|the key .* does not come back"):
        CONVERTER.encode(values.get(annotation, {bad: 1}), annotation, "it")


@given(st.text(st.characters(exclude_categories=[]), max_size=40))
def test_any_text_at_all_is_decoded_or_refused(text: str) -> None:
    for annotation in (Any, int, Point, dict[str, Any]):
        try:
            CONVERTER.decode(text, annotation, "it")
        except PayloadError:
            continue


# ----------------------------------------------------------------------------------------------- codecs


@dataclasses.dataclass(frozen=True)
class Reversing:
    def encode(self, text: str) -> str:
        return "r:" + text[::-1]

    def decode(self, text: str) -> str:
        if not text.startswith("r:"):
            raise KeyError("no such key")
        return text[2:][::-1]


def test_codec_sees_text_both_ways_and_its_failures_are_payload_errors() -> None:
    converter = Converter(codec=Reversing())
    assert converter.encode([12], list[int], "it") == "r:]21["
    assert converter.decode("r:]21[", list[int], "it") == [12]
    signature = CallSignature(_two_texts)
    payload = converter.encode_args(signature, ("a", "b"), {}, "f")
    assert payload.startswith("r:")
    assert converter.decode_args(payload, signature, "f") == (["a", "b"], {})
    with pytest.raises(PayloadError, match="it cannot be decoded: the codec failed: KeyError"):
        converter.decode("[12]", list[int], "it")  # never falls back to the text as it is
    with pytest.raises(PayloadError, match="arguments of f cannot be decoded: the codec failed"):
        converter.decode_args("[]", signature, "f")


def test_size_counts_what_is_stored() -> None:
    with pytest.raises(PayloadTooLarge, match="takes 3 bytes, over the limit of 2"):
        Converter(codec=Reversing(), max_payload_bytes=2).encode(1, int, "it")


def test_plain_codec_is_the_default() -> None:
    assert Converter() == Converter(codec=PlainCodec(), max_payload_bytes=2 * 1024 * 1024, max_nesting=100)


# ----------------------------------------------------------------------------------------------- arguments


def _call(a: Point, b: int = 1, *rest: bytes, c: float = 0.0, **more: date) -> None: ...


@pytest.mark.parametrize(
    ("args", "kwargs", "text"),
    [
        ((), {"a": Point(1.0)}, '{"args":[],"kwargs":{"a":{"x":1.0,"raw":""}}}'),
        ((Point(1.0),), {}, '[{"x":1.0,"raw":""}]'),
        ((Point(1.0), 2, b"\xff", b""), {}, '[{"x":1.0,"raw":""},2,"_w==",""]'),
        ((Point(1.0),), {"c": 2.5, "é": date(2024, 1, 1)}, None),
        ((Point(1.0), 2**70), {"c": INF},
         '{"args":[{"x":1.0,"raw":""},1180591620717411303424],"kwargs":{"c":Infinity}}'),
    ],
)  # fmt: skip
def test_arguments_come_back_as_they_were_given(args: Any, kwargs: Any, text: str | None) -> None:
    signature = CallSignature(_call)
    payload = CONVERTER.encode_args(signature, args, kwargs, "workflow 'w'")
    assert text is None or payload == text
    assert CONVERTER.decode_args(payload, signature, "workflow 'w'") == (list(args), kwargs)


def test_a_single_argument_that_looks_like_a_call_is_not_one() -> None:
    def plain(a: Any) -> None: ...

    signature = CallSignature(plain)
    value = {"args": [1], "kwargs": {"b": 2}}
    payload = CONVERTER.encode_args(signature, (value,), {}, "f")
    assert CONVERTER.decode_args(payload, signature, "f") == ([value], {})


@pytest.mark.parametrize(
    ("args", "kwargs", "name"),
    [
        ((1,), {}, "a"),
        ((Point(1.0), "2"), {}, "b"),
        ((Point(1.0), 2, b"", "x"), {}, "rest[1]"),
        ((Point(1.0),), {"c": "x"}, "c"),
        ((Point(1.0),), {"d": 1}, "d"),
    ],
)
def test_errors_name_the_argument(args: Any, kwargs: Any, name: str) -> None:
    with pytest.raises(PayloadError) as caught:
        CONVERTER.encode_args(CallSignature(_call), args, kwargs, "workflow 'w'")
    assert str(caught.value).startswith(f"argument {name!r} of workflow 'w' cannot be encoded as ")


def test_a_call_that_does_not_fit_is_a_type_error() -> None:
    with pytest.raises(TypeError, match=r"_call\(\) missing a required argument: 'a'"):
        CONVERTER.encode_args(CallSignature(_call), (), {}, "workflow 'w'")


@pytest.mark.parametrize(
    "payload",
    ["", "1", "null", "{}", '{"args":[]}', '{"args":{},"kwargs":{}}', '{"args":[],"kwargs":[]}', "[1]", "[]",
     '{"args":[{"x":1}],"kwargs":{},"x":1}', '[{"x":1},2,3]',
     "[" * 10**5, '[{"x":"y"}]', '{"args":[],"kwargs":{"a":5}}',
     '{"args":[{"x":1}],"kwargs":{"a":{"x":1}}}', '[{"x":1},"\\ud800"]'],
)  # fmt: skip
def test_stored_arguments_that_do_not_fit_are_payload_errors(payload: str) -> None:
    with pytest.raises(PayloadError, match="workflow 'w'"):
        CONVERTER.decode_args(payload, CallSignature(_call), "workflow 'w'")


def test_numbers_in_arguments_keep_their_exact_value() -> None:
    def numbers(a: Any, b: Decimal, c: float, d: list[float]) -> None: ...

    signature = CallSignature(numbers)
    args = [[2**70, 0.1, 5e-324], Decimal("1.10"), 1e22, [NAN, -0.0]]
    back, _ = CONVERTER.decode_args(CONVERTER.encode_args(signature, args, {}, "f"), signature, "f")
    assert difference(args, back, 100) is None


# ------------------------------------------------------------------------------------- the quick way and the long one

QUICK = {
    str: st.text(),
    int: st.integers() | st.integers(-(2**65), 2**65),
    float: st.floats(),
    bool: st.booleans(),
    bytes: st.binary(),
}


@given(st.data())
def test_the_quick_way_says_the_same_as_the_long_one(data: st.DataObject) -> None:
    kind = data.draw(st.sampled_from(sorted(QUICK, key=repr)))
    value = data.draw(QUICK[kind])
    quick = CONVERTER.encode(value, kind, "it")
    slow = CONVERTER.encode([value], list[kind], "it")[1:-1]  # type: ignore[valid-type]
    for text in (quick, slow):
        assert difference(value, CONVERTER.decode(text, kind, "it"), 100) is None
    if kind is not float:  # 1e16 or 1e+16
        assert quick == slow


PLAIN = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner, max_size=5) | st.dictionaries(st.text(max_size=5), inner, max_size=5),
    max_leaves=20,
)


@given(PLAIN)
def test_plain_values_come_back(value: Any) -> None:
    for annotation in (Any, object):
        payload = CONVERTER.encode(value, annotation, "it")
        assert difference(value, CONVERTER.decode(payload, annotation, "it"), 100) is None


_times = st.datetimes(timezones=st.none() | st.just(UTC) | st.just(EAST))
TYPED: list[tuple[Any, st.SearchStrategy[Any]]] = [
    (list[float], st.lists(st.floats())),
    (dict[int, bytes], st.dictionaries(st.integers(), st.binary())),
    (set[Decimal], st.sets(st.decimals(allow_nan=False, allow_infinity=False))),
    (tuple[datetime, timedelta], st.tuples(_times, st.timedeltas())),
    (list[date | time_of_day], st.lists(st.dates() | st.times())),
    (Point, st.builds(Point, st.floats(), st.binary())),
    (dict[str, list[Point] | None], st.dictionaries(st.text(), st.none() | st.lists(st.builds(Point, st.floats())))),
    (Customer, st.builds(Customer, name=st.text(), token=st.binary(), score=st.floats())),
    (Coordinates, st.builds(Coordinates, st.builds(Point, st.floats()), st.binary(),
                            st.builds(Customer, name=st.text(), token=st.binary()))),
    (Movie, st.fixed_dictionaries({"title": st.text()}, optional={"raw": st.binary()})),
    (int | str | None, st.integers() | st.text() | st.none()),
    (frozenset[int | str], st.frozensets(st.integers() | st.text())),
    (list[UUID], st.lists(st.uuids())),
]  # fmt: skip


@settings(max_examples=200, deadline=None)
@given(st.data())
def test_typed_values_come_back(data: st.DataObject) -> None:
    annotation, values = data.draw(st.sampled_from(TYPED))
    value = data.draw(values)
    back = CONVERTER.decode(CONVERTER.encode(value, annotation, "it"), annotation, "it")
    assert difference(value, back, 100) is None


@settings(max_examples=200, deadline=None)
@given(st.data())
def test_a_value_under_the_wrong_annotation_is_refused_or_comes_back_equal(data: st.DataObject) -> None:
    annotation, _ = data.draw(st.sampled_from(TYPED))
    _, values = data.draw(st.sampled_from(TYPED))
    value = data.draw(values)
    try:
        payload = CONVERTER.encode(value, annotation, "it")
    except PayloadError:
        return
    back = CONVERTER.decode(payload, annotation, "it")
    assert difference(value, back, 100) is None
    assert type(back) is type(value)


# ----------------------------------------------------------------------------------------------- sameness itself


@pytest.mark.parametrize(
    ("a", "b", "where"),
    [
        (1, True, "int comes back as bool"),
        (0.0, -0.0, "another value"),
        ([1.0, 0.0], [1.0, -0.0], r"at \[1\]"),
        ([1, 1], [1, True], r"at \[1\]: int comes back as bool"),
        ([1], [1, 2], "1 items come back as 2"),
        ({"a": 1}, {"a": 2}, r"at \['a'\]"),
        ({"a": 1}, {"b": 1}, "key 'a' does not come back"),
        ({1: 1}, {True: 1}, "key 1: int comes back as bool"),
        ({1}, {True}, "an item: int comes back as bool"),
        ({1}, {2}, "an item of type int does not come back"),
        ({NAN}, {INF}, "an item of type float"),
        ({(1, float("nan"))}, {(True, float("nan"))}, "an item of type tuple"),
        (Decimal("1.0"), Decimal("1.00"), "another value"),
        (NOW, NOW.replace(tzinfo=UTC), "another value"),
        (NOW.replace(tzinfo=UTC), NOW.replace(tzinfo=UTC).astimezone(EAST), "another value"),
        (collections.OrderedDict(a=1, b=2), collections.OrderedDict(b=2, a=1), "keys"),
        (object(), object(), "has no __eq__"),
        (Customer(name="a", token=b""), Customer(name="b", token=b""), r"at \.name"),
    ],
)
def test_differences_are_seen(a: Any, b: Any, where: str) -> None:
    found = difference(a, b, 100)
    assert found is not None
    with pytest.raises(AssertionError, match=where):
        raise AssertionError(found)


def test_sets_of_nan_are_paired() -> None:
    assert difference({float("nan"), float("nan")}, {float("nan"), float("nan")}, 9) is None
    assert math.isnan(CONVERTER.decode("NaN", float, "it"))
