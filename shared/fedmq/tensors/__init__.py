"""Named tensors: their bytes, their roles, and the difference between two models."""

from fedmq.tensors.model import (
    MAX_COUNTER_DELTA,
    Spec,
    TensorRole,
    TensorSpec,
    apply,
    check,
    check_roles_stated,
    delta,
    spec_of,
)
from fedmq.tensors.tensorblob import Array, Layout, Meta, Shaped, Source, Weights, decode, encode

__all__ = [
    "MAX_COUNTER_DELTA",
    "Array",
    "Layout",
    "Meta",
    "Shaped",
    "Source",
    "Spec",
    "TensorRole",
    "TensorSpec",
    "Weights",
    "apply",
    "check",
    "check_roles_stated",
    "decode",
    "delta",
    "encode",
    "spec_of",
]
