"""An alliance and its sessions as objects: start and stop sessions, follow events, fetch models."""

from __future__ import annotations

import hashlib
import os
import time
import uuid
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

from fedmq.errors import ConfigError, InvalidUpdate, NotFound, Transient
from fedmq.model_files import formats
from fedmq.process.settings import ControlSettings
from fedmq.tensors import Weights, tensorblob
from fedmq.tensors.splitting import join
from fedmq.tls import trust
from fedmq_schemas.messages import BlobRef
from fedmq_sdk.rest import PAUSE, Rest, checked_id, quoted
from fedmq_sdk.session_handle import PATIENCE, SessionHandle
from fedmq_sdk.tables import Row, Table, with_means


class Alliance:
    """The REST API of a reducer as methods. Lists are lists of dicts, with a method `to_pandas`.

    Args:
        url: by default from FEDN_REDUCER_HOST and FEDN_REDUCER_PORT, of the environment or `.env`. With
            FEDN_REDUCER_TLS_CERT it is an https URL, and over https the server's certificate must be that one. Its
            issuer and its name are not checked.
        state_dir: in place of an address, the folder of a sandbox that runs or has ended. It is only read: all methods
            that change nothing work, and no server is needed.
        token: by default FEDN_ADMIN_TOKEN. Changes need it, and beyond the server's machine reads too.
        timeout: seconds without an answer after which a request fails.
        patience: seconds for which a request that only reads is repeated while the server's answer is a passing fault
            (503), or a server that has answered before does not.

    Every method raises NotFound (no such thing), ConfigError (a wrong value, with what to change), Refused (the answer
    is no) or Transient (no answer: try again).
    """

    def __init__(
        self,
        url: str | None = None,
        *,
        state_dir: Path | str | None = None,
        token: str | None = None,
        timeout: float = 30.0,
        patience: float = 15.0,
    ) -> None:
        self._timeout = timeout
        if state_dir is not None:
            if url is not None:
                raise ConfigError("give the url of a reducer or the state_dir of a sandbox, not both")
            self.url = Path(state_dir).absolute().as_uri()
            self._rest = Rest("http://localhost", None, timeout, None, patience, _folder_application(Path(state_dir)))
            return
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
        self._rest.json("GET", f"/sessions/{quoted(checked_id('session', session))}")
        return SessionHandle(self, session)

    def sessions(self, state: str | None = None, limit: int | None = 100) -> Table:
        """Returns the sessions, newest first; with `limit` None all of them."""
        return self._rest.items("/sessions", {"state": state}, limit)

    # -- models -----------------------------------------------------------------------------------------------------

    def models(self, session: str | None = None, limit: int | None = 100) -> Table:
        """Returns the models, newest first; with `limit` None all of them.

        `metrics` holds the summaries of the session that made the model, and each mean is a column of its own, with
        its number of values beside it: `NAME n`. A seed has no metrics: see `summaries`.
        """
        return with_means(self._rest.items("/models", {"session": session}, limit))

    def unused_models(self) -> Table:
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
        return self._rest.json("GET", f"/models/{quoted(checked_id('model', model))}", query)

    def trail(self, model: str) -> Table:
        """Returns the records of the model, its parent, and so on to the seed."""
        found = Table()
        following: str | None = self.model(model)["model"]
        while following is not None:
            answer = self._rest.json("GET", f"/models/{quoted(following)}/trail")
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
            sha256 = self._rest.download(f"/models/{quoted(document['model'])}/download", partial)
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
        data = self._rest.content(f"/models/{quoted(document['model'])}/{what}")
        if reference["sha256"] not in (None, hashlib.sha256(data).hexdigest()):
            raise _wrong_hash(document["model"])
        return tensorblob.decode(data)

    def ledger(self, model: str) -> Row:
        """Returns the outcome of every task of the model's round."""
        return self._rest.json("GET", f"/models/{quoted(self.model(model)['model'])}/ledger")

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
        data = self._rest.content(f"/blobs/{quoted(reference.key, '/')}")
        if hashlib.sha256(data).hexdigest() != reference.sha256:
            raise InvalidUpdate(f"{reference.key} is not what its reference says: its hash differs")
        return data

    # -- members and events -----------------------------------------------------------------------------------------

    def clients(self, state: str | None = None) -> Table:
        """Returns the clients, by default in every state."""
        return self._rest.items("/clients", {"state": state}, None)

    def combiners(self, state: str | None = None) -> Table:
        """Returns the combiners, by default in every state."""
        return self._rest.items("/combiners", {"state": state}, None)

    def forget(self, what: Literal["client", "combiner", "session"], name: str) -> None:
        """Lets the reducer delete the record of a client or combiner that is away, with its queue, or of an ended session.

        Of a session, the ledger and the models stay. Returns once the record is deleted. Raises NotFound for an unknown
        name, Refused for a member that is present or a session that has not ended, and Transient if the reducer
        has not deleted the record within the timeout of a request.
        """
        path = f"/{what}s/{quoted(checked_id(what, name))}"
        self._rest.json("DELETE", path)
        ends = time.monotonic() + self._timeout
        while True:
            try:
                self._rest.json("GET", path)
            except NotFound:
                return
            if time.monotonic() > ends:
                raise Transient(f"{what} {name!r} is not forgotten yet: `fedmq events` shows why")
            time.sleep(PAUSE)

    def summaries(self, model: str) -> Table:
        """Returns the metrics of a model in each session that started from it, a row a session; each mean is a column."""
        found = self._rest.items(f"/models/{quoted(self.model(model)['model'])}/summaries", {}, None)
        return with_means(found)

    def validations(self, model: str) -> Table:
        """Returns the validations of a model by clients and evaluators, with their `session`; each metric is a column."""
        found = self._rest.items(f"/models/{quoted(self.model(model)['model'])}/validations", {}, None)
        return Table({**row, **row.pop("metrics")} for row in found)

    def events(
        self,
        session: str | None = None,
        *,
        name: str | Sequence[str] | None = None,
        follow: bool = False,
        limit: int | None = 100,
        patience: float = PATIENCE,
    ) -> Iterator[Row]:
        """Returns recorded events, newest first; with `name` only those, such as `update.accepted`.

        `name` may be several names. A reducer of release 0.2 looks at the last of them only.

        With `follow`, yields events as they happen, each once, without end: those of the session from its start, or of
        the alliance from now on. A lost connection is made again for `patience` seconds.
        """
        if not follow:
            return iter(self._rest.items("/events", {"session": session, "name": name}, limit))
        return self._rest.follow("/events/stream", {"session": session, "name": name, "replay": "true"}, patience)

    def health(self) -> Row:
        """Returns the alliance's name and the state of the reducer."""
        return self._rest.json("GET", "/health")


def _wrong_hash(model: str) -> InvalidUpdate:
    return InvalidUpdate(f"{model} has another hash than the recorded one: fetch it again")


def _folder_application(folder: Path) -> Any:
    """Returns the REST API over a sandbox's folder. This is the SDK's only use of the packages above it."""
    try:
        from fedmq_sandbox.folder import open_folder
    except ModuleNotFoundError as error:
        raise ConfigError(
            f"reading a folder needs {error.name}, which is not installed: pip install 'fedmq[server]'"
        ) from error
    return open_folder(folder)
