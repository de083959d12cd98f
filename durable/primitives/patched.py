"""Versioning by patches: one function holds the old and the new way, and each run keeps to the one it began with."""

from __future__ import annotations

from durable.core.context import current_run
from durable.core.patches import patches_of


def patched(change_id: str) -> bool:
    """``True`` in runs that began with code which knew this change; ``False`` in older ones, for ever.

    ``change_id`` is a text that stands in the code (not computed), so that a run can remember at its beginning which
    changes its code knew. When no old run is left, remove the call and the old way.

    Raises ``ValueError`` for a text that does not stand in the workflow or in a function that it reaches by name.
    """
    run = current_run("durable.patched()")
    if change_id in run.patches:
        return True
    if change_id not in patches_of(run.definition.fn):
        raise ValueError(
            f"durable.patched({change_id!r}): write the text itself into workflow {run.definition.name!r} or into a "
            "function that it calls by name; a computed one cannot be known when a run begins"
        )
    return False
