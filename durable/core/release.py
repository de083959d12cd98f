"""Which release of the engine this is. Its own module, for those below the package that says it to users."""

from __future__ import annotations

RELEASE = "0.1.0"
