"""The REST API of a sandbox, for curl, `fedmq start` and notebooks."""

from __future__ import annotations

import contextlib
import secrets
from collections.abc import Iterator
from typing import TYPE_CHECKING

from fedmq.process.settings import ControlSettings
from fedmq.records.sqlite import SqliteRecords
from fedmq.web.access import Access
from fedmq_sandbox.sandbox import Sandbox

if TYPE_CHECKING:
    from fedmq_reducer.web.api.server import ApiServer


@contextlib.contextmanager
def api_of(box: Sandbox, port: int) -> Iterator[ApiServer]:
    """Yields the API of an open sandbox with a state folder. It is bound to this machine and not yet started.

    The API reads the records by a connection of its own, so that a long answer does not delay the alliance.
    """
    from fedmq_reducer.web.api.context import ApiContext
    from fedmq_reducer.web.api.feed import EventStream
    from fedmq_reducer.web.api.publisher import ControlPublisher
    from fedmq_reducer.web.api.server import ApiServer
    from fedmq_reducer.web.app import create_app

    assert box.options.state_dir is not None
    feed = EventStream()
    box.on_event = feed.push
    token = ControlSettings.load().admin_token
    with contextlib.closing(SqliteRecords(box.options.state_dir / "records.db")) as records:
        context = ApiContext(
            alliance=box.options.alliance,
            records=records,
            blobs=box.blobs,
            publish=ControlPublisher(box.broker.connect("api"), box.scheduler, box.topology, "api"),
            feed=feed,
            new_id=lambda: secrets.token_hex(16),
            scratch=box.options.state_dir / "scratch" / "seeds",
            access=Access(token.get_secret_value() if token is not None else None),
        )
        server = ApiServer(create_app(context), "127.0.0.1", port)
        try:
            yield server
        finally:
            server.stop()
