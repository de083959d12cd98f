"""Values <-> text, by annotation: what is written is what will be read, or nothing is written.

A payload is a `str`: JSON text, or what a `Codec` made of it (ciphertext, compressed text). pydantic does the
conversion, driven by the annotation only; a name found in stored text never selects a class, and there is no
second way of decoding to fall back on. The JSON is as Python writes it: numbers have any size, and ``NaN``,
``Infinity`` and ``-Infinity`` are written bare. Bytes are base64 (the URL-safe alphabet), times are ISO 8601,
wherever they stand: the settings that a model of yours has for them are for your JSON, and here they would
lose bytes or NaN. Fields are written by their names, and read by alias or name.

The check at the door. `Converter.encode` decodes what it wrote and compares, so an error is raised where the
value is made and not, a crash later, where it is needed. Two values are the same if they have the same type,
part by part, and are equal, with these rules:

- an `int` where `float` is annotated is accepted if the float is exactly it (it comes back as a float); a
  `bool` where `int` is annotated is not, and neither is any other subclass, since what it adds would be lost;
- NaN equals NaN; ``-0.0`` is not ``0.0``; ``Decimal("1.0")`` is not ``Decimal("1.00")``;
- aware times need the same offset, but not the same ``tzinfo``: a `zoneinfo.ZoneInfo` comes back as the fixed
  offset;
- dataclasses and models are compared by their fields, not by an ``__eq__`` of their own. A field that the
  class neither takes nor compares (``init=False, compare=False``) may differ;
- ``Box(item=1)`` is as good as ``Box[int](item=1)`` for generic pydantic models.

Without an annotation, or with `Any`, only plain JSON values are taken: None, bool, int, float, str, list, and
dict with keys of type str. Integers have at most 4,300 digits, which is where Python and pydantic stop
reading them.
"""

from __future__ import annotations

import base64
import contextlib
import inspect
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Protocol

from pydantic import TypeAdapter, ValidationError
from pydantic_core import PydanticSerializationError, SchemaSerializer, SchemaValidator, from_json, to_json
from pydantic_core.core_schema import CoreConfig

from durable.core.sameness import TooDeep, difference, plain_difference
from durable.core.typed_dicts import adopt_typed_dicts
from durable.errors import PayloadError, PayloadTooLarge

if TYPE_CHECKING:
    from durable.core.signature import CallSignature

MAX_PAYLOAD_BYTES = 2 * 1024 * 1024
MAX_NESTING = 100

_NONE = type(None)
_MACHINE_INT = 2**63
_CACHED_SHAPES = 4096

_CONFIG: CoreConfig = {
    "ser_json_bytes": "base64",
    "val_json_bytes": "base64",
    "ser_json_inf_nan": "constants",
    "ser_json_timedelta": "iso8601",
    "ser_json_temporal": "iso8601",
}
_HAS_CONFIG = ("model", "dataclass", "typed-dict")
# Values of users inside a schema, which may look like a schema and must not be touched.
_OPAQUE = ("default", "expected", "members", "metadata", "config")


class Codec(Protocol):
    """Turns the JSON text of a payload into what is stored, and back: encryption, compression.

    Both methods are pure, take and give a `str` without lone surrogates, and may raise anything, which
    becomes a `PayloadError`. ``decode`` never falls back to the text it got.
    """

    def encode(self, text: str) -> str:
        """What is stored for this JSON text."""
        ...

    def decode(self, text: str) -> str:
        """The JSON text for what was stored."""
        ...


@dataclass(frozen=True, slots=True)
class PlainCodec:
    """Stores the JSON as it is."""

    def encode(self, text: str) -> str:
        return text

    def decode(self, text: str) -> str:
        return text


@dataclass(frozen=True, slots=True, kw_only=True)
class Converter:
    """Encodes and decodes payloads; ``max_payload_bytes`` is the limit for what is stored, in bytes of UTF-8.

    ``what`` names the thing in messages: ``"result of activity 'charge'"``.
    """

    codec: Codec = field(default_factory=PlainCodec)
    max_payload_bytes: int = MAX_PAYLOAD_BYTES
    max_nesting: int = MAX_NESTING

    def encode(self, value: Any, annotation: Any, what: str) -> str:
        """The payload of ``value``; decoding it gives an equal value of the same type.

        Raises `PayloadError` if it would not, `PayloadTooLarge` if it is over the limit.
        """
        try:
            text = _shape_of(annotation).write(value, self.max_nesting)
        except _Refusal as refusal:
            raise PayloadError(
                f"{what} cannot be encoded as {_spell(annotation)}: {refusal}"
            ) from refusal.__cause__
        return self._stored(text, what)

    def decode(self, payload: str, annotation: Any, what: str) -> Any:
        """The value of a payload. Raises `PayloadError`, and nothing else, for whatever text is given."""
        text = self._json(payload, what)
        try:
            return _shape_of(annotation).read(text)
        except _Refusal as refusal:
            raise PayloadError(
                f"{what} cannot be decoded as {_spell(annotation)}: {refusal}"
            ) from refusal.__cause__

    def encode_args(
        self, signature: CallSignature, args: Sequence[Any], kwargs: Mapping[str, Any], what: str
    ) -> str:
        """The arguments of one call as one payload: ``[1,2]``, or with keywords
        ``{"args":[1],"kwargs":{"b":2}}``.

        ``what`` is the thing called (``"workflow 'checkout'"``). Raises `TypeError` if the call does not fit
        the signature, `PayloadError` naming the argument, `PayloadTooLarge`.
        """
        signature.bind(args, kwargs)
        return self.encode_bound_args(signature, args, kwargs, what)

    def encode_bound_args(
        self, signature: CallSignature, args: Sequence[Any], kwargs: Mapping[str, Any], what: str
    ) -> str:
        """`encode_args` of a call that was checked."""
        if not kwargs and (text := self._quickly_encoded(signature, args)) is not None:
            return text
        places = [signature.positional(index) for index in range(len(args))]
        texts = [self._argument(value, place, what) for value, place in zip(args, places, strict=True)]
        text = f"[{','.join(texts)}]"
        if kwargs:
            places += [signature.keyword(name) for name in kwargs]
            texts += [self._argument(value, signature.keyword(name), what) for name, value in kwargs.items()]
            pairs = [
                f"{_key(name, what)}:{own}" for name, own in zip(kwargs, texts[len(args) :], strict=True)
            ]
            text = f'{{"args":{text},"kwargs":{{{",".join(pairs)}}}}}'
        try:
            return self._stored(text, f"arguments of {what}")
        except PayloadTooLarge as error:
            size, name = max(
                (len(own.encode("utf-8", "surrogatepass")), at[0])
                for own, at in zip(texts, places, strict=True)
            )
            raise PayloadTooLarge(f"{error}. The largest is argument {name!r} with {size} bytes") from None

    def decode_args(
        self, payload: str, signature: CallSignature, what: str
    ) -> tuple[list[Any], dict[str, Any]]:
        """The arguments of a call, as `encode_args` took them.

        Raises `PayloadError`, also when the function does not take these arguments (any more).
        """
        args, kwargs = _split_args(self._json(payload, what, "arguments of "), what)
        try:
            signature.bind(args, kwargs)
        except TypeError as error:
            raise PayloadError(f"stored arguments of {what} do not fit the function: {error}") from error
        shapes = signature.argument_shapes or _argument_shapes(signature)
        if not kwargs and len(args) <= len(shapes):
            try:
                return [shape.read_parsed(one) for shape, one in zip(shapes, args, strict=False)], {}
            except _Refusal:
                pass  # which one it is, is told below
        positional = [
            _read_argument(value, signature.positional(index), what) for index, value in enumerate(args)
        ]
        named = {name: _read_argument(value, signature.keyword(name), what) for name, value in kwargs.items()}
        return positional, named

    def encode_result(self, value: Any, signature: CallSignature, what: str) -> str:
        """As `encode`, with the annotation of what the function gives back."""
        try:
            text = (signature.result_shape or _result_shape(signature)).write(value, self.max_nesting)
        except _Refusal:
            return self.encode(value, signature.result, what)  # raises, and says why
        return self._stored(text, what)

    def decode_result(self, payload: str, signature: CallSignature, what: str) -> Any:
        """As `decode`, with the annotation of what the function gives back."""
        try:
            shape = signature.result_shape or _result_shape(signature)
            return shape.read(payload if type(self.codec) is PlainCodec else self._json(payload, what))
        except _Refusal:
            return self.decode(payload, signature.result, what)  # raises, and says why

    def seal(self, text: str) -> str:
        """The stored form of a text that is no payload but may tell as much: a failure, with its message and trace."""
        return self._stored(text, "a failure")

    def unseal(self, stored: str) -> str:
        """The text that `seal` took. Raises `PayloadError`."""
        return self._json(stored, "a failure")

    def _quickly_encoded(self, signature: CallSignature, args: Sequence[Any]) -> str | None:
        """Positional arguments that nothing is wrong with, whose size is no question; else None."""
        shapes, deepest = signature.argument_shapes or _argument_shapes(signature), self.max_nesting
        if len(args) > len(shapes):
            return None
        try:
            texts = [shape.write(one, deepest) for shape, one in zip(shapes, args, strict=False)]
        except _Refusal:
            return None
        text = f"[{','.join(texts)}]"
        if type(self.codec) is not PlainCodec or len(text) * 4 > self.max_payload_bytes:
            return None
        return text

    def _argument(self, value: Any, argument: tuple[str, Any], what: str) -> str:
        name, annotation = argument
        try:
            return _shape_of(annotation).write(value, self.max_nesting)
        except _Refusal as refusal:
            raise PayloadError(
                f"argument {name!r} of {what} cannot be encoded as {_spell(annotation)}: {refusal}"
            ) from refusal.__cause__

    def _stored(self, text: str, what: str) -> str:
        try:
            stored = self.codec.encode(text)
        except Exception as error:
            raise PayloadError(f"{what} cannot be encoded: the codec failed: {_told(error)}") from error
        # A character is at most four bytes, so that most payloads need no counting.
        if len(stored) * 4 > self.max_payload_bytes:
            size = len(stored) if stored.isascii() else len(stored.encode("utf-8", "surrogatepass"))
            if size > self.max_payload_bytes:
                raise PayloadTooLarge(
                    f"{what} takes {size} bytes, over the limit of {self.max_payload_bytes} bytes: keep large data"
                    " elsewhere and pass a reference, or raise connect(max_payload=)"
                )
        return stored

    def _json(self, payload: str, what: str, part: str = "") -> str:
        if type(self.codec) is PlainCodec and type(payload) is str:
            return payload
        try:
            text = self.codec.decode(payload)
        except Exception as error:
            raise PayloadError(f"{part}{what} cannot be decoded: the codec failed: {_told(error)}") from error
        if not isinstance(text, str):
            raise PayloadError(
                f"{part}{what} cannot be decoded: a payload is text, not {type(text).__name__}"
            )
        return text


class _Refusal(Exception):
    """Why a value cannot be written or read."""


class _Shape:
    """How values of one annotation are written and read: pydantic, with the settings that keep values
    exact.
    """

    __slots__ = ("_quick", "_quick_type", "_reader", "_writer", "annotation")

    def __init__(self, annotation: Any) -> None:
        self.annotation = (
            annotation  # also keeps the id under which the shape is cached from being used again
        )
        schema = _exact(_schema_of(annotation))
        # Without the last argument pydantic would use what it has built for nested models before, with their
        # settings.
        self._writer = SchemaSerializer(schema, _CONFIG, _use_prebuilt=False)
        self._reader = SchemaValidator(schema, _CONFIG, _use_prebuilt=False)
        self._quick_type = annotation if isinstance(annotation, type) and annotation in _QUICK else None
        self._quick = _QUICK[annotation] if self._quick_type is not None else None

    def write(self, value: Any, max_nesting: int) -> str:
        if self._quick is not None and type(value) is self._quick_type:
            text = self._quick(value)
            if text is not None:
                return text
        try:
            encoded = self._writer.to_json(value, by_alias=False, round_trip=True, warnings=False)
            decoded = self._reader.validate_json(encoded, by_alias=True, by_name=True)
            reason = difference(value, decoded, max_nesting)
        except MemoryError:
            raise
        except TooDeep as error:
            raise _Refusal(str(error)) from None
        except Exception as error:
            raise _Refusal(_told(error)) from error
        if reason is not None:
            raise _Refusal(f"it would not come back equal: {reason}")
        return encoded.decode()

    def read(self, text: str) -> Any:
        try:
            return self._reader.validate_json(text, by_alias=True, by_name=True)
        except MemoryError:
            raise
        except Exception as error:
            raise _Refusal(_told(error)) from error

    def read_parsed(self, value: Any) -> Any:
        """As `read`, for JSON that is parsed already."""
        if self._quick_type is not None and type(value) is self._quick_type and self._quick_type is not bytes:
            return value
        return self.read(to_json(value, inf_nan_mode="constants").decode())


class _PlainShape(_Shape):
    """`Any`: plain JSON values, whose round trip needs no trial, for it is exact by construction."""

    __slots__ = ()

    def __init__(self) -> None:
        self.annotation = Any

    def write(self, value: Any, max_nesting: int) -> str:
        try:
            reason = plain_difference(value, max_nesting)
            if reason is None:
                return to_json(value, inf_nan_mode="constants").decode()
        except MemoryError:
            raise
        except TooDeep as error:
            raise _Refusal(str(error)) from None
        except Exception as error:
            raise _Refusal(_told(error)) from error
        raise _Refusal(reason)

    def read(self, text: str) -> Any:
        try:
            return from_json(text, allow_inf_nan=True)
        except MemoryError:
            raise
        except Exception as error:
            raise _Refusal(_told(error)) from error

    def read_parsed(self, value: Any) -> Any:
        return value


def _quick_int(value: int) -> str | None:
    return int.__repr__(value) if -_MACHINE_INT < value < _MACHINE_INT else None


def _quick_float(value: float) -> str:
    if math.isfinite(value):
        return float.__repr__(value)
    return "NaN" if math.isnan(value) else "Infinity" if value > 0 else "-Infinity"


def _quick_str(value: str) -> str:
    try:
        return to_json(value).decode()
    except ValueError as error:
        raise _Refusal(_told(error)) from error


def _quick_bytes(value: bytes) -> str:
    return f'"{base64.urlsafe_b64encode(value).decode()}"'


# Immutable values of exactly the annotated type, whose text is known to be read back; None means: take the
# long way.
_QUICK: dict[type, Callable[[Any], str | None]] = {
    str: _quick_str,
    int: _quick_int,
    float: _quick_float,
    bool: lambda value: "true" if value else "false",
    _NONE: lambda _: "null",
    bytes: _quick_bytes,
}

_PLAIN = _PlainShape()
_by_id: dict[int, _Shape] = {}
_by_equality: dict[Any, _Shape] = {}


def _shape_of(annotation: Any) -> _Shape:
    if annotation is Any or annotation is inspect.Parameter.empty:
        return _PLAIN
    shape = _by_id.get(id(annotation))
    return shape if shape is not None else _new_shape(annotation)


def _argument_shapes(signature: CallSignature) -> tuple[_Shape, ...]:
    """Of the positional parameters, up to the first whose annotation is of no use: who needs that one is told."""
    shapes = signature.argument_shapes
    if shapes is None:
        found: list[_Shape] = []
        with contextlib.suppress(PayloadError, _Refusal):
            found.extend(_shape_of(argument.annotation) for argument in signature.positionals())
        shapes = signature.argument_shapes = tuple(found)
    return shapes


def _result_shape(signature: CallSignature) -> _Shape:
    """Raises `PayloadError` where the annotations cannot be evaluated, `_Refusal` where this one cannot be used."""
    shape: _Shape | None = signature.result_shape
    if shape is None:
        shape = signature.result_shape = _shape_of(signature.result)
    return shape


def _new_shape(annotation: Any) -> _Shape:
    # `int | str == str | int`, but the order can decide what a text is decoded to: repr tells them apart.
    key = (annotation, repr(annotation))
    try:
        shape = _by_equality.get(key)
        hashable = True
    except TypeError:
        shape, hashable = None, False
    if shape is None:
        shape = _built_shape(annotation)
        if hashable:
            _bounded(_by_equality)[key] = shape
    if shape.annotation is annotation:
        _bounded(_by_id)[id(annotation)] = shape
    return shape


def _bounded(cache: dict[Any, _Shape]) -> dict[Any, _Shape]:
    # Annotations made on the fly would otherwise pile up in a process that lives for months.
    if len(cache) >= _CACHED_SHAPES:
        cache.clear()
    return cache


def _built_shape(annotation: Any) -> _Shape:
    try:
        return _Shape(annotation)
    except Exception as error:
        raise _Refusal(f"the annotation cannot be used: {_told(error)}") from error


def _schema_of(annotation: Any) -> Any:
    adopt_typed_dicts(annotation)
    adapter: TypeAdapter[Any] = TypeAdapter(_NONE if annotation is None else annotation)
    schema = adapter.core_schema
    if not isinstance(schema, dict):  # the stand-in of a model with `defer_build`
        schema = dict(schema)
    return schema


def _exact(node: Any) -> Any:
    """A copy of a core schema in which every model has our settings beside its own."""
    if isinstance(node, list):
        return [_exact(item) for item in node]
    if isinstance(node, tuple):
        return tuple(_exact(item) for item in node)
    if not isinstance(node, dict):
        return node
    made = {key: value if key in _OPAQUE else _exact(value) for key, value in node.items()}
    kind = made.get("type")
    if kind in _HAS_CONFIG:
        made["config"] = {**(made.get("config") or {}), **_CONFIG}
    elif kind == "generator":
        made["type"] = "list"  # `Iterable[int]`: a one-way stream could be neither compared nor read twice
    return made


def _key(name: str, what: str) -> str:
    try:
        return _quick_str(name)
    except _Refusal as refusal:
        raise PayloadError(f"keyword {name!r} of {what} cannot be encoded: {refusal}") from refusal.__cause__


def _split_args(text: str, what: str) -> tuple[list[Any], dict[str, Any]]:
    try:
        call = _PLAIN.read(text)
    except _Refusal as refusal:
        raise PayloadError(f"arguments of {what} cannot be decoded: {refusal}") from refusal.__cause__
    if isinstance(call, list):
        return call, {}
    if isinstance(call, dict) and call.keys() == {"args", "kwargs"}:
        args, kwargs = call["args"], call["kwargs"]
        if isinstance(args, list) and isinstance(kwargs, dict):
            return args, kwargs
    raise PayloadError(f"arguments of {what} cannot be decoded: neither a JSON array nor args and kwargs")


def _read_argument(value: Any, argument: tuple[str, Any], what: str) -> Any:
    name, annotation = argument
    try:
        return _shape_of(annotation).read_parsed(value)
    except _Refusal as refusal:
        raise PayloadError(
            f"argument {name!r} of {what} cannot be decoded as {_spell(annotation)}: {refusal}"
        ) from refusal.__cause__


def _spell(annotation: Any) -> str:
    """The annotation as its author would write it, more or less."""
    if annotation is inspect.Parameter.empty:
        return "Any"
    if isinstance(annotation, type) and not hasattr(annotation, "__args__"):
        return annotation.__qualname__
    return repr(annotation).replace("typing.", "")[:200]


def _told(error: BaseException) -> str:
    """The reason in one line, without the values concerned, which may be secrets."""
    if isinstance(error, ValidationError):
        return "; ".join(
            _told_detail(detail) for detail in error.errors(include_input=False, include_url=False)[:3]
        )
    try:
        text = str(error).partition("\n")[0][:500]
    except Exception:
        return type(error).__name__
    return text if isinstance(error, PydanticSerializationError) else f"{type(error).__name__}: {text}"


def _told_detail(detail: Any) -> str:
    where = "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in detail["loc"])
    return f"at {where}: {detail['msg']}"[:300] if where else str(detail["msg"])[:300]
