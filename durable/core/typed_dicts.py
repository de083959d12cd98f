"""`typing.TypedDict` for pydantic on Python 3.11, where pydantic takes only the one of `typing_extensions`.

Each class that an annotation reaches gets a hook that hands pydantic an equal class of `typing_extensions`.
On later versions nothing is done, and when 3.11 is dropped, this file goes with it. Generic ones are left to
pydantic's error.
"""

from __future__ import annotations

import dataclasses
import sys
import typing
from typing import Any

import typing_extensions


def adopt_typed_dicts(annotation: Any) -> None:
    """Makes every `typing.TypedDict` that ``annotation`` reaches (also through dataclasses) known to
    pydantic.
    """
    if sys.version_info < (3, 12):
        _visit(annotation, set())


def _visit(annotation: Any, seen: set[int]) -> None:
    if id(annotation) in seen:
        return
    seen.add(id(annotation))
    for part in typing.get_args(annotation):
        _visit(part, seen)
    origin = typing.get_origin(annotation) or annotation
    if not isinstance(origin, type):
        return
    is_typed_dict = type(origin).__module__ == "typing" and typing.is_typeddict(origin)
    if not (is_typed_dict or dataclasses.is_dataclass(origin) or hasattr(origin, "_fields")):
        return
    try:
        hints = typing.get_type_hints(origin, include_extras=True)
    except Exception:  # pydantic will say it better
        return
    for hint in hints.values():
        _visit(hint, seen)
    is_generic = bool(getattr(origin, "__parameters__", ()))
    if is_typed_dict and not is_generic and "__get_pydantic_core_schema__" not in vars(origin):
        _adopt(origin, hints)


def _adopt(origin: Any, hints: dict[str, Any]) -> None:
    fields = {name: _qualified(hint, name in origin.__required_keys__) for name, hint in hints.items()}
    make: Any = typing_extensions.TypedDict  # called as a function, which keeps the qualifiers of the fields
    twin = make(origin.__name__, fields)
    twin.__module__, twin.__qualname__ = origin.__module__, origin.__qualname__
    if (config := vars(origin).get("__pydantic_config__")) is not None:
        twin.__pydantic_config__ = config

    def hand_over(_cls: Any, _source: Any, handler: Any) -> Any:
        return handler.generate_schema(twin)

    origin.__get_pydantic_core_schema__ = classmethod(hand_over)


def _qualified(hint: Any, required: bool) -> Any:
    if typing.get_origin(hint) in (typing.Required, typing.NotRequired):
        return hint
    return typing.Required[hint] if required else typing.NotRequired[hint]
