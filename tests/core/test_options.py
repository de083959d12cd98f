"""The options of activities as text: what differs from the defaults, so that histories stay small."""

from __future__ import annotations

import pytest

from durable.core.definition import ActivityOptions
from durable.core.hooks import headers_of, with_headers
from durable.core.retry import Retry

EVERYTHING = ActivityOptions(
    retry=Retry(5, initial=0.0, timeout=9),
    timeout_seconds=0.0,
    queue_timeout_seconds=2.0,
    heartbeat_timeout_seconds=3.0,
    at_most_once=True,
)


@pytest.mark.parametrize(
    "options",
    [ActivityOptions(), EVERYTHING, ActivityOptions(retry=Retry(1)), ActivityOptions(at_most_once=True)],
)
def test_options_come_back_from_their_text_with_and_without_headers(options: ActivityOptions) -> None:
    for headers in ({}, {"trace": '"x"'}):
        text = with_headers(options.to_text(), headers)
        assert ActivityOptions.from_text(text) == options
        assert headers_of(text) == headers


def test_defaults_take_no_room() -> None:
    assert ActivityOptions().to_text() == "{}"


@pytest.mark.parametrize("text", ["[]", "1", '{"retry": 5}', "no JSON"])
def test_what_are_no_options_is_said(text: str) -> None:
    with pytest.raises((ValueError, TypeError)):
        ActivityOptions.from_text(text)
