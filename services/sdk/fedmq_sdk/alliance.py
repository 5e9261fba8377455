"""An alliance and its sessions as objects: start and stop sessions, follow events, fetch models."""

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
"""Seconds for which a lost event stream is opened again."""
UNSEEN = 15.0
"""Seconds for which a session that was started may have no record yet."""
PAUSE = 0.5
"""Seconds between two requests for a session's state."""


class Alliance:
    """The REST API of a reducer as methods. Lists are lists of dicts, which `pandas.DataFrame(rows)` accepts.

    Args:
        url: by default from FEDN_REDUCER_HOST and FEDN_REDUCER_PORT, of the environment or `.env`. With
            FEDN_REDUCER_TLS_CERT it is an https URL, and over https the server's certificate must be that one. Its
            issuer and its name are not checked.
        token: by default FEDN_ADMIN_TOKEN. Only changes need it.
        timeout: seconds without an answer after which a request fails.
        patience: seconds for which a request that only reads is repeated while the server's answer is a passing fault
            (503), or a server that has answered before does not.

    Every method raises NotFound (no such thing), ConfigError (a wrong value, with what to change), Refused (the answer
    is no) or Transient (no answer: try again).
    """

    def __init__(
        self, url: str | None = None, *, token: str | None = None, timeout: float = 30.0, patience: float = 15.0
    ) -> None:
        settings = ControlSettings.load()
        known = settings.admin_token.get_secret_value() if settings.admin_token is not None else None
        trust(settings.ca_file)
        scheme = "http" if settings.reducer_tls_cert is None else "https"
        self.url = (url or f"{scheme}://{settings.reducer_host}:{settings.reducer_port}").rstrip("/")
        self._rest = Rest(self.url, token or known, timeout, settings.reducer_tls_cert, patience)

    def __repr__(self) -> str:
        return f"Alliance({self.url!r})"

    # -- sessions ---------------------------------------------------------------------------------------------------

    def start(self, policy: Mapping[str, Any] | None = None, *, id: str | None = None, **fields: Any) -> SessionHandle:
        """Starts a session with `policy`, in which `fields` are set: `rounds=10, train={"epochs": 2}`.

        `id` becomes the session's id. A second start with the same id starts nothing, so a start without an answer can
        be repeated.
        """
        values = {**(policy or {}), **fields}
        session = id or f"s{uuid.uuid4().hex[:12]}"
        self._rest.json("POST", "/start", {"id": session}, values)
        return SessionHandle(self, session)

    def session(self, session: str) -> SessionHandle:
        """Returns a handle of a session. Raises NotFound if there is no such session."""
        self._rest.json("GET", f"/sessions/{_quoted(_id('session', session))}")
        return SessionHandle(self, session)

    def sessions(self, state: str | None = None, limit: int | None = 100) -> list[Row]:
        """Returns the sessions, newest first; with `limit` None all of them."""
        return self._rest.items("/sessions", {"state": state}, limit)

    # -- models -----------------------------------------------------------------------------------------------------

    def models(self, session: str | None = None, limit: int | None = 100) -> list[Row]:
        """Returns the models, newest first; with `limit` None all of them.

        `metrics` holds the summaries of the session that made the model, and each mean is a column of its own. A seed has
        no metrics: see `summaries`.
        """
        return [_flat(model) for model in self._rest.items("/models", {"session": session}, limit)]

    def unused_models(self) -> list[Row]:
        """Returns the seeds from which no session has started."""
        return self._rest.items("/models/unused", {}, None)

    def model(
        self,
        model: str,
        *,
        session: str | None = None,
        metric: str | None = None,
        mode: Literal["max", "min"] | None = None,
    ) -> Row:
        """Returns a model's record: by id, or the `last` or `best` one of `session`, by default of the newest session."""
        query = {"session": session, "metric": metric, "mode": mode} if model in ("last", "best") else {}
        return self._rest.json("GET", f"/models/{_quoted(_id('model', model))}", query)

    def trail(self, model: str) -> list[Row]:
        """Returns the records of the model, its parent, and so on to the seed."""
        found: list[Row] = []
        following: str | None = self.model(model)["model"]
        while following is not None:
            answer = self._rest.json("GET", f"/models/{_quoted(following)}/trail")
            found += answer["items"]
            following = answer["next"]
        return found

    def download(self, model: str, to: Path | str, *, session: str | None = None) -> Path:
        """Writes a model completely or not at all, checks its hash, and returns the path.

        The file's ending decides the format: see `fedmq.model_files.formats`. In a folder it is `ID.safetensors`.
        """
        form = formats.form_of(Path(to))
        document = self.model(model, session=session)
        path = formats.place(Path(to), document["model"], form)
        if document["base"] is not None or form != "safetensors":
            found = self.read(document["model"])
            formats.write(found.weights, path, form, meta=found.meta)
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
        """Returns a model as a dict of numpy arrays."""
        return self.read(model, session=session).weights

    def read(self, model: str = "last", *, session: str | None = None) -> formats.ModelFile:
        """Returns a model with its metadata, its hash checked. `fedmq.model_files.formats` writes it in other forms.

        Tensors that do not travel are added: frozen ones, and local ones as in the seed.
        """
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
        """Returns the outcome of every task of the model's round."""
        return self._rest.json("GET", f"/models/{_quoted(self.model(model)['model'])}/ledger")

    def upload(
        self, seed: Path | str | Mapping[str, Any], name: str | None = None, roles: Mapping[str, str] | None = None
    ) -> str:
        """Stores a seed and returns its id.

        `seed` is a dict of arrays, or a file in one of the forms of `fedmq.model_files.formats`. The same content is the
        same seed. `roles` states roles of tensors by name, such as constant, beside those of the file.
        """
        if isinstance(seed, Mapping):
            found = formats.from_arrays(seed, roles)
        else:
            found = formats.read(Path(seed)).with_roles(roles or {})
        return self.upload_blob(found.blob(), name)

    def upload_blob(self, data: bytes, name: str | None = None) -> str:
        """Stores a seed that is safetensors already, with its metadata, and returns its id."""
        return str(self._rest.upload("/models", {"name": name}, data)["model"])

    def blob(self, reference: BlobRef) -> bytes:
        """Returns a blob of an update, ledger or optimizer state, its hash checked. Raises NotFound after retention."""
        data = self._rest.content(f"/blobs/{_quoted(reference.key, '/')}")
        if hashlib.sha256(data).hexdigest() != reference.sha256:
            raise InvalidUpdate(f"{reference.key} is not what its reference says: its hash differs")
        return data

    # -- members and events -----------------------------------------------------------------------------------------

    def clients(self, state: str | None = None) -> list[Row]:
        """Returns the clients, by default in every state."""
        return self._rest.items("/clients", {"state": state}, None)

    def combiners(self, state: str | None = None) -> list[Row]:
        """Returns the combiners, by default in every state."""
        return self._rest.items("/combiners", {"state": state}, None)

    def summaries(self, model: str) -> list[Row]:
        """Returns the metrics of a model in each session that started from it, a row a session; each mean is a column."""
        found = self._rest.items(f"/models/{_quoted(self.model(model)['model'])}/summaries", {}, None)
        return [_flat(row) for row in found]

    def validations(self, model: str) -> list[Row]:
        """Returns the validations of a model by clients and evaluators, with their `session`; each metric is a column."""
        found = self._rest.items(f"/models/{_quoted(self.model(model)['model'])}/validations", {}, None)
        return [{**row, **row.pop("metrics")} for row in found]

    def events(
        self, session: str | None = None, *, follow: bool = False, limit: int | None = 100, patience: float = PATIENCE
    ) -> Iterator[Row]:
        """Returns recorded events, newest first.

        With `follow`, yields events as they happen, each once, without end: those of the session from its start, or of
        the alliance from now on. A lost connection is made again for `patience` seconds.
        """
        if not follow:
            return iter(self._rest.items("/events", {"session": session}, limit))
        return self._rest.follow("/events/stream", {"session": session, "replay": "true"}, patience)

    def health(self) -> Row:
        """Returns the alliance's name and the state of the reducer."""
        return self._rest.json("GET", "/health")


@dataclass(frozen=True, slots=True)
class SessionHandle:
    """One session of an alliance. Each property sends a request."""

    alliance: Alliance
    id: str

    def refresh(self) -> Row:
        """Returns the session's record: state, what it waits for, why it ended, policy, rounds committed, newest model.

        A start is answered before the reducer has recorded it, so a missing record is waited for some seconds.
        """
        ends = time.monotonic() + UNSEEN
        while True:
            try:
                return self.alliance._rest.json("GET", f"/sessions/{_quoted(self.id)}")
            except (NotFound, Transient):
                if time.monotonic() > ends:
                    raise
                time.sleep(PAUSE / 5)

    @property
    def state(self) -> str:
        """The session's state."""
        return str(self.refresh()["state"])

    @property
    def model(self) -> str | None:
        """The id of the session's newest model."""
        found: str | None = self.refresh()["model"]
        return found

    def wait(self, timeout: float | None = None) -> Row:
        """Waits for the session's end and returns its record.

        Raises Refused if the session failed, with a traceback as a note, and Transient after `timeout` seconds.
        """
        ends = None if timeout is None else time.monotonic() + timeout
        pause = PAUSE / 16
        while (document := self.refresh())["state"] not in ENDED:
            if ends is not None and time.monotonic() > ends:
                raise Transient(f"session {self.id} is still {document['state']} after {timeout:g} s")
            time.sleep(pause)
            pause = min(2 * pause, PAUSE)  # a short session's end is seen at once, a long one's costs few requests
        if document["state"] == "failed":
            error = Refused(f"session {self.id} failed: {document['reason']}")
            failures = (each for each in self.alliance.events(self.id) if each["name"] == "update.failed")
            error.add_note(next((each["data"].get("traceback", "") for each in failures), ""))
            raise error
        return document

    def follow(self, patience: float = PATIENCE) -> Iterator[Row]:
        """Yields the session's events from its start, as they happen, until it has ended."""
        self.refresh()
        for event in self.alliance.events(self.id, follow=True, patience=patience):
            yield event
            if event["name"] in _ENDINGS:
                return

    def stop(self, *, after_round: bool = False) -> str:
        """Stops the session now, or after its open round. Returns the state in which it was."""
        when = "after_round" if after_round else "now"
        return str(self.alliance._rest.json("POST", f"/sessions/{_quoted(self.id)}/stop", {"when": when})["state"])

    def rounds(self) -> list[Row]:
        """Returns the committed rounds; the count of each outcome is a column."""
        found = self.alliance._rest.items(f"/sessions/{_quoted(self.id)}/rounds", {}, None)
        return [{**row, **row["counts"], "model": keys.model_id(row["model"]["key"])} for row in found]

    def metrics(self) -> list[Row]:
        """Returns one row a model: its round, and each metric's mean in this session.

        `test/…` is an evaluator's, on a test set. `training/…` is what the trainers reported with the updates of the round
        that made the model. All others are of clients' own data, which they may have trained on.
        The spread over clients is in the columns `NAME min`, `NAME median` and `NAME max`. Round 0 is the model from
        which the session started.
        """
        self.refresh()
        found = self.alliance._rest.items(f"/sessions/{_quoted(self.id)}/metrics", {}, None)
        trained = {each["round"]: each["metrics"] for each in self.rounds()}
        return [_metrics_row(model, trained.get(model["round"], {})) for model in found]

    def why(self) -> list[Row]:
        """Returns for each client of the alliance its part in the newest round, or the reason why it has none."""
        return self.alliance._rest.items(f"/sessions/{_quoted(self.id)}/clients", {}, None)

    def toml(self) -> str:
        """Returns the session's policy as a session file."""
        return self.alliance._rest.content(f"/sessions/{_quoted(self.id)}/policy.toml").decode()


_ENDINGS = frozenset(f"session.{state}" for state in (*ENDED, "refused"))


def _wrong_hash(model: str) -> InvalidUpdate:
    return InvalidUpdate(f"{model} has another hash than the recorded one: fetch it again")


def _id(kind: str, text: str) -> str:
    """Returns `text`. Raises NotFound if no address can hold it, as then nothing has this id."""
    if not text or "/" in text:
        raise NotFound(f"there is no {kind} {text!r}")
    return text


def _quoted(text: str, safe: str = "") -> str:
    return quote(text, safe=safe)


def _flat(model: Row) -> Row:
    return {**model, **{name: summary["mean"] for name, summary in model["metrics"].items()}}


def _metrics_row(model: Row, trained: Row) -> Row:
    row: Row = {"round": model["round"], "model": model["model"]}
    for name, summary in sorted(model["metrics"].items()):
        row[name] = summary["mean"]
        if summary["n"] > 1:
            row |= {f"{name} {each}": summary[each] for each in ("min", "median", "max")}
    return row | {f"training/{name}": summary["mean"] for name, summary in sorted(trained.items())}
