"""All laws of tier 1 in one class, for a store's test file to inherit from."""

from __future__ import annotations

from durable.testing.conformance.activities import ActivityLaws
from durable.testing.conformance.batches import BatchLaws
from durable.testing.conformance.bells import BellLaws
from durable.testing.conformance.claims import ClaimLaws
from durable.testing.conformance.closing_and_children import ClosingLaws
from durable.testing.conformance.continuing import ContinuingLaws
from durable.testing.conformance.creating import CreatingLaws
from durable.testing.conformance.crowds import CrowdLaws
from durable.testing.conformance.heads_and_commits import HeadLaws
from durable.testing.conformance.holding import HoldingLaws
from durable.testing.conformance.identity_and_limits import IdentityLaws
from durable.testing.conformance.leases import LeaseLaws
from durable.testing.conformance.listing import ListingLaws
from durable.testing.conformance.messages import MessageLaws
from durable.testing.conformance.outbox import OutboxLaws
from durable.testing.conformance.pausing_and_ending import ChangeLaws
from durable.testing.conformance.questions import QuestionLaws
from durable.testing.conformance.repeating import RepeatingLaws
from durable.testing.conformance.stalling import StallingLaws
from durable.testing.conformance.upkeep_and_audit import UpkeepLaws


class StoreLaws(
    CreatingLaws,
    HeadLaws,
    MessageLaws,
    ClaimLaws,
    LeaseLaws,
    ActivityLaws,
    BellLaws,
    ClosingLaws,
    ContinuingLaws,
    ChangeLaws,
    StallingLaws,
    QuestionLaws,
    ListingLaws,
    OutboxLaws,
    UpkeepLaws,
    HoldingLaws,
    IdentityLaws,
    BatchLaws,
    RepeatingLaws,
    CrowdLaws,
):
    """Everything that a store must do, a test for each sentence. See `durable.testing.conformance.harness`."""
