"""A world in virtual time: processes that can be killed, paused and cut off, stores and a network that fail.

The broker, the blobs and the records are the embedded adapters; the actors are the real ones. What a test adds is a
list of `FaultAtStep`es (a process meets its fate at its n-th step) and calls of `World` at chosen times. A step is any call
of a port, counted before and after it: between two effects, and between an effect and the word that it is done, lies a
step. Everything is deterministic: the same calls give the same run, to the last callback.
"""

from support.world.faults import FaultAtStep, Stall, StoreFaults
from support.world.world import Process, World

__all__ = ["FaultAtStep", "Process", "Stall", "StoreFaults", "World"]
