"""Every error that FedMQ raises on purpose.

    FedMQError
    ├── ConfigError      a setting, file or argument is wrong: the user corrects it
    ├── ProtocolError    a message or blob breaks the contract: dead-lettered with its reason
    ├── Refused          the request is well formed and the answer is no
    │   ├── InvalidUpdate    an update that can't be aggregated: outcome `rejected`
    │   ├── NotFound         no such blob, record or session
    │   │   └── Gone             a model whose bytes its session's retention has deleted
    │   └── Fenced           the writer's lease epoch is no longer the current one
    └── Transient        a server is unreachable or slow: retry with back-off

Adapters translate the errors of their library into these at every call, so callers catch no library's errors.
Any other exception is a bug.
"""

LONGEST_REASON = 500
"""In characters. A reason may quote a whole message, and stands in headers, events and records."""
_GAP = " … "
_END = 100


def cut(reason: str) -> str:
    """Returns a reason of at most `LONGEST_REASON` characters, without NUL and halves of surrogate pairs.

    A longer one keeps its beginning, which names the cause, and its end, where the remedy is.
    """
    if len(reason) > LONGEST_REASON:
        reason = reason[: LONGEST_REASON - _END - len(_GAP)] + _GAP + reason[-_END:]
    return reason.replace("\x00", "\N{SYMBOL FOR NULL}").encode(errors="replace").decode()


class FedMQError(Exception):
    """Base of the tree."""

    @property
    def reason(self) -> str:
        """One sentence that names the cause and, where there is one, the remedy; see `cut`."""
        return cut(self._whole_reason)

    @property
    def _whole_reason(self) -> str:
        return str(self.args[0]) if self.args else type(self).__name__


class ConfigError(FedMQError):
    """A setting, file or argument is wrong."""

    @property
    def reason(self) -> str:
        """All of it: it may list many settings, and no peer's words are in it."""
        return self._whole_reason


class ProtocolError(FedMQError):
    """A message or blob does not follow the contract in `schemas/`."""


class Refused(FedMQError):
    """The request is understood and refused."""


class InvalidUpdate(Refused):
    """An update that can't be folded: wrong names, shapes, dtypes, values, weight or bytes."""


class NotFound(Refused):
    """The blob, record or session does not exist."""


class Gone(NotFound):
    """The bytes of the model were deleted, as its session does not keep them; the model's record remains."""


class Fenced(Refused):
    """Another reducer holds the lease with a higher epoch; this one must stop deciding."""


class Transient(FedMQError):
    """A server could not be reached or did not answer; the same call may succeed later.

    `store` names what failed: `blob_store`, `records` or `broker`. It is empty if that is not known.
    """

    def __init__(self, *reason: str, store: str = "") -> None:
        super().__init__(*reason)
        self.store = store
