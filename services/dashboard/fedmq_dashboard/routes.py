"""The dashboard's server beside its pages: the news stream, exports and health; compression, and who may look."""

from __future__ import annotations

import base64
import csv
import gzip
import hashlib
import io
import json
import threading
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence

import flask

from fedmq.errors import FedMQError
from fedmq.web.access import HEADERS, Access
from fedmq_dashboard.history import History
from fedmq_dashboard.live import Live
from fedmq_dashboard.pages import table
from fedmq_dashboard.query import Query

Cell = str | int | float | None

LEAST_SECONDS = 0.5
SETTLED_SECONDS = 1.5
CLOCK_SECONDS = 10.0
"""Seconds. The stream sends news at most every half second, again once the records must contain it, and the time."""

COMPRESSED_FROM = 2_000
MOST_STREAMS = 48
"""Each page that is looked at has one open."""


def add_routes(server: flask.Flask, history: History, live: Live) -> None:
    """Adds the routes and the compression to the server."""

    @server.get("/export/table.<form>")
    def export_table(form: str) -> flask.Response:
        if form not in ("csv", "json"):
            flask.abort(404)
        query = Query.parse(flask.request.query_string.decode("utf-8", "replace"))
        try:
            rows = table.rows(table.read(history, live, query), query)
        except FedMQError as error:
            return flask.Response(f"the records can't be read now: {error.reason}", 503, mimetype="text/plain")
        text = to_csv(rows) if form == "csv" else to_json(rows)
        kind = "text/csv" if form == "csv" else "application/json"
        name = {"Content-Disposition": f"attachment; filename=metrics.{form}"}
        return flask.Response(text, mimetype=kind, headers=name)

    places = threading.BoundedSemaphore(MOST_STREAMS)

    @server.get("/stream")
    def stream() -> flask.Response:
        if not places.acquire(blocking=False):
            words = f"{MOST_STREAMS} pages follow the news already: close some, or load this page again later\n"
            return flask.Response(words, 503, mimetype="text/plain")
        headers = {"Cache-Control": "no-store", "X-Accel-Buffering": "no"}
        response = flask.Response(news(live), mimetype="text/event-stream", headers=headers)
        response.call_on_close(places.release)
        return response

    @server.get("/health")
    def health() -> dict[str, str]:
        return {"status": "ok", "trouble": live.trouble}

    @server.after_request
    def compress(response: flask.Response) -> flask.Response:
        accepts = "gzip" in flask.request.headers.get("Accept-Encoding", "")
        if not accepts or response.direct_passthrough or response.is_streamed or response.status_code != 200:
            return response
        data = response.get_data()
        if len(data) >= COMPRESSED_FROM:
            response.set_data(gzip.compress(data, 1))
            response.headers["Content-Encoding"] = "gzip"
            response.headers.add("Vary", "Accept-Encoding")
        return response


def add_guard(server: flask.Flask, access: Access, scripts: Iterable[str]) -> None:
    """Makes the server refuse what `access` refuses, before any route. `scripts`: the texts of the pages' inline scripts."""
    headers = {**HEADERS, "Content-Security-Policy": policy(scripts)}

    @server.before_request
    def decide() -> flask.Response | None:
        objection = access.objection(flask.request.path, flask.request.headers.get)
        if objection is None:
            return None
        return flask.Response(f"{objection.reason}\n", objection.status, dict(objection.headers), mimetype="text/plain")

    @server.after_request
    def protect(response: flask.Response) -> flask.Response:
        for name, value in headers.items():
            response.headers.setdefault(name, value)
        return response


def policy(scripts: Iterable[str]) -> str:
    """Returns the content security policy: scripts of this server, and those inline ones.

    Plotly and Dash's controls set styles from scripts, as `style` elements and attributes, and draw images from `data:`
    and `blob:`.
    """
    hashes = " ".join(f"'sha256-{_hash(script)}'" for script in scripts)
    return (
        f"default-src 'self'; script-src 'self' {hashes}; style-src 'self' 'unsafe-inline'; img-src 'self' data: blob:; "
        "object-src 'none'; frame-ancestors 'none'; base-uri 'none'; form-action 'none'"
    )


def _hash(script: str) -> str:
    return base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()


def news(live: Live) -> Iterator[str]:
    """Yields server-sent events with the revision of each topic. With a `+` the records contain it for certain."""
    seen, clock = live.revisions, 0
    is_settled = True
    while True:
        mark = "+" if is_settled else ""
        published = {topic: f"{revision}{mark}" for topic, revision in seen.items()} | {"clock": str(clock)}
        yield f"data: {json.dumps(published)}\n\n"
        time.sleep(LEAST_SECONDS)
        found = live.wait(seen, CLOCK_SECONDS if is_settled else SETTLED_SECONDS)
        if found is None:
            return
        clock += is_settled and found == seen
        seen, is_settled = found, found == seen


def to_csv(rows: Sequence[Mapping[str, Cell]]) -> str:
    """Returns rows as CSV with a header. A text that a spreadsheet would execute gets an apostrophe in front."""
    if not rows:
        return ""
    file = io.StringIO()
    writer = csv.DictWriter(file, list(rows[0]), lineterminator="\n")
    writer.writerow({name: _safe(name) for name in rows[0]})
    writer.writerows({name: _safe(cell) for name, cell in row.items()} for row in rows)
    return file.getvalue()


def to_json(rows: Sequence[Mapping[str, Cell]]) -> str:
    """Returns rows as a JSON list of objects."""
    return json.dumps(list(rows), indent=1, allow_nan=False)


def _safe(cell: Cell) -> Cell:
    return f"'{cell}" if isinstance(cell, str) and cell[:1] in ("=", "+", "-", "@", "\t", "\r") else cell
