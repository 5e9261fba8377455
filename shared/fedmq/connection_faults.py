"""States in plain words what went wrong with a connection to a store. Pure.

The libraries' classes are known by their names, so that no process needs both libraries.
"""

from __future__ import annotations

_WORDS = {
    # urllib3
    "ConnectTimeoutError": "accepts no connection within the time limit",
    "IncompleteRead": "ended the connection in the middle of an answer",
    "NameResolutionError": "has a name that the name server does not know",
    "NewConnectionError": "accepts no connection",
    "ProtocolError": "ended the connection",
    "ReadTimeoutError": "did not answer within the time limit",
    "SSLError": "broke off the TLS handshake",
    # pymongo
    "AutoReconnect": "ended the connection",
    "ConnectionFailure": "ended the connection",
    "NetworkTimeout": "did not answer within the time limit",
    "NotPrimaryError": "is no primary at the moment",
    "WaitQueueTimeoutError": "had no connection free within the time limit",
    "_OperationCancelled": "ended the connection",
}


def fault(error: BaseException) -> str:
    """Returns what the server did, as the end of a sentence about it: `did not answer within the time limit`.

    Holds no text of the error, which may contain a presigned URL.
    """
    for kind in type(error).__mro__:
        if kind.__name__ in _WORDS:
            return _WORDS[kind.__name__]
    return f"failed: {type(error).__name__}"
