"""Transfers against a scripted HTTP server in this process, and against the embedded stores."""

import hashlib
import itertools
import sys
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
from urllib3.exceptions import HTTPError

from fedmq.blobs import http, transfer
from fedmq.blobs.base import UrlExpired
from fedmq.errors import InvalidUpdate, NotFound, ProtocolError, Refused, Transient
from fedmq_schemas.messages import BlobRef

KEY = "updates/s/1/a"
CONTENT = bytes(range(256)) * 4096


def reference(content: bytes = CONTENT, key: str = KEY) -> BlobRef:
    return BlobRef(key=key, size=len(content), sha256=hashlib.sha256(content).hexdigest())


@dataclass
class Answer:
    """What the server does with one request: `cut` bytes of the body are sent before it hangs up."""

    status: int = 200
    body: bytes = b""
    cut: int | None = None
    resumes: bool = True
    announced: int | None = None


@dataclass
class Web:
    url: str = ""
    script: list[Answer] = field(default_factory=list)
    ranges: list[str | None] = field(default_factory=list)
    bodies: list[bytes] = field(default_factory=list)
    headers: list[tuple[str, str]] = field(default_factory=list)
    connections: int = 0


class Server(ThreadingHTTPServer):
    daemon_threads = True

    def handle_error(self, request: Any, client_address: Any) -> None:
        if not isinstance(sys.exception(), ConnectionError):  # some tests hang up on it
            super().handle_error(request, client_address)


@pytest.fixture
def web(monkeypatch: pytest.MonkeyPatch) -> Iterator[Web]:
    for name in ("http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY"):
        monkeypatch.delenv(name, raising=False)
    web = Web()

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def setup(self) -> None:
            web.connections += 1
            super().setup()

        def do_GET(self) -> None:
            asked = self.headers.get("Range")
            web.ranges.append(asked)
            answer = web.script.pop(0)
            body, status = answer.body, answer.status
            if asked and answer.resumes and status == 200:
                body, status = body[int(asked.removeprefix("bytes=").rstrip("-")) :], 206
            self._answer(status, body, answer)

        def do_PUT(self) -> None:
            answer = web.script.pop(0)
            length = int(self.headers["Content-Length"])
            if answer.cut is not None:
                self.rfile.read(answer.cut)
                self.close_connection = True
                return
            web.headers = self.headers.items()
            web.bodies.append(self.rfile.read(length))
            self._answer(answer.status, answer.body, answer)

        def _answer(self, status: int, body: bytes, answer: Answer) -> None:
            self.send_response(status)
            self.send_header("Content-Length", str(len(body) if answer.announced is None else answer.announced))
            self.end_headers()
            self.wfile.write(body if answer.cut is None else body[: answer.cut])
            self.close_connection = answer.cut is not None

        def log_message(self, format: str, *args: object) -> None:
            pass

    server = Server(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    web.url = f"http://127.0.0.1:{server.server_port}/bucket/name?X-Amz-Signature=secret"
    yield web
    server.shutdown()
    server.server_close()
    thread.join()


class Time:
    """A clock that only moves by pauses."""

    def __init__(self) -> None:
        self.now = 0.0
        self.pauses: list[float] = []

    def pause(self, seconds: float) -> None:
        self.pauses.append(seconds)
        self.now += seconds

    def clock(self) -> float:
        return self.now


@pytest.fixture
def time() -> Time:
    return Time()


def test_a_blob_is_downloaded_as_a_file_and_nothing_else_is_left(web: Web, tmp_path: Path) -> None:
    web.script = [Answer(body=CONTENT)]
    assert transfer.fetch(reference(), web.url, tmp_path / "model").read_bytes() == CONTENT
    assert [path.name for path in tmp_path.iterdir()] == ["model"]


def test_an_empty_blob_is_downloaded(web: Web) -> None:
    web.script = [Answer()]
    assert transfer.get(reference(b""), web.url) == b""


def test_a_broken_download_resumes_where_it_stopped(web: Web, time: Time, tmp_path: Path) -> None:
    web.script = [Answer(body=CONTENT, cut=300_000), Answer(body=CONTENT)]
    path = transfer.fetch(reference(), web.url, tmp_path / "m", pause=time.pause, clock=time.clock)
    assert path.read_bytes() == CONTENT
    assert web.ranges == [None, "bytes=300000-"]


def test_a_broken_download_starts_over_where_the_server_can_not_resume(web: Web, time: Time) -> None:
    web.script = [Answer(body=CONTENT, cut=300_000), Answer(body=CONTENT, resumes=False)]
    assert transfer.get(reference(), web.url, pause=time.pause, clock=time.clock) == CONTENT


def test_pauses_double_up_to_five_seconds_until_time_is_over(web: Web, time: Time) -> None:
    web.script = [Answer(status=503) for _ in range(20)]
    with pytest.raises(Transient, match="given up after 20 s: 503"):
        transfer.get(reference(), web.url, timeout=20.0, pause=time.pause, clock=time.clock)
    assert time.pauses == pytest.approx([0.2, 0.4, 0.8, 1.6, 3.2, 5.0, 5.0, 3.8])


def test_the_cause_of_each_repetition_is_reported(web: Web, time: Time) -> None:
    causes: list[str] = []
    web.script = [Answer(status=503), Answer(status=500), Answer(body=CONTENT)]
    transfer.get(reference(), web.url, pause=time.pause, clock=time.clock, on_fault=causes.append)
    assert [cause.split()[0] for cause in causes] == ["503", "500"]
    web.script = [Answer(status=503), Answer()]
    transfer.put(KEY, web.url, CONTENT, pause=time.pause, clock=time.clock, on_fault=causes.append)
    assert len(causes) == 3


def test_a_server_that_is_away_is_transient_and_its_url_stays_secret(web: Web, time: Time) -> None:
    url = "http://127.0.0.1:1/bucket/name?X-Amz-Signature=secret"
    with pytest.raises(Transient) as caught:
        transfer.get(reference(), url, timeout=1.0, pause=time.pause, clock=time.clock)
    assert "127.0.0.1" in caught.value.reason
    assert "secret" not in caught.value.reason


def test_a_wrong_size_is_seen_before_anything_is_read(web: Web, tmp_path: Path) -> None:
    web.script = [Answer(body=b"", announced=len(CONTENT) + 1, cut=0)]
    with pytest.raises(InvalidUpdate, match="announced were"):
        transfer.fetch(reference(), web.url, tmp_path / "model")
    assert list(tmp_path.iterdir()) == []


def test_another_content_of_the_same_size_is_invalid_and_leaves_nothing(web: Web, tmp_path: Path) -> None:
    web.script = [Answer(body=CONTENT[::-1])]
    with pytest.raises(InvalidUpdate, match="sha256"):
        transfer.fetch(reference(), web.url, tmp_path / "model")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("status", "error"),
    [(403, UrlExpired), (404, NotFound), (410, NotFound), (400, Refused), (301, Refused)],
)
def test_a_refusal_is_raised_at_once(web: Web, status: int, error: type[Exception]) -> None:
    web.script = [Answer(status=status, body=b"<Error><Code>TheCode</Code></Error>")]
    with pytest.raises(error, match=f"{status} TheCode"):
        transfer.get(reference(), web.url)
    web.script = [Answer(status=status, body=b"<Error><Code>TheCode</Code></Error>")]
    with pytest.raises(error, match=f"{status} TheCode"):
        transfer.put(KEY, web.url, CONTENT)


def test_a_time_out_of_s3_is_tried_again_though_it_is_a_400(web: Web, time: Time) -> None:
    web.script = [Answer(status=400, body=b"<Error><Code>RequestTimeout</Code></Error>"), Answer()]
    transfer.put(KEY, web.url, CONTENT, pause=time.pause, clock=time.clock)
    assert len(web.bodies) == 2


def test_bytes_and_files_are_put_whole_and_referenced(web: Web, tmp_path: Path) -> None:
    web.script = [Answer(), Answer(status=204)]
    (tmp_path / "delta").write_bytes(CONTENT)
    assert transfer.put(KEY, web.url, CONTENT) == reference()
    assert transfer.put(KEY, web.url, tmp_path / "delta") == reference()
    assert web.bodies == [CONTENT, CONTENT]


def test_a_broken_upload_is_sent_again_from_its_start(web: Web, time: Time) -> None:
    web.script = [Answer(cut=1000), Answer(status=500), Answer()]
    assert transfer.put(KEY, web.url, CONTENT, pause=time.pause, clock=time.clock) == reference()
    assert web.bodies[-1] == CONTENT


def test_the_headers_that_a_url_binds_are_sent_once_and_as_they_are(web: Web) -> None:
    web.script = [Answer()]
    bound = {"content-length": str(len(CONTENT)), "x-amz-checksum-sha256": "abc="}
    assert transfer.put(KEY, web.url, CONTENT, bound) == reference()
    sent = [(name.lower(), value) for name, value in web.headers]
    assert all(sent.count(each) == 1 for each in bound.items())
    assert "transfer-encoding" not in dict(sent)


def test_a_transfer_that_trickles_past_its_time_is_given_up(web: Web) -> None:
    clock = itertools.count()  # a second passes with each look at it
    web.script = [Answer(body=CONTENT), Answer()]
    with pytest.raises(Transient, match="too slow"):
        transfer.get(reference(), web.url, timeout=4.0, clock=clock.__next__)
    with pytest.raises(Transient, match="too slow"):
        transfer.put(KEY, web.url, CONTENT, timeout=4.0, clock=clock.__next__)


def test_connections_are_used_again(web: Web) -> None:
    web.script = [Answer(body=CONTENT), Answer(), Answer(status=503), Answer()]
    transfer.get(reference(), web.url)
    transfer.put(KEY, web.url, CONTENT)
    transfer.put(KEY, web.url, CONTENT, pause=lambda seconds: None)
    assert web.script == []
    assert web.connections == 1


def test_the_proxy_of_the_environment_is_used(web: Web, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("http_proxy", web.url.partition("/bucket")[0])
    monkeypatch.setenv("no_proxy", "elsewhere")
    web.script = [Answer(body=CONTENT)]
    assert transfer.get(reference(), "http://store.invalid/bucket/name") == CONTENT


@pytest.mark.parametrize(
    "url", ["ftp://host/x", "/etc/passwd", "http:///x", "", "http://[::1/x?secret", "http://host:port/x?secret"]
)
def test_other_urls_are_refused(url: str) -> None:
    with pytest.raises(ProtocolError, match="can't follow") as caught:
        transfer.get(reference(), url)
    assert "secret" not in caught.value.reason


def test_the_url_in_the_error_of_a_connection_stays_secret(time: Time) -> None:
    def turn() -> str | None:
        raise HTTPError("http://host/bucket/name?X-Amz-Signature=secret is broken")

    with pytest.raises(Transient, match=r"given up after 1 s: the store at .*failed: HTTPError"):
        http.Attempts(1.0, time.pause, time.clock).until_done(turn)
    with pytest.raises(Transient) as caught:
        http.Attempts(1.0, time.pause, time.clock).until_done(turn)
    assert "secret" not in caught.value.reason
