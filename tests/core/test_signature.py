from __future__ import annotations

import functools
from collections.abc import Callable
from dataclasses import dataclass
from typing import Annotated, Any, NotRequired, ParamSpec, TypedDict, Unpack

import pytest

from durable.core.signature import Argument, CallSignature
from durable.errors import PayloadError

P = ParamSpec("P")


async def checkout(order: Order, cents: int = 5, *, urgent: bool = False) -> Receipt:
    raise NotImplementedError


def everything(a: int, /, b: str, *rest: float, c: bytes, **more: Order) -> None: ...


class Options(TypedDict):
    retries: int
    region: NotRequired[str]


def with_options(**options: Unpack[Options]) -> None: ...


def forwarding(fn: Callable[P, int], *args: P.args, **kwargs: P.kwargs) -> int:
    return fn(*args, **kwargs)


def bare(a, b=1, *rest, **more): ...  # type: ignore[no-untyped-def]


class Shop:
    def charge(self, order: Order) -> int:
        raise NotImplementedError

    def __call__(self, order: Order) -> str:
        raise NotImplementedError


# Defined after the functions that name them: annotations are evaluated at the first use.
@dataclass
class Order:
    id: str


@dataclass
class Receipt:
    id: str


def test_annotations_may_name_what_is_defined_later() -> None:
    signature = CallSignature(checkout)
    assert signature.positional(0) == Argument("order", Order)
    assert signature.positional(1) == Argument("cents", int)
    assert signature.keyword("urgent") == Argument("urgent", bool)
    assert signature.keyword("order") == Argument("order", Order)
    assert signature.result is Receipt


def test_variadic_arguments_have_the_annotation_of_each_value() -> None:
    signature = CallSignature(everything)
    assert signature.positional(2) == Argument("rest[0]", float)
    assert signature.positional(3) == Argument("rest[1]", float)
    assert signature.keyword("other") == Argument("other", Order)
    assert signature.keyword("a") == Argument("a", Order)  # `a` is positional only, so this is one of `more`
    assert signature.result is type(None)


def test_unpacked_typed_dict_gives_each_keyword_its_own_annotation() -> None:
    signature = CallSignature(with_options)
    assert signature.keyword("retries") == Argument("retries", int)
    assert signature.keyword("region") == Argument("region", str)


def test_without_annotation_it_is_any() -> None:
    signature = CallSignature(bare)
    assert [signature.positional(index).annotation for index in range(3)] == [Any, Any, Any]
    assert signature.keyword("z").annotation is Any
    assert signature.result is Any
    assert CallSignature(forwarding).positional(1).annotation is Any
    assert CallSignature(forwarding).keyword("x").annotation is Any


def test_annotated_keeps_its_extras() -> None:
    def fn(a: Annotated[int, "meaning"]) -> None: ...

    assert CallSignature(fn).positional(0).annotation == Annotated[int, "meaning"]


@pytest.mark.parametrize(
    ("args", "kwargs", "message"),
    [
        ((), {}, "checkout() missing a required argument: 'order'"),
        ((1, 2, 3), {}, "checkout() too many positional arguments"),
        ((1,), {"order": 2}, "checkout() multiple values for argument 'order'"),
        ((1,), {"x": 2}, "checkout() got an unexpected keyword argument 'x'"),
    ],
)
def test_a_wrong_call_is_a_type_error(args: Any, kwargs: Any, message: str) -> None:
    with pytest.raises(TypeError) as caught:
        CallSignature(checkout).bind(args, kwargs)
    assert str(caught.value) == message


@pytest.mark.parametrize(
    ("args", "kwargs"), [((1,), {}), ((1, 2), {}), ((), {"order": 1}), ((1,), {"urgent": True})]
)
def test_a_right_call_passes(args: Any, kwargs: Any) -> None:
    CallSignature(checkout).bind(args, kwargs)


def test_required_keywords_are_not_skipped_by_counting() -> None:
    with pytest.raises(TypeError, match=r"everything\(\) missing a required .*argument: 'c'"):
        CallSignature(everything).bind((1, "b", 1.0), {})
    CallSignature(everything).bind((1, "b", 1.0), {"c": b""})


def test_self_of_a_bound_method_is_no_argument() -> None:
    signature = CallSignature(Shop().charge)
    signature.bind((1,), {})
    assert signature.positional(0) == Argument("order", Order)
    assert (signature.name, signature.result) == ("charge", int)


def test_partials_and_callable_instances() -> None:
    assert CallSignature(Shop()).positional(0) == Argument("order", Order)
    partial = functools.partial(checkout, urgent=True)
    assert CallSignature(partial, name="quick").positional(0) == Argument("order", Order)


def test_wrapped_functions_have_the_signature_of_what_they_wrap() -> None:
    @functools.wraps(checkout)
    async def wrapper(*args: Any, **kwargs: Any) -> Any: ...

    assert CallSignature(wrapper).positional(0) == Argument("order", Order)


def test_local_classes_are_found_in_closures_and_in_the_given_namespace() -> None:
    @dataclass
    class Local:
        id: int

    def used(a: Local) -> None:
        Local(1)

    def named(a: Local) -> None: ...

    assert CallSignature(used).positional(0).annotation is Local
    namespace: dict[str, Any] = {}
    signature = CallSignature(named, namespace=namespace)
    namespace["Local"] = Local  # read at the first use only
    assert signature.positional(0).annotation is Local


def test_unresolvable_annotations_say_what_to_do() -> None:
    def fn(a: Missing) -> None: ...  # type: ignore[name-defined] # noqa: F821

    signature = CallSignature(fn)
    signature.bind((1,), {})
    with pytest.raises(PayloadError, match=r"annotations of fn\(\) .*Missing.*TYPE_CHECKING"):
        signature.positional(0)


def test_objects_without_signature_are_refused() -> None:
    with pytest.raises(TypeError, match="has no signature"):
        CallSignature(type)
