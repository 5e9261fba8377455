"""The keys of all blobs and records. Every key of the project is formatted and parsed here. Pure.

Readers may rely on these forms. Bucket `models` holds models, bucket `updates` holds all other blobs. Round and attempt
numbers are padded with zeros, so that keys sort by number. `HASH` is the first twelve hex digits of the content's SHA-256.
The content under a key with a hash never changes.
"""

from __future__ import annotations

import hashlib
import re

from fedmq_schemas.messages import PlanKey

MODELS = "models"
UPDATES = "updates"
BUCKETS = (MODELS, UPDATES)

ALL_MODELS = f"{MODELS}/"
"""The prefix of the blobs of all models."""

LONGEST_EVENT_ID = 200
"""In bytes. An envelope accepts 200 characters; AMQP accepts 255 bytes."""

_EXPIRING = re.compile(rf"{UPDATES}/[^/]+/(\d+)/(?!ledger\.json$|optimizer-[^/]+$)")
_UPLOAD = re.compile(rf"{UPDATES}/[^/]+/\d+/[^/]+/[^/]+")
_LEDGER = re.compile(rf"{UPDATES}/[^/]+/\d+/ledger(-[^/]+)?\.json")
_ROUND = re.compile(rf"{UPDATES}/[^/]+/(\d+)/")


def short(sha256: str) -> str:
    """Returns the part of a SHA-256 (hex) that keys contain: its first twelve digits."""
    return sha256[:12]


# -- models: their ids and their blobs ----------------------------------------------------------------------------------


ABSENT = f"{MODELS}/absent"
"""The key of no blob: requested to see whether a store answers."""


def model_blob(model: str) -> str:
    """Returns the blob key of a model: `models/MODEL`, as in `models/s1-0003-0a1b2c3d4e5f`."""
    return f"{MODELS}/{model}"


def model_id(blob: str) -> str:
    """Returns the model's id in a blob key: `s1-0003-0a1b2c3d4e5f` for `models/s1-0003-0a1b2c3d4e5f`."""
    return blob.partition("/")[2]


def named_model(name: str) -> str:
    """Returns the id of a model that a person has named by its id or by its blob key."""
    return name.removeprefix(ALL_MODELS)


def committed_model(session: str, number: int, sha256: str) -> str:
    """Returns the id of the model of round `number`: `SESSION-ROUND-HASH`, as in `s1-0003-0a1b2c3d4e5f`."""
    return f"{session}-{number:04d}-{short(sha256)}"


def seed_model(sha256: str) -> str:
    """Returns the id of a seed that was uploaded without a name: `seed-HASH`, as in `seed-0a1b2c3d4e5f`."""
    return f"seed-{short(sha256)}"


def shared_model(seed: str, sha256: str) -> str:
    """Returns the id of the shared part of a seed: `SEED-shared-HASH`, as in `seed-0a1b2c3d4e5f-shared-5f4e3d2c1b0a`."""
    return f"{seed}-shared-{short(sha256)}"


def models_of_session(session: str) -> str:
    """Returns the prefix of the blobs of a session's models: `models/SESSION-`."""
    return f"{MODELS}/{session}-"


# -- blobs of bucket `updates` ------------------------------------------------------------------------------------------


def base_blob(seed: str, sha256: str) -> str:
    """Returns the key of a seed's tensors that are not shared: `updates/SEED/base-HASH`."""
    return f"{UPDATES}/{seed}/base-{short(sha256)}"


def session_blobs(session: str) -> str:
    """Returns the prefix of all blobs of a session except its models: `updates/SESSION/`."""
    return f"{UPDATES}/{session}/"


def _in_round(session: str, number: int, name: str) -> str:
    return f"{UPDATES}/{session}/{number:06d}/{name}"


def upload_prefix(session: str, number: int, client: str) -> str:
    """Returns the prefix of a client's uploads in a round, and of no other client's: `updates/SESSION/ROUND/CLIENT/`."""
    return _in_round(session, number, f"{client}/")


def update_blob(session: str, number: int, client: str, sha256: str) -> str:
    """Returns the key of an update: `updates/SESSION/ROUND/CLIENT/SHA256`, with all 64 digits.

    It never holds other bytes than those of this hash.
    """
    return f"{upload_prefix(session, number, client)}{sha256}"


def upload_blob(session: str, number: int, client: str, suffix: str) -> str:
    """Returns the key of an upload that its client may overwrite: `updates/SESSION/ROUND/CLIENT/upload-SUFFIX`.

    The combiner copies what it accepts from there to `update_blob`.
    """
    return f"{upload_prefix(session, number, client)}upload-{suffix}"


def is_earlier_upload(blob: str, session: str, number: int, client: str) -> bool:
    """Returns whether this is an upload of the client that a combiner of release 0.2 named: `…/CLIENT-HEX`."""
    return re.fullmatch(re.escape(_in_round(session, number, f"{client}-")) + "[0-9a-f]+", blob) is not None


def clients_blob(plan: PlanKey) -> str:
    """Returns the key of a plan's list of clients: `updates/SESSION/ROUND/clients-ACTION-ATTEMPT-PART.json`."""
    return _in_round(plan.session, plan.round, f"clients-{plan.action}-{plan.attempt}-{plan.part}.json")


def checkpoint_blob(plan: PlanKey, combiner: str) -> str:
    """Returns the key of the newest `updates/SESSION/ROUND/checkpoint-ATTEMPT-PART-COMBINER.json`; its content changes."""
    return f"{_of_plan(plan, 'checkpoint', combiner)}.json"


def checkpoint_sum_blob(plan: PlanKey, combiner: str, sha256: str) -> str:
    """Returns the key of a checkpoint's sum: `updates/SESSION/ROUND/checkpoint-ATTEMPT-PART-COMBINER-HASH`."""
    return f"{_of_plan(plan, 'checkpoint', combiner)}-{short(sha256)}"


def partial_sum_blob(plan: PlanKey, combiner: str, sha256: str) -> str:
    """Returns the key of a partial's sum: `updates/SESSION/ROUND/partial-ATTEMPT-PART-COMBINER-HASH`."""
    return f"{_of_plan(plan, 'partial', combiner)}-{short(sha256)}"


def partial_ledger_blob(plan: PlanKey, combiner: str, sha256: str) -> str:
    """Returns the key of a partial's ledger: `updates/SESSION/ROUND/ledger-ATTEMPT-PART-COMBINER-HASH.json`."""
    return f"{_of_plan(plan, 'ledger', combiner)}-{short(sha256)}.json"


def _of_plan(plan: PlanKey, what: str, combiner: str) -> str:
    return _in_round(plan.session, plan.round, f"{what}-{plan.attempt}-{plan.part}-{combiner}")


def round_ledger_blob(session: str, number: int) -> str:
    """Returns the key of a round's ledger: `updates/SESSION/ROUND/ledger.json`, as in `updates/s1/000003/ledger.json`."""
    return _in_round(session, number, "ledger.json")


def optimizer_blob(session: str, number: int, sha256: str) -> str:
    """Returns the key of the server optimizer's state after a round: `updates/SESSION/ROUND/optimizer-HASH`."""
    return _in_round(session, number, f"optimizer-{short(sha256)}")


def doctor_blob(token: str) -> str:
    """Returns the key of a blob that `fedmq doctor` writes, reads and deletes: `updates/doctor/TOKEN`."""
    return f"{UPDATES}/doctor/{token}"


def expiring_round(blob: str) -> int | None:
    """Returns the round of a blob that only its round needs: no model, base, ledger of a round or optimizer state."""
    match = _EXPIRING.match(blob)
    return int(match[1]) if match is not None else None


def round_blobs(session: str, number: int) -> str:
    """Returns the prefix of all blobs of a round except its model: `updates/SESSION/ROUND/`."""
    return _in_round(session, number, "")


def round_of(blob: str) -> int | None:
    """Returns the round of a blob of bucket `updates`; None if it is of no round."""
    match = _ROUND.match(blob)
    return int(match[1]) if match is not None else None


def is_upload(blob: str) -> bool:
    """Returns whether a client may have uploaded this blob, and nothing else of a round: `updates/…/ROUND/CLIENT/NAME`."""
    return _UPLOAD.fullmatch(blob) is not None


def is_ledger(blob: str) -> bool:
    """Returns whether this is the ledger of a round or of a partial."""
    return _LEDGER.fullmatch(blob) is not None


# -- records ------------------------------------------------------------------------------------------------------------
# Records of sessions, models, clients, combiners and events have the name or id as their key.


def round_record(session: str, number: int) -> str:
    """Returns the key of a committed round, and of its model's window: `SESSION/ROUND`, as in `s1/000003`."""
    return f"{session}/{number:06d}"


def attempt_record(session: str, number: int, attempt: int) -> str:
    """Returns the key of an attempt, and of its participation: `SESSION/ROUND/ATTEMPT`, as in `s1/000003/0001`."""
    return f"{session}/{number:06d}/{attempt:04d}"


def partial_record(plan: PlanKey) -> str:
    """Returns the key of a plan's partial: `SESSION/ROUND/ACTION/ATTEMPT/PART`, as in `s1/3/train/1/0`."""
    return str(plan)


def validation_record(session: str, model: str, client: str) -> str:
    """Returns the key of a validation: `SESSION/MODEL/CLIENT`.

    Earlier versions used `MODEL/CLIENT`. Such records still exist; readers find them by their fields.
    """
    return f"{session}/{model}/{client}"


def summary_record(session: str, model: str) -> str:
    """Returns the key of a session's summary of a model that it did not make: `SESSION/MODEL`."""
    return f"{session}/{model}"


def event_id(text: str) -> str:
    """Returns `text` as the id of an event: hashed at its end if it is longer than `LONGEST_EVENT_ID` bytes."""
    whole = text.encode()
    if len(whole) <= LONGEST_EVENT_ID:
        return text
    tail = f"-{short(hashlib.sha256(whole).hexdigest())}"
    return whole[: LONGEST_EVENT_ID - len(tail)].decode(errors="ignore") + tail


def validated_event(session: str, model: str, client: str) -> str:
    """Returns the id of a validation's event: `validated-SESSION/MODEL/CLIENT`, hashed at its end if too long."""
    return event_id(f"validated-{session}/{model}/{client}")


def absent_event(session: str, model: str, client: str) -> str:
    """Returns the id of the event that a client has not validated a model in time, made as `validated_event`."""
    return event_id(f"absent-{session}/{model}/{client}")
