"""Settings of the whole suite."""

from hypothesis import settings

# Properties are given the time they need, however busy the machine.
settings.register_profile("patient", deadline=None)
settings.load_profile("patient")
