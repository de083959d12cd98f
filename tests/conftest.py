"""What every test gets, whatever it is about: no settings from outside, and Hypothesis without a stopwatch."""

from __future__ import annotations

import os

from hypothesis import settings

# A `DURABLE_URL` in somebody's shell must not lead a test to a real store. What chooses servers for tests stays.
for name in [name for name in os.environ if name.startswith("DURABLE_")]:
    if not name.startswith(("DURABLE_TEST_", "DURABLE_REQUIRE")):
        del os.environ[name]

# No deadline: on a shared machine a slow example says nothing about the code.
# With HYPOTHESIS_PROFILE=thorough it looks longer.
settings.register_profile("default", deadline=None, print_blob=True)
settings.register_profile("thorough", deadline=None, print_blob=True, max_examples=2_000)
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "default"))
