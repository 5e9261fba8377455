"""Names of tensors: positions order them, and a model fits a network by name, without positions, or as a list."""

import pytest

from fedmq.errors import ConfigError
from fedmq.model_files.naming import in_order, is_list, matched, plain, positional

OWN = ["0000/kernel", "0001/bias", "0002/kernel"]


def test_a_position_is_put_before_a_name_and_taken_off() -> None:
    assert positional(["w", "a.b/c"]) == ["0000/w", "0001/a.b/c"]
    assert [plain(name) for name in ("0000/w", "0001/a.b/c", "3", "layer1/w", "0/")] == [
        "w",
        "a.b/c",
        "3",
        "layer1/w",
        "0/",
    ]


def test_positions_order_as_numbers_and_other_names_as_text() -> None:
    assert in_order([str(number) for number in reversed(range(12))]) == [str(number) for number in range(12)]
    assert in_order(["10000/a", "9999/b"]) == ["9999/b", "10000/a"]
    assert in_order(["b", "a", "3"]) == ["3", "a", "b"]


def test_a_list_is_every_number_once() -> None:
    assert is_list(["1", "0"])
    assert not is_list(["1", "2"])
    assert not is_list(["00", "1"])


def test_a_model_fits_by_its_names_or_as_a_list() -> None:
    assert matched(sorted(OWN, reverse=True), OWN) == OWN
    assert matched(["2", "0", "1"], OWN) == ["0", "1", "2"]
    own = positional(["conv.weight", "conv.bias"])
    assert matched(["conv.bias", "conv.weight"], own) == ["conv.weight", "conv.bias"]
    assert matched(["7/conv.bias", "3/conv.weight"], own) == ["3/conv.weight", "7/conv.bias"]


@pytest.mark.parametrize("wrapper", ["module.", "_orig_mod.", "_orig_mod.module."])
def test_a_wrappers_name_before_each_name_of_one_side_does_not_matter(wrapper: str) -> None:
    bare = ["conv.weight", "conv.bias"]
    wrapped = [wrapper + name for name in bare]
    assert matched(positional(wrapped), positional(bare)) == positional(wrapped)
    assert matched(bare[::-1], positional(wrapped)) == bare
    for other in ([wrapped[0], "other.bias"], ["fc.weight", "fc.bias"]):
        with pytest.raises(ConfigError, match=r"it lacks conv\.weight, conv\.bias and it has"):
            matched(other, positional(bare))


def test_a_wrapper_is_found_where_one_name_of_the_module_ends_in_another() -> None:
    bare = ["net.head.weight", "net.head.bias", "head.weight", "head.bias"]
    wrapped = [f"module.{name}" for name in bare]
    assert matched(wrapped, positional(bare)) == wrapped
    assert matched(bare, positional(wrapped)) == bare


@pytest.mark.parametrize(
    ("received", "words"),
    [
        (OWN[:2], "it lacks 0002/kernel"),
        (["0", "1"], "it lacks 0000/kernel, 0001/bias, 0002/kernel and it has 0, 1"),
        (["kernel", "bias"], "it lacks 0000/kernel, 0001/bias, 0002/kernel and it has kernel, bias"),
        ([*OWN[:2], "0002/bias"], "it lacks 0002/kernel and it has 0002/bias"),
    ],
)
def test_a_model_that_does_not_fit_is_refused(received: list[str], words: str) -> None:
    with pytest.raises(ConfigError, match=f"not the one that model.. makes: {words}$"):
        matched(received, OWN)


def test_a_refusal_names_what_differs_without_positions() -> None:
    with pytest.raises(ConfigError, match=r"makes: it lacks head\.weight$"):  # tied, and left out by safetensors
        matched(["emb.weight"], positional(["emb.weight", "head.weight"]))
