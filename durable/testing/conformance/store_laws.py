"""All laws of tier 1 in one class, for a store's test file to inherit from."""

from __future__ import annotations

from durable.testing.conformance.activities import ActivityLaws
from durable.testing.conformance.claims import ClaimLaws
from durable.testing.conformance.creating import CreatingLaws
from durable.testing.conformance.heads_and_commits import HeadLaws
from durable.testing.conformance.leases import LeaseLaws
from durable.testing.conformance.messages import MessageLaws


class StoreLaws(CreatingLaws, HeadLaws, MessageLaws, ClaimLaws, LeaseLaws, ActivityLaws):
    """Everything that a store must do, a test for each sentence. See `durable.testing.conformance.harness`."""
