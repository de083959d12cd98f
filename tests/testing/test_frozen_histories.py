"""The histories of every release are followed by this one."""

from __future__ import annotations

import re

import pytest

from durable.core.events import KINDS
from durable.errors import NonDeterminismError
from durable.testing import replay_frozen
from durable.testing.freezing import frozen
from tests.histories import v0_1_0

RELEASES = [v0_1_0]

# Not in a history that an environment records by itself: they need a second writer, or an order of a moment.
ELSEWHERE = {"child_refused", "run_timed_out", "cancel_sent"}


@pytest.mark.parametrize("release", RELEASES, ids=lambda release: release.FOLDER.name)
def test_its_histories_are_followed(release) -> None:  # type: ignore[no-untyped-def]
    assert replay_frozen(release.FOLDER, release.ALL) >= len(release.ALL)


def test_they_hold_every_kind_of_event() -> None:
    kept = "".join(path.read_text() for path, _ in frozen(v0_1_0.FOLDER))
    assert set(KINDS) - set(re.findall(r'"kind":"(\w+)"', kept)) == ELSEWHERE


def test_other_code_is_found_out(tmp_path) -> None:  # type: ignore[no-untyped-def]
    path, _ = next(one for one in frozen(v0_1_0.FOLDER) if one[1] == "sequence")
    changed = path.read_text().replace('"name":"double"', '"name":"triple"', 1)
    (tmp_path / path.name).write_text(changed)
    with pytest.raises(NonDeterminismError) as found:
        replay_frozen(tmp_path, v0_1_0.ALL)
    assert path.name in found.value.__notes__[0]
