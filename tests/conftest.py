"""Settings that hold for every test."""

from hypothesis import settings

# The same examples in every run, and no verdict that depends on how busy the machine is.
settings.register_profile("fixed", derandomize=True, deadline=None)
settings.load_profile("fixed")

pytest_plugins = ["support.servers.fixtures"]
