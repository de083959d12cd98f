"""What random operations are made of: few names, so that calls meet, and recipes for checkpoints."""

from __future__ import annotations

from dataclasses import dataclass

from hypothesis import strategies as st

from durable.testing.conformance.clock import SECOND

ids = st.sampled_from("abc")
keys = st.sampled_from(["k1", "k2", "k3", "bad\x00"])
workers = st.sampled_from(["w1", "w2"])
recent = st.integers(0, 5)
"""Which of the things seen so far, counted from the last."""
few = st.integers(0, 2)
coin = st.booleans()
spans = st.sampled_from([0, 1, SECOND, 5 * SECOND, 10 * SECOND, 10 * SECOND - 1, 30 * SECOND])


@dataclass(frozen=True, slots=True, kw_only=True)
class Recipe:
    """How a checkpoint is made from what is known when its turn comes."""

    at: int
    consume: int
    look: bool
    activities: int
    send_to: str | None
    child: str | None
    parent_close: str
    withdraw: bool
    absorb: bool
    publish: bool
    status: str | None
    wake_in_us: int | None
    fired_in_us: int | None
    keep: bool
    ending: str | None


recipes = st.builds(
    Recipe,
    at=recent,
    consume=st.integers(0, 7),
    look=st.sampled_from([True, True, False]),
    activities=few,
    send_to=st.sampled_from([None, None, "a", "b", "c", "nobody"]),
    child=st.sampled_from([None, None, "a", "b", "c"]),
    parent_close=st.sampled_from(["terminate", "cancel", "abandon"]),
    withdraw=coin,
    absorb=coin,
    publish=coin,
    status=st.sampled_from([None, "packing", "sent"]),
    wake_in_us=st.sampled_from([None, None, 0, 1, SECOND, 20 * SECOND]),
    fired_in_us=st.sampled_from([None, None, None, -1, 0, 1]),
    keep=coin,
    ending=st.sampled_from([None, None, None, None, "completed", "failed", "continue"]),
)
