"""What holds for all tests: none depends on the clock or on chance, so Hypothesis sets no deadline and repeats its examples.

With `--hypothesis-profile=exploring` it tries new ones in each run, and tells of those that fail how to repeat them.
"""

from hypothesis import HealthCheck, settings

settings.register_profile("repeating", deadline=None, suppress_health_check=[HealthCheck.too_slow], derandomize=True)
settings.register_profile("exploring", settings.get_profile("repeating"), derandomize=False, print_blob=True)
settings.load_profile("repeating")
