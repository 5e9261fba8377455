"""An alliance from Python: start and stop sessions, follow events, fetch models. Made for notebooks.

from fedmq_client import Alliance

alliance = Alliance("http://localhost:8090")
session = alliance.start(rounds=10, train={"epochs": 2})
session.wait()
pandas.DataFrame(session.metrics())
weights = alliance.weights("best")
"""

from __future__ import annotations

import hashlib
import os
import time
import uuid
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal
from urllib.parse import quote

from fedmq.errors import InvalidUpdate, NotFound, Refused, Transient
from fedmq.model_files import formats
from fedmq.process.settings import ControlSettings
from fedmq.tensors import Weights, tensorblob
from fedmq.tensors.splitting import join
from fedmq.tls import trust
from fedmq_schemas import keys
from fedmq_schemas.messages import BlobRef
from fedmq_schemas.records import ENDED
from fedmq_sdk.rest import Rest

Row = dict[str, Any]
PATIENCE = 60.0
UNSEEN = 15.0
PAUSE = 0.5


class Alliance:
    """The REST API of a reducer as methods. Lists are lists of dicts: `pandas.DataFrame(rows)` takes them as they are.

    `url` and `token`: by default from FEDN_REDUCER_HOST, FEDN_REDUCER_PORT and FEDN_ADMIN_TOKEN, of the environment or
    `.env`; only changes need the token. With FEDN_REDUCER_TLS_CERT the URL is an https one, and over https the server's
    certificate must be that one, whoever signed it and for whatever name. `timeout`: seconds without an answer.
    Everything raises NotFound (no such thing), ConfigError (a wrong value; says what to change), Refused (the answer
    is no) or Transient (no answer: try again).
    """

    def __init__(self, url: str | None = None, *, token: str | None = None, timeout: float = 30.0) -> None:
        settings = ControlSettings.load()
        known = settings.admin_token.get_secret_value() if settings.admin_token is not None else None
        trust(settings.ca_file)
        scheme = "http" if settings.reducer_tls_cert is None else "https"
        self.url = (url or f"{scheme}://{settings.reducer_host}:{settings.reducer_port}").rstrip("/")
        self._rest = Rest(self.url, token or known, timeout, settings.reducer_tls_cert)

    def __repr__(self) -> str:
        return f"Alliance({self.url!r})"

    # -- sessions ---------------------------------------------------------------------------------------------------

    def start(self, policy: Mapping[str, Any] | None = None, *, id: str | None = None, **fields: Any) -> SessionHandle:
        """Starts a session: `policy` with `fields` set in it (`rounds=10, train={"epochs": 2}`).

        `id` is the session's; the same one twice starts once, so a start that got no answer can be repeated with it.
        """
        values = {**(policy or {}), **fields}
        session = id or f"s{uuid.uuid4().hex[:12]}"
        self._rest.json("POST", "/start", {"id": session}, values)
        return SessionHandle(self, session)

    def session(self, session: str) -> SessionHandle:
        """A handle; raises NotFound if there is no such session."""
        self._rest.json("GET", f"/sessions/{_quoted(_id('session', session))}")
        return SessionHandle(self, session)

    def sessions(self, state: str | None = None, limit: int | None = 100) -> list[Row]:
        """Newest first; `limit` None: all."""
        return self._rest.items("/sessions", {"state": state}, limit)

    # -- models -----------------------------------------------------------------------------------------------------

    def models(self, session: str | None = None, limit: int | None = 100) -> list[Row]:
        """Newest first; `limit` None: all. Beside `metrics` (summaries, as the session found them that made the model) every
        mean is a column of its own. A seed has none: see `summaries`."""
        return [_flat(model) for model in self._rest.items("/models", {"session": session}, limit)]

    def unused_models(self) -> list[Row]:
        """Seeds that no session has started from."""
        return self._rest.items("/models/unused", {}, None)

    def model(
        self,
        model: str,
        *,
        session: str | None = None,
        metric: str | None = None,
        mode: Literal["max", "min"] | None = None,
    ) -> Row:
        """A model's record, by id, or `last` or `best` (of a session; else of the newest one)."""
        query = {"session": session, "metric": metric, "mode": mode} if model in ("last", "best") else {}
        return self._rest.json("GET", f"/models/{_quoted(_id('model', model))}", query)

    def trail(self, model: str) -> list[Row]:
        """The model, its parent, and so on to the seed."""
        found: list[Row] = []
        following: str | None = self.model(model)["model"]
        while following is not None:
            answer = self._rest.json("GET", f"/models/{_quoted(following)}/trail")
            found += answer["items"]
            following = answer["next"]
        return found

    def download(self, model: str, to: Path | str, *, session: str | None = None) -> Path:
        """Writes a model (safetensors) whole or not at all, and checks its hash. A folder gets `ID.safetensors`."""
        document = self.model(model, session=session)
        path = formats.place(Path(to), document["model"], "safetensors")
        if document["base"] is not None:
            found = self.read(document["model"])
            formats.write(found.weights, path, "safetensors", meta=found.meta)
            return path
        partial = path.with_name(f".{path.name}.{uuid.uuid4().hex[:8]}")
        try:
            sha256 = self._rest.download(f"/models/{_quoted(document['model'])}/download", partial)
            if document["ref"]["sha256"] not in (None, sha256):
                raise _wrong_hash(document["model"])
            os.replace(partial, path)
        finally:
            partial.unlink(missing_ok=True)
        return path

    def weights(self, model: str = "last", *, session: str | None = None) -> Weights:
        """A model as a dict of numpy arrays."""
        return self.read(model, session=session).weights

    def read(self, model: str = "last", *, session: str | None = None) -> formats.ModelFile:
        """A model with its metadata, checked; `formats` writes it in other forms. Where a policy keeps
        tensors from travelling they are put back: frozen ones, and local ones as the seed had them."""
        document = self.model(model, session=session)
        weights, meta = self._part(document, "download", document["ref"])
        if document["base"] is not None:
            weights, meta = join(weights, meta, *self._part(document, "base", document["base"]))
        return formats.ModelFile(weights, meta)

    def _part(self, document: Row, what: str, reference: Row) -> tuple[Weights, dict[str, Any]]:
        data = self._rest.content(f"/models/{_quoted(document['model'])}/{what}")
        if reference["sha256"] not in (None, hashlib.sha256(data).hexdigest()):
            raise _wrong_hash(document["model"])
        return tensorblob.decode(data)

    def ledger(self, model: str) -> Row:
        """What became of every task of the model's round."""
        return self._rest.json("GET", f"/models/{_quoted(self.model(model)['model'])}/ledger")

    def upload(self, seed: Path | str | Mapping[str, Any], name: str | None = None) -> str:
        """Stores a seed and returns its id: a file (`fedmq.model_files.formats` says which) or a dict of arrays. The same
        content again is the same seed."""
        found = formats.from_arrays(seed) if isinstance(seed, Mapping) else formats.read(Path(seed))
        return self.upload_blob(found.blob(), name)

    def upload_blob(self, data: bytes, name: str | None = None) -> str:
        """As `upload`, of a model that is safetensors already; its metadata stays."""
        return str(self._rest.upload("/models", {"name": name}, data)["model"])

    def blob(self, reference: BlobRef) -> bytes:
        """A blob of an update, ledger or optimizer state, checked; NotFound if retention has removed it."""
        data = self._rest.content(f"/blobs/{_quoted(reference.key, '/')}")
        if hashlib.sha256(data).hexdigest() != reference.sha256:
            raise InvalidUpdate(f"{reference.key} is not what its reference says: its hash differs")
        return data

    # -- who is there, and what happens -----------------------------------------------------------------------------

    def clients(self, state: str | None = None) -> list[Row]:
        return self._rest.items("/clients", {"state": state}, None)

    def combiners(self, state: str | None = None) -> list[Row]:
        return self._rest.items("/combiners", {"state": state}, None)

    def summaries(self, model: str) -> list[Row]:
        """What each session found of a model that it started from, by `session`; every mean is a column."""
        found = self._rest.items(f"/models/{_quoted(self.model(model)['model'])}/summaries", {}, None)
        return [_flat(row) for row in found]

    def validations(self, model: str) -> list[Row]:
        """What each client and evaluator found of a model, each metric a column, and in which `session`."""
        found = self._rest.items(f"/models/{_quoted(self.model(model)['model'])}/validations", {}, None)
        return [{**row, **row.pop("metrics")} for row in found]

    def events(
        self, session: str | None = None, *, follow: bool = False, limit: int | None = 100, patience: float = PATIENCE
    ) -> Iterator[Row]:
        """Recorded events, newest first. With `follow`: those of the session from its start, or else from now on, as
        they happen, each once, without end; a lost connection is made again for `patience` seconds."""
        if not follow:
            return iter(self._rest.items("/events", {"session": session}, limit))
        return self._rest.follow("/events/stream", {"session": session, "replay": "true"}, patience)

    def health(self) -> Row:
        return self._rest.json("GET", "/health")


@dataclass(frozen=True, slots=True)
class SessionHandle:
    """One session of an alliance. Its properties ask anew each time."""

    alliance: Alliance
    id: str

    def refresh(self) -> Row:
        """Its record: state, what it waits for, why it ended, policy, rounds committed, newest model.

        A start is answered before the reducer has recorded it: for some seconds a missing record is waited for.
        """
        ends = time.monotonic() + UNSEEN
        while True:
            try:
                return self.alliance._rest.json("GET", f"/sessions/{_quoted(self.id)}")
            except NotFound:
                if time.monotonic() > ends:
                    raise
                time.sleep(PAUSE / 5)

    @property
    def state(self) -> str:
        return str(self.refresh()["state"])

    @property
    def model(self) -> str | None:
        """The id of its newest model."""
        found: str | None = self.refresh()["model"]
        return found

    def wait(self, timeout: float | None = None) -> Row:
        """Its record once it has ended; raises Refused if it failed, Transient when `timeout` seconds are over."""
        ends = None if timeout is None else time.monotonic() + timeout
        while (document := self.refresh())["state"] not in ENDED:
            if ends is not None and time.monotonic() > ends:
                raise Transient(f"session {self.id} is still {document['state']} after {timeout:g} s")
            time.sleep(PAUSE)
        if document["state"] == "failed":
            raise Refused(f"session {self.id} failed: {document['reason']}")
        return document

    def follow(self, patience: float = PATIENCE) -> Iterator[Row]:
        """Its events from the start, as they happen, until it has ended."""
        self.refresh()
        for event in self.alliance.events(self.id, follow=True, patience=patience):
            yield event
            if event["name"] in _ENDINGS:
                return

    def stop(self, *, after_round: bool = False) -> str:
        """Ends it now, or after the round that is open; returns the state that it was in."""
        when = "after_round" if after_round else "now"
        return str(self.alliance._rest.json("POST", f"/sessions/{_quoted(self.id)}/stop", {"when": when})["state"])

    def rounds(self) -> list[Row]:
        """The committed rounds, each outcome's count a column."""
        found = self.alliance._rest.items(f"/sessions/{_quoted(self.id)}/rounds", {}, None)
        return [{**row, **row["counts"], "model": keys.model_id(row["model"]["key"])} for row in found]

    def metrics(self) -> list[Row]:
        """One row a model, as this session found it: its round and each metric's mean (`test/…`: an evaluator's), with the
        spread over clients as `NAME min`, `NAME median` and `NAME max`. Round 0: the model that it started from."""
        self.refresh()
        found = self.alliance._rest.items(f"/sessions/{_quoted(self.id)}/metrics", {}, None)
        return [_metrics_row(model) for model in found]

    def why(self) -> list[Row]:
        """For each client of the alliance: its part in the newest round, or why it has none."""
        return self.alliance._rest.items(f"/sessions/{_quoted(self.id)}/clients", {}, None)

    def toml(self) -> str:
        """Its policy as a session file."""
        return self.alliance._rest.content(f"/sessions/{_quoted(self.id)}/policy.toml").decode()


_ENDINGS = frozenset(f"session.{state}" for state in (*ENDED, "refused"))


def _wrong_hash(model: str) -> InvalidUpdate:
    return InvalidUpdate(f"{model} came with another hash than the recorded one: fetch it again")


def _id(kind: str, text: str) -> str:
    """An id that an address can hold; NotFound for another, as there is nothing of that name."""
    if not text or "/" in text:
        raise NotFound(f"there is no {kind} {text!r}")
    return text


def _quoted(text: str, safe: str = "") -> str:
    return quote(text, safe=safe)


def _flat(model: Row) -> Row:
    return {**model, **{name: summary["mean"] for name, summary in model["metrics"].items()}}


def _metrics_row(model: Row) -> Row:
    row: Row = {"round": model["round"], "model": model["model"]}
    for name, summary in sorted(model["metrics"].items()):
        row[name] = summary["mean"]
        if summary["n"] > 1:
            row |= {f"{name} {each}": summary[each] for each in ("min", "median", "max")}
    return row
