"""A fault of a connection is stated in plain words, without the text of the error, which may hold a presigned URL."""

from __future__ import annotations

import pytest
import urllib3.connection
import urllib3.exceptions
from pymongo import errors

from fedmq import connection_faults
from fedmq.connection_faults import fault

POOL = urllib3.HTTPConnectionPool("store")
ADDRESS = urllib3.connection.HTTPConnection("store")


@pytest.mark.parametrize(
    ("error", "words"),
    [
        (urllib3.exceptions.ReadTimeoutError(POOL, "/secret", "late"), "did not answer within the time limit"),
        (
            urllib3.exceptions.NewConnectionError(ADDRESS, "refused"),
            "accepts no connection",
        ),
        (urllib3.exceptions.IncompleteRead(3, 5), "ended the connection in the middle of an answer"),
        (errors.NetworkTimeout("secret"), "did not answer within the time limit"),
        (errors.AutoReconnect("secret"), "ended the connection"),
        (errors.NotPrimaryError("secret"), "is no primary at the moment"),
        (errors.WaitQueueTimeoutError("secret"), "had no connection free within the time limit"),
        (ValueError("secret"), "failed: ValueError"),
    ],
)
def test_a_fault_is_stated_in_words(error: Exception, words: str) -> None:
    assert fault(error) == words


def test_a_class_that_extends_a_known_one_has_its_words() -> None:
    class Own(errors.NetworkTimeout):
        pass

    assert fault(Own("secret")) == "did not answer within the time limit"


def test_each_named_class_exists() -> None:
    known = {*vars(urllib3.exceptions), *vars(errors)}
    assert set(connection_faults._WORDS) <= known
