"""Tier 2: a fixed set of workflows, carried by real workers on the store that is judged.

The laws know nothing of the store but what `durable.testing.conformance.harness` says. After each of them every
history is replayed from scratch, and the audit finds nothing.
"""

from __future__ import annotations

from durable.testing.conformance.commotion import CommotionLaws
from durable.testing.conformance.enduring import EnduringLaws
from durable.testing.conformance.families import FamilyLaws
from durable.testing.conformance.forking import ForkingLaws
from durable.testing.conformance.running import RunningLaws
from durable.testing.conformance.stranded import StrandedLaws
from durable.testing.conformance.talking import TalkingLaws


class WorkflowLaws(
    RunningLaws, TalkingLaws, FamilyLaws, ForkingLaws, StrandedLaws, EnduringLaws, CommotionLaws
):
    """All laws of tier 2 in one class, for a store's test file to inherit from."""
