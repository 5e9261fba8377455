"""`fedmq doctor` reports a blob store that takes a connection and never answers."""

from __future__ import annotations

import socket

import pytest

from fedmq.errors import Transient
from fedmq.process.settings import ReducerSettings
from fedmq_cli.doctor import store_checks
from support.servers.answering import Answer, answering


def test_a_store_that_takes_connections_and_never_answers_is_reported(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each request was repeated twice, after a minute each."""
    monkeypatch.setattr(store_checks, "SECONDS", 0.3)
    with socket.create_server(("127.0.0.1", 0)) as silent:
        port = silent.getsockname()[1]
        settings = ReducerSettings(minio_host="127.0.0.1", minio_port=port)
        with pytest.raises(Transient, match=f"the S3 server at 127.0.0.1:{port} did not answer within the time limit"):
            store_checks.blobs(settings)


def test_a_store_that_fails_is_asked_once(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[str] = []

    def answer(method: str, path: str) -> Answer:
        asked.append(f"{method} {path}")
        return Answer(503, b"")

    monkeypatch.setattr(store_checks, "SECONDS", 5.0)
    with answering(answer) as port:
        settings = ReducerSettings(minio_host="127.0.0.1", minio_port=port)
        with pytest.raises(Transient):
            store_checks.blobs(settings)
    assert len(asked) == len(set(asked)), "no request is repeated"
