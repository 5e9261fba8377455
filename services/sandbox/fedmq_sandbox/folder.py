"""The REST API over a sandbox's folder: the answers of the sandbox that writes it, or has written it, without a port."""

from __future__ import annotations

import shlex
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import NoReturn

from fastapi import FastAPI, Request, Response

from fedmq.blobs.files import FileBlobs
from fedmq.errors import ConfigError, Refused
from fedmq.process.lock import FOLDER_LOCK, is_locked
from fedmq.records.sqlite_reading import SqliteReader
from fedmq_reducer.web.api.answers import Json
from fedmq_reducer.web.api.context import ApiContext
from fedmq_reducer.web.app import create_app
from fedmq_sandbox.chain import chain_sessions, kept_options
from fedmq_sandbox.folder_events import FolderEvents

ALLIANCE = "sandbox"
"""Name of the alliance: that of each sandbox which was given none. A folder does not hold it."""


def open_records(folder: Path) -> SqliteReader:
    """Returns the records of a sandbox's folder, to be read. Raises ConfigError if there are none."""
    path = folder / "records.db"
    if not path.is_file():
        raise ConfigError(f"{folder} is no folder of a sandbox (it has no records.db): give the --state-dir of a run")
    return SqliteReader(path)


def is_left(folder: Path) -> bool:
    """Returns whether no sandbox runs in the folder. The lock of one that was killed went with its process."""
    return not is_locked(folder / FOLDER_LOCK)


def resuming(folder: Path, session: str) -> str:
    """Returns the command that resumes an open session of the folder, without its --state-dir.

    A session that was started at a served sandbox needs one that serves again.
    """
    kept = kept_options(folder)
    used, asked = kept.get("used", {}), kept.get("asked", {})
    words = ["fedmq", "sandbox", "--package", used.get("package", "DIR")]
    seed = asked.get("policy", {}).get("seed")
    for name, value in (("clients", asked.get("clients")), ("dirichlet", asked.get("dirichlet")), ("seed", seed)):
        words += [] if value is None else [f"--{name}", str(value)]
    for name, values in used.get("labels", {}).items():
        words += ["--label", f"{name}={','.join(values)}"]
    words += ["--form", used["form"]] if used.get("form") else []
    words += [] if used.get("python_env", True) else ["--no-env"]
    words += [] if session in chain_sessions(kept) else ["--serve"]
    data = asked.get("data")
    return (f"FEDN_DATA_PATH={shlex.quote(data)} " if data else "") + shlex.join(words)


def open_folder(folder: Path) -> FastAPI:
    """Returns the API as an ASGI application. It reads the folder only. Raises ConfigError if it is no sandbox's.

    Requests that change something are refused, with what to do instead.
    """
    records, refusal = open_records(folder), _refusal(folder)

    def refuse(*_: object) -> NoReturn:
        raise Refused(refusal)

    app = create_app(
        ApiContext(
            alliance=ALLIANCE,
            records=records,
            blobs=FileBlobs(folder / "blobs", read_only=True),
            publish=refuse,
            feed=FolderEvents(records),
            new_id=lambda: "",
            scratch=folder,
        )
    )

    @app.middleware("http")
    async def only_reads(request: Request, call_next: Callable[[Request], Awaitable[Response]]) -> Response:
        if request.method != "GET":
            return Json({"error": refusal}, 409)
        return await call_next(request)

    return app


def _refusal(folder: Path) -> str:
    """Returns why nothing can be changed, with the options by which a sandbox serves this folder."""
    asked = kept_options(folder).get("asked", {})
    given = {"--clients": asked.get("clients"), "--dirichlet": asked.get("dirichlet"), "--state-dir": folder}
    options = shlex.join(f"{each}" for pair in given.items() if pair[1] is not None for each in pair)
    return (
        f"{folder} is only read here, and nothing is changed in it. `fedmq sandbox --package DIR {options} --serve` serves "
        "it: then leave --state-dir (state_dir=) out. A run that is under way ends with Ctrl-C at its own terminal"
    )
