"""Every error that FedMQ raises on purpose.

    FedMQError
    ├── ConfigError      a setting, file or argument is wrong: the user mends it
    ├── ProtocolError    a message or blob breaks the contract: dead-lettered with its reason
    ├── Refused          the request is well formed and the answer is no
    │   ├── InvalidUpdate    an update that can't enter the sum: outcome `rejected`
    │   ├── NotFound         no such blob, record or session
    │   │   └── Gone             a model that was, and that its session's retention has let go
    │   └── Fenced           the writer's lease epoch is no longer the current one
    └── Transient        a server is away or slow: try again with back-off

Adapters translate the errors of their library into these at every call; nothing foreign leaks.
Any other exception is a bug.
"""


class FedMQError(Exception):
    """Base of the tree. `reason` is one sentence that names the cause and, where there is one, the remedy."""

    @property
    def reason(self) -> str:
        return str(self.args[0]) if self.args else type(self).__name__


class ConfigError(FedMQError):
    """A setting, file or argument is wrong."""


class ProtocolError(FedMQError):
    """A message or blob does not follow the contract in `schemas/`."""


class Refused(FedMQError):
    """The request is understood and refused."""


class InvalidUpdate(Refused):
    """An update that can't be folded: wrong names, shapes, dtypes, values, weight or bytes."""


class NotFound(Refused):
    """The blob, record or session does not exist."""


class Gone(NotFound):
    """The bytes of the model were deleted, as the session that made it does not keep them; its record stays."""


class Fenced(Refused):
    """Another reducer holds the lease with a higher epoch; this one must stop deciding."""


class Transient(FedMQError):
    """A server could not be reached or did not answer; the same call may succeed later."""
