"""The routes of the control page: whole pages, and the fragments that its script inserts."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl

from fastapi import APIRouter, Request
from fastapi.concurrency import run_in_threadpool
from fastapi.responses import FileResponse, HTMLResponse, RedirectResponse, Response, StreamingResponse
from jinja2 import Environment, PackageLoader, select_autoescape
from markupsafe import Markup

from fedmq.errors import FedMQError, NotFound
from fedmq_reducer.web.api.access import GUARDED, is_browser
from fedmq_reducer.web.api.answers import Json, SessionId
from fedmq_reducer.web.api.context import ApiContext
from fedmq_reducer.web.page import documentation, status
from fedmq_reducer.web.page import form as forms

STATIC = Path(__file__).parent / "static"
FILES = {"page.css": "text/css", "page.js": "text/javascript", "icon.svg": "image/svg+xml"}
LEAST_SECONDS = 0.4
SETTLED_SECONDS = 1.0
QUIET_SECONDS = 10.0
MOST_FORM = 64 * 1024
HEADERS = {
    "Cache-Control": "no-store",
    "Content-Security-Policy": "default-src 'self'; object-src 'none'; form-action 'self'; frame-ancestors 'none'; "
    "base-uri 'none'",
}


class ControlPage:
    """The control page. `router` has its routes; `form` answers a browser's `GET /start`."""

    def __init__(self, context: ApiContext) -> None:
        self._context = context
        self._templates = Environment(
            loader=PackageLoader("fedmq_reducer.web.page"),
            autoescape=select_autoescape(),
            trim_blocks=True,
            lstrip_blocks=True,
        )
        self._templates.filters.update(moment=_moment, labels=_labels, code=_code)
        self.router = APIRouter(include_in_schema=False)
        self.router.add_api_route("/", self._index)
        self.router.add_api_route("/docs", self._documentation)
        self.router.add_api_route("/page/static/{name}", self._static)
        self.router.add_api_route("/page/stream", self._stream)
        self.router.add_api_route("/page/start", self._start, methods=["POST"], dependencies=GUARDED)
        self.router.add_api_route("/page/sessions/{session}/stop", self._stop, methods=["POST"], dependencies=GUARDED)

    # -- whole pages ------------------------------------------------------------------------------------------------

    def _index(self, request: Request) -> Response:
        """Returns the page to a browser, and a list of places to a program."""
        if is_browser(request):
            return self._page(request)
        return Json({"start": "/start", "sessions": "/sessions", "models": "/models", "documentation": "/docs"})

    def form(self, request: Request) -> Response:
        """Returns the page with the form open. A browser that looks at it starts nothing."""
        return self._page(request, opened=True)

    def _page(
        self,
        request: Request,
        *,
        opened: bool = False,
        given: Mapping[str, str] | None = None,
        faults: Mapping[str, str] | None = None,
        code: int = 200,
    ) -> Response:
        started = request.query_params.get("started")
        html = self._render(
            "page.html",
            status=self._status(),
            started=started,
            opened=opened or bool(faults),
            **self._form(given, faults),
        )
        return HTMLResponse(html, code, HEADERS)

    def _documentation(self, request: Request) -> Response:
        document = request.app.openapi()
        html = self._render(
            "docs.html",
            info=document["info"],
            operations=documentation.operations(document),
            bodies=documentation.bodies(document),
        )
        return HTMLResponse(html, headers=HEADERS)

    def _static(self, name: str) -> Response:
        if name not in FILES:
            raise NotFound(f"there is no file {name!r}")
        return FileResponse(STATIC / name, media_type=FILES[name], headers={"Cache-Control": "no-cache"})

    # -- changes ----------------------------------------------------------------------------------------------------

    async def _start(self, request: Request) -> Response:
        """Starts a session from the form. Answers a script with a fragment, and a browser without scripts with a page."""
        given = await _submitted(request)
        return await run_in_threadpool(self._start_with, request, given)

    def _start_with(self, request: Request, given: Mapping[str, str]) -> Response:
        checked = forms.check(given)
        faults = checked.faults
        if checked.policy is not None:
            try:
                session = self._context.start(checked.policy, given.get("session") or None)
            except NotFound as error:
                faults = {"seed": error.reason}
            except FedMQError as error:
                faults = {"": error.reason}
            else:
                return self._started(request, session)
        if _by_script(request):
            return HTMLResponse(self._render("form.html", started=None, **self._form(given, faults)), 200, HEADERS)
        return self._page(request, given=given, faults=faults, code=422)

    def _started(self, request: Request, session: str) -> Response:
        if not _by_script(request):
            return RedirectResponse(f"/?started={session}", 303)
        return HTMLResponse(self._render("form.html", started=session, **self._form(None, None)), 200, HEADERS)

    async def _stop(self, request: Request, session: SessionId) -> Response:
        given = await _submitted(request)
        when = "now" if given.get("when") == "now" else "after_round"
        await run_in_threadpool(self._context.stop, session, when)
        return Response(status_code=204) if _by_script(request) else RedirectResponse("/", 303)

    # -- fragments --------------------------------------------------------------------------------------------------

    def _render(self, template: str, **values: Any) -> str:
        return self._templates.get_template(template).render(alliance=self._context.alliance, **values)

    def _status(self) -> status.Status | None:
        """Returns None if the records can't be read."""
        try:
            self._context.check_records()
            return status.read_status(self._context.records, self._context.stalls)
        except FedMQError:
            return None

    def _form(self, given: Mapping[str, str] | None, faults: Mapping[str, str] | None) -> dict[str, Any]:
        """Returns the values of the form's template. `given`: what was submitted, to be shown in the inputs."""
        every = forms.fields()
        return {
            "common": every[: len(forms.COMMON)],
            "groups": forms.groups(),
            "values": {field.name: field.default for field in every} if given is None else given,
            "faults": faults or {},
            "seeds": self._seeds(),
            "new_id": f"s{self._context.new_id()[:12]}",
        }

    def _seeds(self) -> list[tuple[str, str]]:
        try:
            self._context.check_records()
            return status.seeds(self._context.blobs, self._context.records)
        except FedMQError:
            return []

    # -- live -------------------------------------------------------------------------------------------------------

    async def _stream(self) -> Response:
        headers = {"Cache-Control": "no-store", "X-Accel-Buffering": "no"}
        return StreamingResponse(self._fragments(), media_type="text/event-stream", headers=headers)

    async def _fragments(self) -> AsyncIterator[bytes]:
        """Yields the status as HTML, at once and whenever it has changed.

        The status is read soon after events, once more when the records contain them, and every ten seconds.
        """
        last = ""
        wait = 0.0
        yield b"retry: 2000\n\n"
        with self._context.feed.subscribe() as subscription:
            try:
                while True:
                    html = await run_in_threadpool(lambda: self._render("status.html", status=self._status()))
                    if html != last:
                        last = html
                        yield b"event: status\ndata: " + json.dumps(html).encode() + b"\n\n"
                    else:
                        yield b": still here\n\n"
                    news = await subscription.next(SETTLED_SECONDS if wait else QUIET_SECONDS)
                    wait = LEAST_SECONDS if news is not None else 0.0
                    await asyncio.sleep(wait)
                    while await subscription.next(0.0) is not None:
                        continue
            except asyncio.CancelledError:
                return  # the server stops, or the reader has left


def _moment(at: float | None, form: str = "time") -> Markup:
    """Returns a `<time>` in UTC, which the page's script shows in the viewer's time zone. `form`: time, date or left."""
    if at is None:
        return Markup("–")
    iso = datetime.fromtimestamp(at, UTC).isoformat(timespec="milliseconds")
    shown = f"{iso[:10]} {iso[11:16]} UTC" if form == "date" else f"{iso[11:19]} UTC"
    return Markup('<time datetime="{}" data-form="{}" title="{}">{}</time>').format(iso, form, iso, shown)


def _code(text: str) -> Markup:
    """Returns the text, with what stands between two backticks as code."""
    parts = text.split("`")
    return Markup("").join(Markup("<code>{}</code>").format(each) if i % 2 else each for i, each in enumerate(parts))


def _labels(pairs: dict[str, str]) -> str:
    return ", ".join(f"{name} {value}" for name, value in sorted(pairs.items()))


async def _submitted(request: Request) -> dict[str, str]:
    """Returns an urlencoded form. A form that is longer than any policy is cut off, and then refused."""
    body = b""
    async for piece in request.stream():
        body += piece
        if len(body) > MOST_FORM:
            break
    return dict(parse_qsl(body[:MOST_FORM].decode("utf-8", "replace"), keep_blank_values=True))


def _by_script(request: Request) -> bool:
    return request.headers.get("x-requested-with") == "fetch"
