from __future__ import annotations

import dataclasses
import json
import math
from datetime import timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from durable.core.failure import failure_of
from durable.core.retry import Retry, seconds
from durable.errors import NonRetryable, RetryAfter


class CardDeclined(Exception):
    pass


class CardExpired(CardDeclined):
    pass


def half() -> float:
    return 0.5  # no jitter


def delay(
    policy: Retry, attempt: int = 1, error: BaseException | None = None, elapsed: float = 0.0
) -> float | None:
    return policy.next_delay_seconds(attempt, error or ValueError("x"), elapsed, half)


def test_the_defaults() -> None:
    policy = Retry()
    assert [delay(policy, attempt) for attempt in (1, 2, 3, 4)] == [1.0, 2.0, None, None]
    assert policy == Retry(
        max_attempts=3,
        initial=1.0,
        factor=2.0,
        max_interval=100.0,
        jitter=0.1,
        timeout=None,
        non_retryable=(),
    )


def test_intervals_grow_to_the_limit_and_never_overflow() -> None:
    policy = Retry(max_attempts=None, initial=timedelta(milliseconds=500), factor=3, max_interval=10)
    assert [delay(policy, attempt) for attempt in (1, 2, 3, 4, 1000, 10**6)] == [0.5, 1.5, 4.5, 10, 10, 10]
    assert delay(Retry(max_attempts=None, initial=0), 10**6) == 0
    assert delay(Retry(max_attempts=None, factor=1e308), 5) == 100
    assert delay(Retry(max_attempts=None, initial=500, max_interval=100)) == 100


def test_one_attempt_is_no_retry() -> None:
    assert delay(Retry(max_attempts=1)) is None
    assert delay(Retry(1)) is None


def test_jitter_is_a_fraction_to_either_side() -> None:
    policy = Retry(initial=10, jitter=0.2)
    drawn = [
        policy.next_delay_seconds(1, ValueError(), 0, lambda value=value: value) for value in (0.0, 0.5, 1.0)
    ]
    assert drawn == pytest.approx([8.0, 10.0, 12.0])


def test_timeout_counts_from_scheduling_and_includes_the_delay() -> None:
    policy = Retry(max_attempts=None, initial=5, factor=1, timeout=60)
    assert delay(policy, elapsed=55.0) == 5
    assert delay(policy, elapsed=55.001) is None
    assert delay(policy, error=RetryAfter(61)) is None
    assert delay(policy, error=RetryAfter(60)) == 60


def test_raised_wishes() -> None:
    assert delay(Retry(max_attempts=None), error=NonRetryable("no")) is None
    assert delay(Retry(max_interval=1), error=RetryAfter(timedelta(minutes=5))) == 300
    assert delay(Retry(), error=RetryAfter(-5)) == 0
    assert delay(Retry(), error=RetryAfter(math.inf)) == 1
    assert delay(Retry(), error=RetryAfter(1e300)) == delay(Retry(), error=RetryAfter(timedelta.max)) < 1e11
    assert delay(Retry(), attempt=3, error=RetryAfter(1)) is None


@pytest.mark.parametrize(
    ("forbidden", "error", "ends"),
    [
        (CardDeclined, CardDeclined(), True),
        (CardDeclined, CardExpired(), True),
        (CardExpired, CardDeclined(), False),
        ("CardDeclined", CardExpired(), True),
        (f"{__name__}.CardDeclined", CardExpired(), True),
        ("Declined", CardDeclined(), False),
        ("elsewhere.CardDeclined", CardDeclined(), False),
        (ValueError, UnicodeDecodeError("utf-8", b"", 0, 1, "x"), True),
        ("OSError", FileNotFoundError(), True),
        (Exception, ValueError(), True),
    ],
)
def test_non_retryable_by_class_or_name_with_subclasses(forbidden: Any, error: Exception, ends: bool) -> None:
    policy = Retry(non_retryable=[KeyError, forbidden])
    stored = Retry.from_json(json.loads(json.dumps(policy.to_json())))
    assert stored == policy
    for each in (policy, stored):
        assert (delay(each, error=error) is None) is ends
        assert (each.next_delay_seconds(1, failure_of(error), 0, half) is None) is ends


@pytest.mark.parametrize(
    "policy",
    [
        Retry(),
        Retry(max_attempts=None, timeout=timedelta(hours=1), non_retryable=(CardDeclined, "Other")),
        Retry(5, initial=0.25, factor=1.5, max_interval=7, jitter=0),
    ],
)
def test_stored_as_plain_json(policy: Retry) -> None:
    text = json.dumps(policy.to_json(), allow_nan=False)
    assert Retry.from_json(json.loads(text)) == policy
    assert hash(Retry.from_json(json.loads(text))) == hash(policy)
    assert dataclasses.replace(policy, initial=3.0).initial == 3.0


@pytest.mark.parametrize(
    ("argument", "value"),
    [
        ("max_attempts", 0), ("max_attempts", -1), ("max_attempts", True), ("max_attempts", 1.5),
        ("max_attempts", "3"), ("initial", -1), ("initial", math.nan), ("initial", math.inf), ("initial", "1"),
        ("initial", True), ("initial", timedelta(seconds=-1)), ("factor", 0.5), ("factor", 0), ("factor", math.nan),
        ("factor", math.inf), ("factor", "2"), ("factor", True), ("max_interval", -1), ("max_interval", math.inf),
        ("max_interval", 10**400), ("jitter", -0.1), ("jitter", 1.1), ("jitter", math.nan), ("jitter", None),
        ("timeout", -1), ("timeout", math.nan), ("timeout", math.inf), ("non_retryable", "ValueError"),
        ("non_retryable", ValueError), ("non_retryable", (int,)), ("non_retryable", (5,)), ("non_retryable", ("",)),
        ("non_retryable", None),
    ],
)  # fmt: skip
def test_nonsense_is_refused_by_name(argument: str, value: Any) -> None:
    with pytest.raises(ValueError, match=rf"Retry\({argument}=\)"):
        Retry(**{argument: value})


def test_other_json_is_refused() -> None:
    for data in ({"max_attempts": "x"}, {"novelty": 1}, {"jitter": 5}):
        with pytest.raises((ValueError, TypeError)):
            Retry.from_json(data)


@given(
    st.integers(1, 10**9),
    st.floats(0, 1e9),
    st.floats(1, 1e300),
    st.floats(0, 1e9),
    st.floats(0, 1),
    st.floats(0, 1, exclude_max=True),
)
def test_delays_are_finite_and_within_the_jitter_of_the_limit(
    attempt: int, initial: float, factor: float, most: float, jitter: float, drawn: float
) -> None:
    policy = Retry(max_attempts=None, initial=initial, factor=factor, max_interval=most, jitter=jitter)
    found = policy.next_delay_seconds(attempt, ValueError(), 0, lambda: drawn)
    assert found is not None
    assert 0 <= found <= most * 2


# -------------------------------------------------------------------------------------------------- durations


def test_seconds() -> None:
    assert seconds(None, "timeout") is None
    assert (seconds(2, "t"), seconds(0.5, "t"), seconds(timedelta(minutes=1), "t")) == (2.0, 0.5, 60.0)
    assert seconds(0, "t") == 0
    assert seconds(-1, "t", negative=True) == -1
    assert seconds(math.inf, "t", infinite=True) == math.inf
    assert type(seconds(2, "t")) is float


@pytest.mark.parametrize(
    "value",
    [
        math.nan,
        math.inf,
        -math.inf,
        -1,
        timedelta(seconds=-1),
        timedelta.max,
        1e300,
        1e11,
        True,
        "1",
        10**400,
        1j,
        [],
    ],
)
def test_seconds_refuses_and_names_what(value: Any) -> None:
    with pytest.raises(ValueError, match=r"^queue_timeout must "):
        seconds(value, "queue_timeout")
    with pytest.raises(ValueError, match="finite"):
        seconds(math.nan, "t", negative=True, infinite=True)
    with pytest.raises(ValueError, match="at most a thousand years"):
        seconds(-1e300, "t", negative=True, infinite=True)
