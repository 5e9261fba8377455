"""Parts of a common data set: disjoint, complete, never empty, the same for everybody who asks."""

import subprocess
import sys

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fedmq.errors import ConfigError
from fedmq_client import Client
from fedmq_client.partition import partition

LABELS = np.random.default_rng(5).integers(0, 10, 1000)


@given(
    examples=st.integers(1, 60),
    count=st.integers(1, 60),
    random_seed=st.integers(-5, 2**63),
    dirichlet=st.one_of(st.none(), st.floats(0.01, 100)),
)
def test_parts_are_disjoint_complete_and_never_empty(
    examples: int, count: int, random_seed: int, dirichlet: float | None
) -> None:
    labels = np.arange(examples) % 3
    if examples < count:
        with pytest.raises(ConfigError, match="fewer clients or more data"):
            partition(labels, count, random_seed, dirichlet)
        return
    parts = partition(labels, count, random_seed, dirichlet)
    assert len(parts) == count
    assert all(len(part) > 0 for part in parts)
    assert sorted(np.concatenate(parts).tolist()) == list(range(examples))


def test_iid_parts_differ_by_one_example_at_most() -> None:
    sizes = [len(part) for part in partition(LABELS, 7, 0)]
    assert max(sizes) - min(sizes) <= 1


def test_a_small_alpha_gives_each_part_few_labels() -> None:
    def spread(dirichlet: float | None) -> float:
        parts = partition(LABELS, 5, 0, dirichlet)
        return float(np.mean([np.bincount(LABELS[part], minlength=10).max() / len(part) for part in parts]))

    assert spread(0.1) > 0.35
    assert spread(None) < 0.2
    assert spread(1000.0) < 0.2


def test_one_hot_labels_are_split_as_their_classes_are() -> None:
    for plain, one_hot in zip(partition(LABELS, 4, 1, 0.5), partition(np.eye(10)[LABELS], 4, 1, 0.5), strict=True):
        assert plain.tolist() == one_hot.tolist()


def test_shares_of_classes_are_split_as_their_largest_is() -> None:
    shares = np.eye(10)[LABELS] * 0.9 + 0.01
    for plain, shared in zip(partition(LABELS, 4, 1, 0.5), partition(shares, 4, 1, 0.5), strict=True):
        assert plain.tolist() == shared.tolist()


def test_seed_count_and_alpha_each_change_the_parts() -> None:
    base = partition(LABELS, 5, 0, 0.5)[0].tolist()
    assert base == partition(LABELS, 5, 0, 0.5)[0].tolist()
    assert base != partition(LABELS, 5, 1, 0.5)[0].tolist()
    assert base != partition(LABELS, 6, 0, 0.5)[0].tolist()
    assert base != partition(LABELS, 5, 0, 0.6)[0].tolist()


@pytest.mark.parametrize(
    "labels",
    [
        LABELS[:, None],
        LABELS.astype(str),
        LABELS.astype(str).astype(object),
        LABELS.astype(float),
        np.where(LABELS == 9, np.nan, LABELS),
        np.array([float("nan") if label == 9 else int(label) for label in LABELS], dtype=object),
        np.where(LABELS == 9, np.inf, LABELS),
        LABELS / 2,
    ],
    ids=["a column", "text", "objects", "floats", "a class of NaN", "objects with NaN", "infinity", "halves"],
)
def test_labels_of_any_form_are_split_as_plain_ones_are(labels: np.ndarray) -> None:
    clients = [Client("c", ordinal=ordinal, count=4, random_seed=1, dirichlet=0.1) for ordinal in range(4)]
    assert [client.part(labels).tolist() for client in clients] == [client.part(LABELS).tolist() for client in clients]


def test_a_few_whole_numbers_may_all_be_classes() -> None:
    for labels in (np.arange(9), np.arange(9.0)):
        assert sorted(np.concatenate(partition(labels, 3, 0, 0.1)).tolist()) == list(range(9))


@pytest.mark.parametrize(
    ("labels", "words"),
    [
        (np.zeros((9, 3, 2)), r"labels of shape \(9, 3, 2\) can't be split by class: give one per example"),
        (np.array(["a", None, "b"], dtype=object), "labels of several types can't be split by class"),
        (np.linspace(0, 1, 9), "9 different numbers among 9 labels are no classes, so there is no skew"),
        (np.linspace(0, 1, 9).astype(object), "9 different numbers among 9 labels are no classes"),
        (np.array([0.5, np.inf, np.nan]), "3 different numbers among 3 labels are no classes"),
        (np.arange(100) * 7, "100 different numbers among 100 labels are no classes"),
        (np.ones((9, 0)), r"labels of shape \(9, 0\) can't be split by class: give one per example"),
        (np.linspace([0, 1], [2, 5], 9), r"labels of shape \(9, 2\) are not one-hot: give one per example"),
        (np.full((9, 2), "a"), r"labels of shape \(9, 2\) are not one-hot: give one per example"),
    ],
)
def test_labels_that_are_no_classes_are_refused_where_parts_differ_by_class_only(
    labels: np.ndarray, words: str
) -> None:
    with pytest.raises(ConfigError, match=words):
        Client("c", count=2, dirichlet=0.1).part(labels)
    assert len(Client("c", count=2).part(labels)) in (len(labels) // 2, len(labels) // 2 + 1)


def test_the_classes_that_a_refusal_of_numbers_advises_are_split() -> None:
    numbers = np.linspace(0, 1, 90)
    parts = partition(np.digitize(numbers, [0.25, 0.5, 0.75]), 3, 0, 0.1)
    assert sorted(np.concatenate(parts).tolist()) == list(range(90))


@pytest.mark.parametrize(("count", "dirichlet"), [(0, None), (2, 0.0), (2, -1.0), (2, float("nan")), (2, float("inf"))])
def test_senseless_numbers_are_refused(count: int, dirichlet: float | None) -> None:
    with pytest.raises(ConfigError):
        partition(LABELS, count, 0, dirichlet)


@pytest.mark.parametrize("dirichlet", [None, 0.3])
def test_clients_get_the_parts_of_their_ordinals_in_every_process(dirichlet: float | None) -> None:
    clients = [Client(f"c{i}", ordinal=i, count=3, random_seed=9, dirichlet=dirichlet) for i in range(3)]
    mine = [client.part(LABELS).tolist() for client in clients]
    assert sorted(index for part in mine for index in part) == list(range(1000))
    code = f"""
import numpy as np
from fedmq_client import Client
labels = np.random.default_rng(5).integers(0, 10, 1000)
print(Client("other", ordinal=1, count=3, random_seed=9, dirichlet={dirichlet}).part(labels).tolist())
"""
    output = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert output.stdout.strip() == str(mine[1])


def test_a_part_is_the_callers_own_to_change() -> None:
    client = Client("c", count=2)
    client.part(LABELS)[:] = 0
    assert client.part(LABELS).any()
