"""The contract of the record port, on every adapter: documents and queries."""

import math
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from contracts.stores import patiently
from fedmq.errors import NotFound, ProtocolError
from fedmq.records.base import Records


def ids(documents: Any) -> list[Any]:
    return [document["id"] for document in documents]


@pytest.fixture
def filled(records: Records) -> Records:
    rows: list[tuple[str, str, int, dict[str, Any]]] = [
        ("e", "a", 3, {"kind": "x"}),
        ("d", "a", 1, {"kind": "y"}),
        ("c", "b", 2, {"kind": "x"}),
        ("b", "b", 2, {}),
        ("a", "c", 5, {"kind": None}),
    ]
    for key, session, at, data in rows:
        records.put("events", key, {"id": key, "session": session, "at": at, "data": data})
    return records


def test_a_document_comes_back_as_it_was_put(records: Records) -> None:
    document = {
        "text": 'größe "quoted" \\ \n 日本',
        "empty": "",
        "integer": 2**53 + 1,
        "large": 2**63 - 1,
        "negative": -(2**63),
        "float": 0.1,
        "tiny": 5e-324,
        "whole": 2.0,
        "yes": True,
        "no": False,
        "nothing": None,
        "list": [1, "a", [None, {"b": []}]],
        "object": {"test/accuracy": 0.5, "dotted.name": {"$dollar": 1}, "": 0},
    }
    records.put("models", "m", document)
    found = records.get("models", "m")
    assert found == document
    assert found is not None
    assert list(found) == list(document)
    assert [type(found[name]) for name in ("whole", "yes", "no")] == [float, bool, bool]


def test_numbers_that_json_lacks_come_back_too(records: Records) -> None:
    data = {"loss": math.nan, "norms": [math.inf, -math.inf], "says": "NaN, -Infinity"}
    records.put("events", "e", {"id": "e", "data": data})
    found = records.get("events", "e")
    assert found is not None
    assert math.isnan(found["data"]["loss"])
    assert found["data"]["norms"] == [math.inf, -math.inf]
    assert found["data"]["says"] == "NaN, -Infinity"
    assert ids(records.find("events", {"id": "e"})) == ["e"]


@pytest.mark.parametrize(
    "metric",
    [
        {"$float": "x"},
        {"$float": "nan"},
        {"$float": ["nan"]},
        {"$float": {"$float": "inf"}},
        {"$float": [{"$float": []}]},
        {"$float": None},
        {"$float": "1", "b": 2},
    ],
)
def test_a_map_that_looks_like_a_mark_comes_back_as_it_was(records: Records, metric: Any) -> None:
    """A metric of a client could not be read back, and with it no record of its session."""
    records.put("events", "e", {"metrics": {"a": metric, "b": [metric], "c": math.inf}})
    assert records.get("events", "e") == {"metrics": {"a": metric, "b": [metric], "c": math.inf}}
    records.update("events", "e", {"seen": metric})
    assert records.find("events")[0]["seen"] == metric


def test_tuples_come_back_as_lists(records: Records) -> None:
    records.put("sessions", "s", {"tasks": ("train", "validate")})
    assert records.get("sessions", "s") == {"tasks": ["train", "validate"]}


def test_what_is_absent_is_none_empty_and_zero(records: Records) -> None:
    assert records.get("sessions", "s") is None
    assert list(records.find("sessions")) == []
    assert records.count("sessions") == 0
    assert records.delete("sessions", {}) == 0


def test_insert_returns_none_and_then_the_present_document(records: Records) -> None:
    assert records.insert("rounds", "s/1", {"model": "first"}) is None
    assert records.insert("rounds", "s/1", {"model": "second"}) == {"model": "first"}
    assert records.get("rounds", "s/1") == {"model": "first"}
    assert records.count("rounds") == 1


def test_one_of_many_inserts_of_a_key_wins_and_the_others_return_its_document(records: Records) -> None:
    with ThreadPoolExecutor(8) as pool:
        answers = list(pool.map(lambda n: patiently(lambda: records.insert("rounds", "s/1", {"by": n})), range(24)))
    winner = records.get("rounds", "s/1")
    assert winner is not None
    assert answers[winner["by"]] is None
    assert [answer for answer in answers if answer is not None] == [winner] * 23


def test_put_replaces_the_whole_document(records: Records) -> None:
    records.put("clients", "c", {"state": "idle", "ordinal": 1})
    records.put("clients", "c", {"state": "gone"})
    assert records.get("clients", "c") == {"state": "gone"}


def test_update_sets_top_level_fields_only(records: Records) -> None:
    records.put("clients", "c", {"state": "idle", "labels": {"site": "north", "kind": "mri"}, "ordinal": 1})
    records.update("clients", "c", {"labels": {"site": "south"}, "seen": math.inf, "ordinal": None})
    assert records.get("clients", "c") == {
        "state": "idle",
        "labels": {"site": "south"},
        "seen": math.inf,
        "ordinal": None,
    }


def test_an_update_of_an_absent_key_is_not_found(records: Records) -> None:
    for fields in ({"state": "idle"}, {}):
        with pytest.raises(NotFound, match="nobody"):
            records.update("clients", "nobody", fields)
    assert records.get("clients", "nobody") is None


def test_updates_side_by_side_lose_nothing(records: Records) -> None:
    records.put("clients", "c", {})
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda n: patiently(lambda: records.update("clients", "c", {f"field{n}": n})), range(24)))
    assert records.get("clients", "c") == {f"field{n}": n for n in range(24)}


@pytest.mark.parametrize(("call", "e1", "same"), [("put_many", "new", 2), ("insert_many", "old", 1)])
def test_many_are_written_at_once_and_replace_or_leave_what_is_there(
    records: Records, call: str, e1: str, same: int
) -> None:
    write_many = getattr(records, call)
    records.put("events", "e1", {"id": "old"})
    write_many("events", ((f"e{n}", {"id": "new"}) for n in range(200)))
    write_many("events", [])
    assert records.count("events") == 200
    assert records.get("events", "e1") == {"id": e1}
    assert records.get("events", "e2") == {"id": "new"}
    write_many(
        "events", [("same", {"id": 1}), ("same", {"id": 2}), ("a\0b", {"id": "a\0b"}), ("a\0c", {"id": "\\u0000"})]
    )
    assert [records.get("events", key) for key in ("same", "a\0b", "a\0c")] == [
        {"id": same},
        {"id": "a\0b"},
        {"id": "\\u0000"},
    ]


def test_find_and_count_by_equal_fields(filled: Records) -> None:
    assert ids(filled.find("events")) == ["a", "b", "c", "d", "e"]
    assert ids(filled.find("events", {"session": "a"})) == ["d", "e"]
    assert ids(filled.find("events", {"session": "b", "at": 2, "data.kind": "x"})) == ["c"]
    assert ids(filled.find("events", {"session": "none"})) == []
    assert filled.count("events", {"session": "a"}) == 2
    assert filled.count("events") == 5


def test_a_list_means_any_of(filled: Records) -> None:
    assert ids(filled.find("events", {"session": ["a", "c"]})) == ["a", "d", "e"]
    assert ids(filled.find("events", {"session": ("b", "c"), "at": [2, 3]})) == ["b", "c"]
    assert ids(filled.find("events", {"session": []})) == []
    assert filled.count("events", {"data.kind": ["x", "y"]}) == 3


def test_none_matches_none_and_absent(filled: Records) -> None:
    assert ids(filled.find("events", {"data.kind": None})) == ["a", "b"]


def test_find_in_order_of_a_field_and_then_of_the_key(filled: Records) -> None:
    assert ids(filled.find("events", order="at")) == ["d", "b", "c", "e", "a"]
    assert ids(filled.find("events", order="at", descending=True)) == ["a", "e", "c", "b", "d"]
    assert ids(filled.find("events", order="at", limit=2)) == ["d", "b"]
    assert ids(filled.find("events", descending=True, limit=2)) == ["e", "d"]


def test_find_continues_after_a_value(filled: Records) -> None:
    assert ids(filled.find("events", order="at", after=2)) == ["e", "a"]
    assert ids(filled.find("events", order="at", descending=True, after=3)) == ["c", "b", "d"]
    assert ids(filled.find("events", after="c")) == ["d", "e"]
    assert ids(filled.find("events", {"session": ["a", "b"]}, descending=True, after="d", limit=1)) == ["c"]
    assert ids(filled.find("events", order="at", after=0, limit=0)) == []


def test_delete_returns_the_number_of_deleted_documents(filled: Records) -> None:
    assert filled.delete("events", {"session": "b"}) == 2
    assert filled.delete("events", {"session": "b"}) == 0
    assert ids(filled.find("events")) == ["a", "d", "e"]
    assert filled.delete("events", {}) == 3
    assert filled.count("events") == 0


def test_tables_are_apart(records: Records) -> None:
    records.put("models", "k", {"in": "models"})
    records.put("rounds", "k", {"in": "rounds"})
    assert records.delete("models", {}) == 1
    assert records.get("rounds", "k") == {"in": "rounds"}


@pytest.mark.parametrize("name", ["", "Models", "a b", "x; DROP TABLE models", "a.b", "a$"])
def test_a_malformed_table_is_refused(records: Records, name: str) -> None:
    with pytest.raises(ProtocolError, match="table"):
        records.put(name, "k", {})
    with pytest.raises(ProtocolError, match="table"):
        records.find(name)


@pytest.mark.parametrize("name", ["", "a b", "x'--", 'x"', "a..b", "$where"])
def test_a_malformed_field_is_refused(records: Records, name: str) -> None:
    with pytest.raises(ProtocolError, match="field"):
        records.find("models", {name: 1})
    with pytest.raises(ProtocolError, match="field"):
        records.find("models", order=name)


def test_an_invalid_document_is_refused(records: Records) -> None:
    for document in ({"x": object()}, {"_id": "other"}):
        with pytest.raises(ProtocolError):
            records.put("models", "k", document)
    assert records.get("models", "k") is None


@pytest.mark.parametrize("name", ["data.loss", "_id", "$set", ""])
def test_an_update_names_top_level_fields(records: Records, name: str) -> None:
    records.put("models", "k", {"data": {"loss": 1}})
    with pytest.raises(ProtocolError):
        records.update("models", "k", {name: 2})
    assert records.get("models", "k") == {"data": {"loss": 1}}


def test_close_is_idempotent(records: Records) -> None:
    records.close()
    records.close()


def test_pages_hold_every_document_with_its_key_in_key_order(filled: Records) -> None:
    first = filled.page("events", limit=2)
    assert [key for key, _ in first] == ["a", "b"]
    second = filled.page("events", after="b", limit=2)
    assert [(key, document["session"]) for key, document in second] == [("c", "b"), ("d", "a")]
    assert [key for key, _ in filled.page("events", after="d", limit=2)] == ["e"]
    assert list(filled.page("events", after="e")) == []
    assert dict(filled.page("events"))["e"] == filled.get("events", "e")
