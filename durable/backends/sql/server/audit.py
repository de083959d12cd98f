"""Looks over the whole store for what must never be (placeholder until the rules are written)."""

from __future__ import annotations

from durable.backends.records import Finding
from durable.backends.sql.server.session import Session


async def audit(session: Session, *, repair: bool) -> list[Finding]:
    """What is broken."""
    del session, repair
    return []
