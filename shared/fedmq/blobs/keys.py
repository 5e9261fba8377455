"""What every blob adapter checks in the same words: keys, and content against its reference."""

from __future__ import annotations

import re
from functools import lru_cache

from fedmq.errors import InvalidUpdate, NotFound, ProtocolError
from fedmq_schemas.keys import BUCKETS
from fedmq_schemas.messages import BlobRef

# No part begins with a dot: `..` would leave the store, and what does begin with one is ours.
_PART = r"/(?!\.)[^/\\\x00-\x1f\x7f]+"
_KEY = re.compile(rf"(?:{'|'.join(BUCKETS)})(?:{_PART})+")
_FOLDER = re.compile(rf"(?:{'|'.join(BUCKETS)})(?:{_PART})*")


@lru_cache(maxsize=4096)  # a round of a thousand clients: each key is used three times, far apart
def check_key(key: str) -> None:
    """Raises `ProtocolError` unless `key` is `bucket/name` of at most 1,024 characters, where no
    part of the name is empty, begins with a dot, or holds a backslash or a control character."""
    if len(key) > 1024 or _KEY.fullmatch(key) is None:
        raise ProtocolError(
            f"{key[:200]!r} is not a blob key: it must be 'models/NAME' or 'updates/NAME', "
            "and no part of NAME may be empty or begin with a dot"
        )


def is_folder(path: str) -> bool:
    """Whether keys may lie below `path`, which ends without a slash: `models`, `updates/s/1`."""
    return _FOLDER.fullmatch(path) is not None


def check_size(ref: BlobRef, size: int) -> None:
    """Raises `InvalidUpdate` if a blob of `size` bytes can't be the one that `ref` announces."""
    if size != ref.size:
        raise InvalidUpdate(f"blob {ref.key} has {size} bytes, announced were {ref.size}")


def check_sha256(ref: BlobRef, sha256: str) -> None:
    """Raises `InvalidUpdate` if the content's hash is not the announced one."""
    if sha256 != ref.sha256:
        raise InvalidUpdate(f"blob {ref.key} has sha256 {sha256[:12]}…, announced was {ref.sha256[:12]}…")


def absent(key: str) -> NotFound:
    """The error for a blob that is not in the store."""
    return NotFound(f"there is no blob {key}")
