"""What holds for all tests: none depends on the clock, so Hypothesis sets no deadline; in CI it repeats its examples."""

import os

from hypothesis import HealthCheck, settings

settings.register_profile(
    "unhurried", deadline=None, suppress_health_check=[HealthCheck.too_slow], derandomize="CI" in os.environ
)
settings.load_profile("unhurried")
