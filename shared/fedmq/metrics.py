"""Summaries of the metrics of many clients, and which metrics grow with quality. Pure."""

from __future__ import annotations

import math
import re
import statistics
from collections.abc import Callable, Iterable, Mapping, Sequence
from fractions import Fraction
from typing import Any

Summary = dict[str, dict[str, float]]

# fmt: off
_GROWING = frozenset({
    "acc", "accuracy", "ap", "ari", "auc", "auprc", "auroc", "bleu", "concordance", "correlation", "dcg", "dice", "f1",
    "fbeta", "hit", "hits", "iou", "jaccard", "kappa", "likelihood", "map", "mcc", "miou", "mrr", "ndcg", "nmi", "npv",
    "pearson", "pearsonr", "ppv", "precision", "psnr", "r2", "recall", "reward", "rouge", "score", "sensitivity",
    "similarity", "spearman", "spearmanr", "specificity", "ssim", "success", "tnr", "tpr", "win",
})
_FALLING_WORDS = frozenset({
    "brier", "cer", "ece", "err", "false", "fid", "fnr", "fpr", "gap", "hinge", "medae", "nll", "std", "wer",
})
_NEUTRAL = frozenset({"duration", "latency", "ms", "seconds", "time"})
# fmt: on
SUMMABLE = 1e250
"""Up to here, sums of weighted values are floats: 2^53 times 1,000,000 clients. Those of larger values are fractions."""

_GROWING_ENDS = ("accuracy", "auc")
"""Ends of words, as in `rocauc`."""
_FALLING_ENDS = (
    *("loss", "losses", "error", "errors", "mse", "mae", "mape"),
    *("entropy", "perplexity", "divergence", "distance", "regret", "deviance"),
)
_GROWING_PHRASES = re.compile("io_u|true_(positive|negative)s?|explained_variance|d2_.+_score")
"""Names that grow, whatever their single words say."""


def grows(metric: str) -> bool | None:
    """Returns whether a metric grows with quality, by the words of its name; None if they do not say.

    `top5_acc` and `valAcc` grow, and `val_loss` and `accuracy_gap` do not. A time such as `score_time` does not say.
    `neg` before such a word is a minus, as in `neg_log_loss`; elsewhere it is a class, as in `f1_neg`.
    """
    name = re.sub("(?<=[a-z0-9])(?=[A-Z])", "_", metric.rpartition("/")[2]).lower()
    words = re.findall("[a-z][12]|[a-z]+", _GROWING_PHRASES.sub("score", name))
    falling = [word for word in words if word in _FALLING_WORDS or word.endswith(_FALLING_ENDS)]
    known = falling or [word for word in words if word in _GROWING or word.endswith(_GROWING_ENDS)]
    if not known or not _NEUTRAL.isdisjoint(words):
        return None
    before = words[: words.index(known[0])]
    return bool(falling) == ("neg" in before or "negative" in before)


def is_scalar(value: Any) -> bool:
    """Whether a metric can be averaged: a finite number within the range of floats, not a bool."""
    if not isinstance(value, int | float) or isinstance(value, bool):
        return False
    try:
        return math.isfinite(value)
    except OverflowError:  # an integer beyond that range
        return False


def summarize(results: Iterable[tuple[int | None, Mapping[str, Any]]]) -> Summary:
    """Returns mean, min, quartiles, max and n of each finite metric over (weight, metrics) pairs, in any order.

    All are finite, as large as the values may be. A metric whose values weigh nothing in sum has the mean of equal weights.
    The mean is weighted by the number of examples. If one weight of a metric is unknown (None), all its values have the
    same weight, and `unweighted` is 1.
    """
    values: dict[str, list[tuple[int | None, float]]] = {}
    for weight, metrics in results:
        for name, value in metrics.items():
            if is_scalar(value):
                values.setdefault(name, []).append((weight, float(value)))
    return {name: _summary(pairs) for name, pairs in sorted(values.items())}


def summarize_validations(results: Iterable[tuple[str, int | None, Mapping[str, Any]]]) -> Summary:
    """Returns the summary of validations (scope, weight, metrics). Evaluators' metrics (`test`) begin with `test/`."""
    found: Summary = {}
    results = list(results)
    for wanted, prefix in (("client", ""), ("test", "test/")):
        pairs = [(weight, metrics) for scope, weight, metrics in results if scope == wanted]
        found |= {f"{prefix}{name}": value for name, value in summarize(pairs).items()}
    return found


def _summary(pairs: list[tuple[int | None, float]]) -> dict[str, float]:
    known = [weight for weight, _ in pairs if weight is not None]
    is_weighted = len(known) == len(pairs)
    weights: list[int] = known if is_weighted and sum(known) > 0 else [1] * len(pairs)
    extra = {} if is_weighted else {"unweighted": 1.0}
    numbers: Sequence[Any] = [value for _, value in pairs]
    add: Callable[[Iterable[Any]], Any] = math.fsum
    if max(map(abs, numbers)) > SUMMABLE:
        numbers, add = [Fraction(value) for value in numbers], sum
    quartiles = statistics.quantiles(numbers, n=4, method="inclusive") if len(numbers) > 1 else [*numbers] * 3
    return {
        "mean": float(add(weight * value for weight, value in zip(weights, numbers, strict=True)) / sum(weights)),
        "min": float(min(numbers)),
        "q1": float(quartiles[0]),
        "median": float(statistics.median(numbers)),
        "q3": float(quartiles[2]),
        "max": float(max(numbers)),
        "n": float(len(numbers)),
        **extra,
    }
