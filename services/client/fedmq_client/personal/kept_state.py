"""What is known of a kept state, and which one a new session takes up. No folder is read here."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from fedmq.tensors import Source
from fedmq.tensors.splitting import LOCAL
from fedmq_client.job.job import Blob
from fedmq_client.job.partial_model import KEPT
from fedmq_schemas.limits import LONGEST_NOTE
from fedmq_schemas.messages import BlobRef, Frozen, PersonalStart, TaskMessage

Shapes = Mapping[str, tuple[str, tuple[int, ...]]]
"""The dtype and the shape of each tensor, by name."""


class KeptState(Frozen):
    """Describes a client's local tensors and `task.state` after its last finished training of a session.

    - `round`: the round of this training. `package`: the hash of the package that trained.
    - `model`: the newest model of the session that the client held. `base`: the tensors that do not travel with it.
    - `local`, `state`: names, dtypes and shapes.
    - `saved_at`: when the training ended, in UTC seconds since 1970.
    """

    session: str
    round: int
    package: str
    model: BlobRef
    base: BlobRef | None
    local: dict[str, tuple[str, tuple[int, ...]]]
    state: dict[str, tuple[str, tuple[int, ...]]]
    saved_at: float

    @property
    def name(self) -> str:
        """The name of its files, without suffix."""
        return f"{self.session}.{self.round:06d}"


def origin_of(task: TaskMessage, package: str) -> dict[str, Any]:
    """Returns the metadata of the state that the training of this task leaves. `described` reads it."""
    return {
        "session": task.plan.session,
        "round": task.plan.round,
        "package": package,
        "model": task.model.model_dump(),
        "base": None if task.base is None else task.base.model_dump(),
    }


def described(blob: Blob, saved_at: float) -> KeptState:
    """Describes a state. Raises InvalidUpdate or ValidationError if it is damaged, or an older version has written it."""
    with Source(blob) as source:
        shapes, meta = _shapes(source), source.meta
    local = {name.removeprefix(KEPT): shape for name, shape in shapes.items() if name.startswith(KEPT)}
    state = {name: shape for name, shape in shapes.items() if not name.startswith(KEPT)}
    return KeptState.model_validate({**meta, "local": local, "state": state, "saved_at": saved_at})


def local_shapes(base: Blob | None) -> Shapes:
    """Returns the local tensors of a session, by the tensors that do not travel with its models."""
    if base is None:
        return {}
    with Source(base) as source:
        shapes, local = _shapes(source), source.meta.get(LOCAL, ())
    return {name: shapes[name] for name in local if name in shapes}


def choose(kept: Iterable[KeptState], package: str, local: Shapes) -> tuple[KeptState | None, PersonalStart]:
    """Chooses the state with which a session begins. `kept`: those of other sessions, the newest one first.

    It is the newest one of the same package whose local tensors have the same names, dtypes and shapes. If there is none,
    the second value says why the newest one does not fit.
    """
    reasons = []
    for each in kept:
        reason = _objection(each, package, local)
        if reason is None:
            return each, PersonalStart(outcome="continued", session=each.session)
        reasons.append(f"what is kept of session {each.session} does not fit: {reason}")
    reason = reasons[0] if reasons else "nothing is kept of an earlier session"
    return None, PersonalStart(outcome="fresh", reason=reason[:LONGEST_NOTE])


def _objection(kept: KeptState, package: str, local: Shapes) -> str | None:
    if not package or kept.package != package:
        return "it is of another package, or of another version of the package"
    for name in sorted({*kept.local, *local}):
        there, here = kept.local.get(name), local.get(name)
        if there != here:
            return f"local tensor {name} is {_shown(there)} there and {_shown(here)} here"
    return None


def _shown(shape: tuple[str, tuple[int, ...]] | None) -> str:
    return "absent" if shape is None else f"{shape[0]} {list(shape[1])}"


def _shapes(source: Source) -> dict[str, tuple[str, tuple[int, ...]]]:
    return {name: (str(tensor.dtype), tuple(tensor.shape)) for name, tensor in source.tensors.items()}
