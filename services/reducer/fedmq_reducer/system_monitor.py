"""Records the state of queues, stores and sessions from time to time, for people, and deletes old records.

Nothing is decided by it.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from itertools import islice
from pathlib import Path
from typing import Any

from fedmq.blobs.base import Blobs
from fedmq.brokers.base import Depth
from fedmq.errors import FedMQError
from fedmq.records.base import Records
from fedmq.runtime.stalls import Stalls
from fedmq.scheduler import Scheduler, Timer
from fedmq_reducer.performers.record_pruning import prune
from fedmq_schemas.keys import BUCKETS
from fedmq_schemas.records import SystemRecord

FIRST_SECONDS = 2.0
QUEUE_SECONDS = 10.0
STORES_EVERY = 6
MOST_BLOBS = 20_000


class SystemMonitor:
    """Records queues and sessions every ten seconds, and stores every minute, while its reducer holds the lease.

    A member of a `Service`.

    - `depths`: returns the queues' depths, on any thread.
    - `folder`: the folder whose disk is reported. None: the blobs are on another machine.
    - `is_active`: returns whether this reducer holds the lease.
    - `stalls`: what this process waits for, recorded too, and at each change with `record_stalls`.
    - `waits`: returns what each session waits for, on the scheduler's thread.
    - `record_seconds`: the age at which `prune` deletes records, every minute. None: all records are kept.
    """

    def __init__(
        self,
        scheduler: Scheduler,
        records: Records,
        blobs: Blobs,
        depths: Callable[[], Sequence[Depth]],
        *,
        folder: Path | None,
        is_active: Callable[[], bool],
        waits: Callable[[], Mapping[str, str]] = dict,
        stalls: Stalls | None = None,
        record_seconds: float | None = None,
    ) -> None:
        self._scheduler = scheduler
        self._records = records
        self._blobs = blobs
        self._depths = depths
        self._folder = folder
        self._is_active = is_active
        self._waits = waits
        self._stalls = stalls
        self._record_seconds = record_seconds
        self._looks = 0
        self._timer: Timer | None = None
        self._stopped = False

    def start(self) -> None:
        """Schedules the first look."""
        self._timer = self._scheduler.later(FIRST_SECONDS, self._due)

    def drain(self, then: Callable[[], None]) -> None:
        """Stops, and calls `then`."""
        self.stop()
        then()

    def leave(self, timeout: float) -> None:
        """Stops."""
        self.stop()

    def stop(self) -> None:
        """Cancels the next look. Idempotent."""
        self._stopped = True
        if self._timer is not None:
            self._timer.cancel()

    def _due(self) -> None:
        with_stores = self._looks % STORES_EVERY == 0
        if self._is_active():
            self._looks += 1
            at, waits = self._scheduler.wall(), dict(self._waits())
            self._scheduler.submit(lambda: self.look(at, waits, with_stores), self._looked)
        else:
            self._looked(None, None)

    def _looked(self, _: Any, error: Exception | None) -> None:
        """Schedules the next look, also after an error: the fault may be gone by then."""
        if not self._stopped:
            self._timer = self._scheduler.later(QUEUE_SECONDS, self._due)

    def look(self, at: float, waits: Mapping[str, str], with_stores: bool) -> None:
        """Records sessions, stalls and queues. With `with_stores`, records stores too, and deletes old records.

        Raises the errors of `Records`.
        """
        self._look_at_stalls(at)
        self._record(SystemRecord(what="sessions", at=at, waits=dict(waits)))
        self._record(self._queues(at))
        if with_stores:
            self._record(self._stores(at))
            if self._record_seconds is not None:
                prune(self._records, at - self._record_seconds)

    def record_stalls(self) -> None:
        """Records the stalls now, so that a reducer that stands by shows them. A failure is made good by the next look."""
        if self._is_active():
            at = self._scheduler.wall()
            self._scheduler.submit(lambda: self._look_at_stalls(at), lambda _, error: None)

    def _look_at_stalls(self, at: float) -> None:
        if self._stalls is not None:
            self._record(SystemRecord(what="stalls", at=at, stalls=tuple(self._stalls.current())))

    def _record(self, seen: SystemRecord) -> None:
        self._records.put(seen.table, seen.key, seen.document())

    def _queues(self, at: float) -> SystemRecord:
        try:
            return SystemRecord(what="queues", at=at, queues=tuple(asdict(depth) for depth in self._depths()))
        except FedMQError as error:
            return SystemRecord(what="queues", at=at, reason=error.reason, queues=())

    def _stores(self, at: float) -> SystemRecord:
        try:
            stores = tuple(self._store(bucket) for bucket in BUCKETS)
            return SystemRecord(what="stores", at=at, stores=stores, disk=self._disk())
        except FedMQError as error:
            return SystemRecord(what="stores", at=at, reason=error.reason, stores=(), disk=self._disk())

    def _store(self, bucket: str) -> dict[str, Any]:
        """Returns the number and size of a bucket's blobs. Counts at most 20,000; `is_more` says if there are more."""
        sizes = [info.size for info in islice(self._blobs.list(f"{bucket}/"), MOST_BLOBS + 1)]
        counted = sizes[:MOST_BLOBS]
        return {"name": bucket, "blobs": len(counted), "bytes": sum(counted), "is_more": len(sizes) > MOST_BLOBS}

    def _disk(self) -> dict[str, int] | None:
        if self._folder is None:
            return None
        usage = shutil.disk_usage(self._folder)
        return {"total": usage.total, "free": usage.free}
