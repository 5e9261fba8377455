"""Checks what a trainer returns. Each error names the fault, and what to return instead."""

import re
from collections.abc import Collection, Mapping
from numbers import Integral
from typing import Any, Protocol

import msgpack
import numpy as np

from fedmq.errors import InvalidUpdate
from fedmq.tensors import Weights
from fedmq.tensors.tensorblob import supported
from fedmq_schemas.limits import DEEPEST, LARGEST, LONGEST_KEY, METRICS_BYTES, MOST_METRICS, safe


class Note(Protocol):
    """Receives a sentence about what is left out. `plain`: the sentence without values, if it quotes some."""

    def __call__(self, text: str, plain: str | None = None) -> None:
        """Receives one sentence."""


GIVE_A_FILE = "give a model file with --seed FILE (`fedmq check`: --model FILE), or `seed: FILE` in fedn.yaml"
"""The remedy where a package makes no first model."""
OPAQUE = (
    "a model that can't be averaged, such as a forest, is a uint8 array of its bytes, padded to one length for all rounds, "
    "with the role opaque, for a policy with clients_requested = 1"
)
"""The remedy where a model is no named numbers."""
MOST_EXAMPLES = 2**53 - 1
"""The largest number up to which float64 counts exactly."""
_CONSONANT = re.compile("uint|unet|uni(?!n)|use|eu|one", re.IGNORECASE)
"""Words that begin with a vowel, but not with its sound."""


class InvalidResult(Exception):
    """A trainer returned a value that can't be used. The text names it, and what to return instead.

    `plain`: the text without values, which may leave the site; empty if there is none.
    """

    def __init__(self, text: str, plain: str = "") -> None:
        super().__init__(text)
        self.plain = plain


def without_values(text: str) -> InvalidResult:
    """Returns an InvalidResult whose text quotes no value of the user's: only types, shapes, and names of the model."""
    return InvalidResult(text, text)


def weights(found: Any, model: Weights, opaque: Collection[str] = ()) -> Weights:
    """Returns `found` as arrays in the model's dtypes. A wider float is rounded. `opaque`: names of tensors that are bytes.

    Raises InvalidResult, which lists the first three wrong names, shapes or dtypes. NaN and infinity pass: the combiner
    rejects them, so that the reason is recorded.
    """
    if not isinstance(found, Mapping):
        raise without_values(
            f"train returned {kind(found)} as weights: return a dict of arrays with the names that it received"
        )
    if found.keys() != model.keys():
        missing = [name for name in model if name not in found]
        unknown = [name for name in found if name not in model]
        lacks = [f"lack {_some(missing)}"] if missing else []
        has = [f"have {_some(unknown)}, which the model has not"] if unknown else []
        plain = [f"have {len(unknown)} names which the model has not"] if unknown else []
        text = "the weights that train returned"
        raise InvalidResult(f"{text} {' and '.join(lacks + has)}", f"{text} {' and '.join(lacks + plain)}")
    new, wrong = {}, []
    for name, old in model.items():
        value = np.asarray(found[name])
        if value.shape == old.shape and value.dtype == old.dtype:
            pass
        elif value.shape != old.shape:
            pad = ": pad its bytes to one length for all rounds" if name in opaque else ""
            wrong.append(f"{name} has shape {value.shape} and not {old.shape}{pad}")
        elif not np.can_cast(value.dtype, old.dtype, casting="same_kind"):
            wrong.append(f"{name} is {value.dtype} and not {old.dtype}")
        else:
            with np.errstate(over="ignore"):
                value = value.astype(old.dtype)
        new[name] = value
    if wrong:
        raise without_values(f"the weights that train returned do not fit the model: {_some(wrong)}")
    return new


def state(found: Any, note: Note) -> Weights:
    """Returns `task.state` as arrays. Leaves out what can't be kept, with a note."""
    if not isinstance(found, Mapping):
        note(f"task.state is {kind(found)} and is not kept: use a dict of numpy arrays")
        return {}
    arrays: Weights = {}
    for name, value in found.items():
        try:
            if not isinstance(name, str) or name == "__metadata__":
                raise TypeError("the name must be a text")
            array = np.asarray(value)
            supported(name, array.dtype)
            arrays[name] = array
        except InvalidUpdate:
            what = kind(value)
            if isinstance(value, np.ndarray):
                what = f"an array of {'objects' if value.dtype == object else value.dtype}"
            problem = f"is {what} and is not kept: use a numpy array of numbers, such as float32"
            note(f"task.state[{name!r:.50}] {problem}", f"an entry of task.state {problem}")
        except Exception as error:  # of the user's own class
            plain = f"an entry of task.state is not kept: {type(error).__name__}"
            note(f"task.state[{name!r:.50}] is not kept: {error}", plain)
    return arrays


def examples(step: str, found: Any) -> int:
    """Returns the number of examples. Raises InvalidResult unless it is an int from 0 to MOST_EXAMPLES."""
    whole = isinstance(found, Integral) and not isinstance(found, bool)
    if not whole or not 0 <= int(found) <= MOST_EXAMPLES:
        remedy = "as examples: return an int of 0 or more"
        raise InvalidResult(f"{step} returned {found!r:.50} {remedy}", f"{step} returned {kind(found)} {remedy}")
    return int(found)


def metrics(step: str, found: Any, note: Note) -> dict[str, Any]:
    """Returns metrics in the types that a message can hold, METRICS_BYTES in all. Raises InvalidResult for no map.

    Leaves out others, with a note: those of other types, those after the first MOST_METRICS, and the largest ones until
    the rest fits. A number that is not finite, or beyond LARGEST, becomes None, with a note: no mean contains it.
    """
    if not isinstance(found, Mapping):
        raise without_values(f"{step} returned {kind(found)} as metrics: return a dict of numbers")
    kept: dict[str, Any] = {}
    for name, value in found.items():
        text = safe(str(name))
        if len(kept) == MOST_METRICS:
            note(f"{len(found) - MOST_METRICS} metrics or more are not kept: at most {MOST_METRICS} can be sent")
            break
        if isinstance(value, np.ndarray) and value.size > METRICS_BYTES:  # makes no list of a large array
            note(_too_large(text, f"{value.size:,} values"))
            continue
        try:
            kept[_key(text)] = _plain(value)
        except Exception as error:  # also of the user's own class
            plain = error.plain if isinstance(error, InvalidResult) else type(error).__name__
            note(f"metric {text[:60]!r} is not kept: {error}", f"metric {text[:60]!r} is not kept: {plain}")
    if len(msgpack.packb(kept)) > METRICS_BYTES:
        sizes = {name: len(msgpack.packb([name, value])) for name, value in kept.items()}
        total = sum(sizes.values())
        for name in sorted(sizes, key=lambda name: -sizes[name]):
            if total <= METRICS_BYTES:
                break
            total -= sizes[name]
            note(_too_large(name, _amount(kept.pop(name))))
    if step != "report":  # of reports no means are computed
        for name, value in kept.items():
            if isinstance(value, float) and not _is_finite(value):
                note(f"metric {name[:60]!r} of {step} is {value} and is in no mean")
    return {name: _finite(value) for name, value in kept.items()}


def kind(value: Any) -> str:
    """Returns the name of a value's kind for an error message, with its article."""
    if value is None:
        return "None"
    name = f"tuple of {len(value)}" if isinstance(value, tuple) else type(value).__name__
    vowel = name == "ndarray" or (name[0] in "aeiouAEIOU" and not _CONSONANT.match(name))
    return f"{'an' if vowel else 'a'} {name}"


def _plain(value: Any, depth: int = 0) -> Any:
    if isinstance(value, (np.generic, np.ndarray)):
        value = value.tolist()
    if isinstance(value, int) and not -(2**63) <= value < 2**63:
        raise without_values("64 bits can't hold it")
    if isinstance(value, str):
        return safe(value)
    if value is None or isinstance(value, (bool, int, float)):
        return value
    if isinstance(value, (Mapping, list, tuple)) and depth == DEEPEST:
        raise without_values(f"it is nested more than {DEEPEST} deep")
    if isinstance(value, Mapping):
        return {_key(safe(str(name))): _plain(item, depth + 1) for name, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(item, depth + 1) for item in value]
    if hasattr(value, "__float__"):
        return float(value)
    raise without_values(f"it is {kind(value)}; send numbers, strings or lists")


def _key(name: str) -> str:
    if not 0 < len(name) <= LONGEST_KEY:
        raise without_values(f"a name has {len(name)} characters; use 1 to {LONGEST_KEY}")
    return name


def _is_finite(value: float) -> bool:
    return -LARGEST <= value <= LARGEST


def _finite(value: Any) -> Any:
    """Returns a value with None for each number that is not finite or is beyond LARGEST."""
    if isinstance(value, float):
        return value if _is_finite(value) else None
    if isinstance(value, dict):
        return {name: _finite(item) for name, item in value.items()}
    return [_finite(item) for item in value] if isinstance(value, list) else value


def _too_large(name: str, amount: str) -> str:
    limit = f"all metrics together may take {METRICS_BYTES:,} bytes"
    return f"metric {name[:60]!r} ({amount}) is not kept: send numbers ({limit})"


def _amount(value: Any) -> str:
    return f"{len(value):,} characters" if isinstance(value, str) else f"{_count(value):,} values"


def _count(value: Any) -> int:
    if isinstance(value, (dict, list)):
        return sum(_count(item) for item in (value.values() if isinstance(value, dict) else value))
    return 1


def _some(names: list[Any]) -> str:
    more = f" and {len(names) - 3} more" if len(names) > 3 else ""
    return ", ".join(str(name) for name in names[:3]) + more
