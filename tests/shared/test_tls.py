"""Every connection trusts the same authorities, and the error about a server that is not trusted names the remedy."""

from __future__ import annotations

import hashlib
import http.server
import ssl
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from fedmq.blobs import transfer
from fedmq.blobs.s3 import S3Blobs
from fedmq.brokers.rabbitmq.management import Management
from fedmq.brokers.rabbitmq.pika_connection import read_url
from fedmq.errors import ConfigError
from fedmq.tls import context, explain_certificate_error, explain_certificate_text, trust
from fedmq_schemas.messages import BlobRef
from fedmq_sdk import Alliance
from support.servers import certificates
from support.servers.certificates import Authority, Pair
from support.tiers import require

CONTENT = b'{"items": [], "next": null}'


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    require(certificates.missing())
    return Authority(tmp_path_factory.mktemp("authority"), "ours")


@pytest.fixture(autouse=True)
def as_it_was() -> Iterator[None]:
    yield
    trust(None)


@contextmanager
def served(pair: Pair) -> Iterator[int]:
    """The port of an https server that answers every GET with `CONTENT`."""

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200)
            self.send_header("Content-Length", str(len(CONTENT)))
            self.send_header("Last-Modified", "Tue, 24 Nov 2026 12:00:00 GMT")
            self.end_headers()
            self.wfile.write(CONTENT)

        def log_message(self, format: str, *args: object) -> None: ...

    tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    tls.load_cert_chain(pair.certificate, pair.key)
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        server.handle_error = lambda *_: None  # type: ignore[method-assign]
        server.socket = tls.wrap_socket(server.socket, server_side=True)
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        try:
            yield server.server_port
        finally:
            server.shutdown()
            thread.join()


def presigned(port: int) -> object:
    ref = BlobRef(key="models/a", size=len(CONTENT), sha256=hashlib.sha256(CONTENT).hexdigest())
    return transfer.get(ref, f"https://127.0.0.1:{port}/models/a?secret")


ASKED: dict[str, Callable[[int], object]] = {
    "a presigned URL": presigned,
    "the S3 server": lambda port: S3Blobs(f"127.0.0.1:{port}", "account", "secret", tls=True).get("models/a"),
    "the management API": lambda port: Management("amqp://", f"https://127.0.0.1:{port}").call("GET", "overview"),
    "the reducer": lambda port: Alliance(f"https://127.0.0.1:{port}").sessions(),
}


@pytest.mark.parametrize("asked", ASKED)
def test_every_connection_trusts_the_authority_that_is_named_and_no_other(
    authority: Authority, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, asked: str
) -> None:
    monkeypatch.setenv("FEDN_CA_FILE", str(authority.certificate))
    trust(authority.certificate)
    with served(authority.sign("server")) as port:
        ASKED[asked](port)
        other = Authority(tmp_path, "other").certificate
        monkeypatch.setenv("FEDN_CA_FILE", str(other))
        trust(other)
        with pytest.raises(ConfigError) as raised:
            ASKED[asked](port)
    assert f"has a certificate that {other} and the system's authorities do not vouch for" in raised.value.reason
    assert "FEDN_CA_FILE names the PEM file of the authority that signed it" in raised.value.reason
    assert "secret" not in raised.value.reason


def test_a_certificate_for_another_name_is_reported_as_such(authority: Authority) -> None:
    trust(authority.certificate)
    pair = authority.sign("wrong", "subjectAltName=DNS:elsewhere.example")
    with served(pair) as port, pytest.raises(ConfigError, match=r"another name \(IP address mismatch") as raised:
        presigned(port)
    assert "FEDN_CA_FILE" not in raised.value.reason


@pytest.mark.parametrize(("code", "words"), [(10, "has expired: renew it there"), (9, "is not valid yet: compare")])
def test_a_certificate_of_another_time_is_reported_as_such(code: int, words: str) -> None:
    error = ssl.SSLCertVerificationError(1, "certificate verify failed")
    error.verify_code, error.verify_message = code, ""
    assert words in (explain_certificate_error(OSError("wrapped", error)) or "")
    assert explain_certificate_error(OSError("another thing")) is None


@pytest.mark.parametrize(
    ("found", "words"),
    [
        ("certificate has expired", "has expired: renew it there"),
        ("certificate is not yet valid", "is not valid yet: compare"),
        ("Hostname mismatch, certificate is not valid for 'db'.", "address it by a name"),
        ("unable to get local issuer certificate", "FEDN_CA_FILE names"),
    ],
)
def test_the_text_of_an_error_is_explained_as_the_error_is(found: str, words: str) -> None:
    text = f"db:27017: [SSL: CERTIFICATE_VERIFY_FAILED] certificate verify failed: {found} (_ssl.c:1006)"
    assert words in (explain_certificate_text(text) or "")
    assert explain_certificate_text("db:27017: connection refused") is None


def test_a_file_without_certificates_is_refused_and_the_trust_stays_as_it_was(
    authority: Authority, tmp_path: Path
) -> None:
    trust(authority.certificate)
    before = context()
    (tmp_path / "empty.pem").write_text("no certificate")
    for path, words in ((tmp_path / "empty.pem", "holds no certificate in PEM"), (tmp_path / "none", "No such file")):
        with pytest.raises(ConfigError, match=words) as raised:
            trust(path)
        assert raised.value.reason.startswith(f"FEDN_CA_FILE={path} ")
    assert context() is before


def test_the_broker_is_verified_with_the_trusted_authorities_unless_its_url_names_others(authority: Authority) -> None:
    trust(authority.certificate)
    assert read_url("amqp://localhost/").ssl_options is None
    ours = read_url("amqps://localhost/").ssl_options
    own = read_url(f"amqps://localhost/?ssl_options={{'cafile': '{authority.certificate}'}}").ssl_options
    assert ours is not None and ours.context is context()
    assert own is not None and own.context is not context()


def test_a_named_certificate_is_the_reducers_own_whatever_name_it_has(
    authority: Authority, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pair = authority.sign("elsewhere", "subjectAltName=DNS:elsewhere.example")
    with served(pair) as port:
        monkeypatch.setenv("FEDN_REDUCER_HOST", "127.0.0.1")
        monkeypatch.setenv("FEDN_REDUCER_PORT", str(port))
        monkeypatch.setenv("FEDN_REDUCER_TLS_CERT", str(pair.certificate))
        assert Alliance().sessions() == []
        monkeypatch.setenv("FEDN_REDUCER_TLS_CERT", str(authority.certificate))
        with pytest.raises(ConfigError, match="has another certificate than the one in FEDN_REDUCER_TLS_CERT"):
            Alliance().sessions()
    for path, words in ((pair.key, "holds no certificate"), (tmp_path / "none", "can't be read: No such file")):
        monkeypatch.setenv("FEDN_REDUCER_TLS_CERT", str(path))
        with pytest.raises(ConfigError, match=words):
            Alliance()
