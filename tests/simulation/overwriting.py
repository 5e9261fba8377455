"""What a hostile client does with its URLs: it puts other bytes to them, as long as they are valid."""

from __future__ import annotations

import contextlib

from fedmq.blobs import transfer
from fedmq.errors import FedMQError
from support.world import World

REPEATED = (0.5, 4.0, 30.0)
"""Virtual seconds after a ticket at which other bytes are put to its URL: before, during and after the fold."""


def overwrite_uploads(world: World) -> None:
    """Puts other bytes to each URL of an upload that is permitted from now on."""

    def overwrite(key: str, url: str) -> None:
        with contextlib.suppress(FedMQError):
            transfer.put(key, url, b"other bytes than those that were folded")

    def permitted(key: str, url: str) -> None:
        for seconds in REPEATED:
            world.scheduler.later(seconds, lambda: overwrite(key, url))

    world.blobs.on_upload = permitted
