"""The judge of stores: laws that every store keeps, random operations against the reference, and workflows.

Tier 1, `StoreLaws`: the sentences of `durable.backends.contract` as tests, without workflow code; events are opaque.
Tier 2, `WorkflowLaws`: a fixed set of workflows, carried by real workers, also in trouble; every history is replayed.
Tier 3, `RandomOperations`: sequences of calls, made up by Hypothesis, in lock-step with the memory store.
`harness` shows the file with which a store opts in. Needs pytest, pytest-asyncio and hypothesis.
"""

from __future__ import annotations

import pytest

_LAWS = (
    "activities",
    "batches",
    "bells",
    "claims",
    "closing_and_children",
    "continuing",
    "creating",
    "crowds",
    "heads_and_commits",
    "holding",
    "identity_and_limits",
    "leases",
    "listing",
    "messages",
    "outbox",
    "pausing_and_ending",
    "questions",
    "repeating",
    "stalling",
    "upkeep_and_audit",
)
_WORKFLOW_LAWS = ("commotion", "enduring", "families", "forking", "running", "stage", "stranded", "talking")
# Before they are imported: so that a broken law shows the two sides of its assertion.
pytest.register_assert_rewrite(
    *(f"{__name__}.{name}" for name in ("bench", "laws", "lockstep", *_LAWS, *_WORKFLOW_LAWS))
)

from durable.testing.conformance.clock import ManualClock  # noqa: E402
from durable.testing.conformance.harness import StoreUnderTest  # noqa: E402
from durable.testing.conformance.lost_replies import LosesReplies, Repeats  # noqa: E402
from durable.testing.conformance.random_operations import RandomOperations  # noqa: E402
from durable.testing.conformance.store_laws import StoreLaws  # noqa: E402
from durable.testing.conformance.workflows import WorkflowLaws  # noqa: E402

__all__ = [
    "LosesReplies",
    "ManualClock",
    "RandomOperations",
    "Repeats",
    "StoreLaws",
    "StoreUnderTest",
    "WorkflowLaws",
]
