"""An application that answers in this process, without a port."""

from __future__ import annotations

import asyncio
import subprocess
import sys
import threading
from collections.abc import Awaitable, Callable, Iterator
from typing import Any

import pytest

from fedmq_sdk.in_process import PIECES, InProcessPool
from support.waiting import until

Send = Callable[[dict[str, Any]], Awaitable[None]]
Receive = Callable[[], Awaitable[dict[str, Any]]]


def _start(status: int = 200) -> dict[str, Any]:
    return {"type": "http.response.start", "status": status, "headers": []}


def _body(data: bytes, more: bool = False) -> dict[str, Any]:
    return {"type": "http.response.body", "body": data, "more_body": more}


async def echo(scope: dict[str, Any], receive: Receive, send: Send) -> None:
    request = await receive()
    found = [scope["method"], scope["path"], scope["query_string"].decode(), scope["headers"], request["body"]]
    await send(_start(418))
    await send(_body(repr(found).encode()))


async def endless(_: dict[str, Any], receive: Receive, send: Send) -> None:
    """Sends pieces until its reader leaves."""
    await receive()
    await send(_start())
    leaving = asyncio.ensure_future(receive())
    while not leaving.done():
        await send(_body(b"x", more=True))
        await asyncio.sleep(0)


async def failing(_: dict[str, Any], receive: Receive, send: Send) -> None:
    await send(_start(500))
    raise LookupError("a bug")


def _workers() -> Iterator[threading.Thread]:
    return (thread for thread in threading.enumerate() if thread.name == "fedmq-in-process")


def test_a_request_has_its_method_path_query_headers_and_body() -> None:
    answer = InProcessPool(echo).request(
        "POST", "http://here/models/a%20b?name=x%2Fy", body=b"data", headers={"Accept": "text/plain"}
    )
    assert answer.status == 418
    expected = ["POST", "/models/a b", "name=x%2Fy", [(b"accept", b"text/plain")], b"data"]
    assert answer.read() == repr(expected).encode()
    assert answer.read() == b""


def test_a_request_is_answered_inside_of_a_running_event_loop() -> None:
    async def notebook() -> int:
        return InProcessPool(echo).request("GET", "http://here/", body=None, headers={}).status

    assert asyncio.run(notebook()) == 418


def test_an_application_waits_for_a_slow_reader_and_ends_when_it_leaves() -> None:
    answer = InProcessPool(endless).request("GET", "http://here/", body=None, headers={})
    pieces = answer.stream()
    assert [next(pieces) for _ in range(3 * PIECES)] == [b"x"] * 3 * PIECES
    assert answer._messages.qsize() <= PIECES + 1
    answer.close()
    until(lambda: not any(_workers()), "the application has ended")


def test_an_error_of_the_application_is_raised_where_its_answer_is_read() -> None:
    answer = InProcessPool(failing).request("GET", "http://here/", body=None, headers={})
    with pytest.raises(LookupError, match="a bug"):
        answer.read()


def test_a_stream_that_nobody_closes_does_not_keep_the_process() -> None:
    code = (
        "import asyncio\n"
        "from fedmq_sdk.in_process import InProcessPool\n"
        "async def app(scope, receive, send):\n"
        "    await send({'type': 'http.response.start', 'status': 200, 'headers': []})\n"
        "    await receive()\n"
        "    await asyncio.to_thread(lambda: None)\n"
        "    while (await receive())['type'] != 'http.disconnect': pass\n"
        "answer = InProcessPool(app).request('GET', 'http://here/', body=None, headers={})\n"
        "print(answer.status)\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)
    assert (done.returncode, done.stdout, done.stderr) == (0, "200\n", "")
