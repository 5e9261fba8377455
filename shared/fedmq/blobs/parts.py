"""The plan of an upload in parts: what a presigned URL of a large blob leads to.

An S3 store prepares such an upload when the URL is asked for, and keeps the plan as a small JSON blob beside the key.
The URL that it gives out reads this plan; its fragment says so.
"""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from fedmq_schemas.messages import Frozen

FRAGMENT = "#parts"
SUFFIX = ".parts"
LONGEST_PLAN = 4 << 20


class UploadPlan(Frozen):
    """`part` bytes go to each of `urls` by PUT, in order, the last with what remains; fewer than all may be used. Then
    their ETags go to `complete` by POST, and the blob is there."""

    part: Annotated[int, Field(ge=1)]
    urls: Annotated[tuple[str, ...], Field(min_length=1)]
    complete: str
