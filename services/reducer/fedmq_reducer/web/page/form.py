"""The start form: makes inputs of the policy's fields, and a policy of submitted inputs. Pure."""

from __future__ import annotations

import tomllib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Literal, get_args, get_origin

from pydantic import ValidationError
from pydantic.fields import FieldInfo

from fedmq.aggregation import RULES, SERVER_OPTIMIZERS
from fedmq.errors import ConfigError
from fedmq_reducer.performers.aggregation_performer import check_strategy
from fedmq_schemas.policy import Policy, Section

FieldKind = Literal["text", "number", "choice", "names", "table"]

COMMON = ("name", "seed", "rounds", "clients_required", "timeout", "clients.fraction", "strategy.name", "train")
_LABELS = {
    "strategy.name": "strategy",
    "clients.fraction": "fraction of clients",
    "train": "the trainer's configuration",
}
_EXAMPLES = {
    "train": "epochs = 1",
    "schedule": "learning_rate = { 1 = 0.1, 20 = 0.01 }",
    "strategy.parameters": "server_learning_rate = 0.1",
    "clients.where": 'site = "north"',
}
_TOP = "more of rounds and clients"


@dataclass(frozen=True, slots=True)
class Field:
    """One input. `name` is dotted as in `--set`; `default` is the text in the input; `group` is the field's section."""

    name: str
    kind: FieldKind
    description: str
    default: str
    group: str
    options: tuple[str, ...] = ()

    @property
    def label(self) -> str:
        """The text beside the input."""
        return _LABELS.get(self.name) or self.name.rpartition(".")[2].replace("_", " ")

    @property
    def example(self) -> str:
        """A text that shows what to write into the input, or an empty text."""
        return _EXAMPLES.get(self.name, "")


@dataclass(frozen=True, slots=True)
class Group:
    """The fields of a section of the policy, and the section's description."""

    title: str
    description: str
    fields: list[Field]


@dataclass(frozen=True, slots=True)
class Checked:
    """The result of checking a form: a policy, or the faults by field (`""`: of no field)."""

    policy: Policy | None
    faults: Mapping[str, str]


def fields() -> list[Field]:
    """Returns all fields, the common ones first."""
    every = list(_fields(Policy, ""))
    by_name = {field.name: field for field in every}
    return [by_name[name] for name in COMMON] + [field for field in every if field.name not in COMMON]


def groups() -> list[Group]:
    """Returns the fields that are not common, by section."""
    found: dict[str, Group] = {}
    for field in fields():
        if field.name not in COMMON:
            section = Policy.model_fields[field.group].annotation if field.group else None
            group = Group(field.group or _TOP, " ".join((section.__doc__ or "").split()) if section else "", [])
            found.setdefault(field.group, group).fields.append(field)
    return list(found.values())


def _fields(section: type[Section], prefix: str) -> Iterator[Field]:
    for name, info in section.model_fields.items():
        kind = info.annotation
        if isinstance(kind, type) and issubclass(kind, Section):
            yield from _fields(kind, f"{name}.")
        else:
            yield _field(f"{prefix}{name}", info, prefix.rstrip("."))


def _field(name: str, info: FieldInfo, group: str) -> Field:
    kind, options = _kind(name, info.annotation)
    default = info.get_default(call_default_factory=True)
    return Field(name, kind, info.description or "", shown(default), group, options)


def _kind(name: str, annotation: Any) -> tuple[FieldKind, tuple[str, ...]]:
    if name == "strategy.name":
        return "choice", tuple(SERVER_OPTIMIZERS)
    if name == "strategy.rule":
        return "choice", tuple(RULES)
    if get_origin(annotation) is Literal:
        return "choice", tuple(get_args(annotation))
    kinds = {get_origin(kind) or kind for kind in _members(annotation)}
    if kinds & {int, float} and Literal not in kinds:
        return "number", ()
    if dict in kinds:
        return "table", ()
    return ("names", ()) if tuple in kinds else ("text", ())


def _members(annotation: Any) -> Iterator[Any]:
    """Yields the types of a union, without None, and of an annotated type."""
    inner = get_args(annotation)
    origin = get_origin(annotation)
    if origin in (dict, tuple, Literal) or not inner:
        if annotation is not type(None):
            yield annotation
    elif hasattr(annotation, "__metadata__"):
        yield from _members(inner[0])
    else:
        for kind in inner:
            yield from _members(kind)


def shown(value: Any) -> str:
    """Returns a default as the text in its input, which is empty for tables."""
    match value:
        case None | Mapping():
            return ""
        case list() | tuple():
            return ", ".join(map(str, value))
        case float() if value.is_integer():
            return str(int(value))
    return str(value)


def check(form: Mapping[str, str]) -> Checked:
    """Returns the policy of a submitted form. An empty input stands for the default."""
    values: dict[str, Any] = {}
    faults: dict[str, str] = {}
    for field in fields():
        text = form.get(field.name, "").strip()
        if text and text != field.default:
            try:
                _put(values, field.name, _read(field, text))
            except ValueError as error:
                faults[field.name] = str(error)
    try:
        policy = Policy.model_validate(values)
        check_strategy(policy.strategy)
    except ValidationError as error:
        return Checked(None, {**dict(_placed(error)), **faults})
    except ConfigError as error:
        return Checked(None, {"strategy.parameters": error.reason.removeprefix("strategy: "), **faults})
    return Checked(None if faults else policy, faults)


def _put(values: dict[str, Any], name: str, value: Any) -> None:
    section, _, key = name.rpartition(".")
    (values.setdefault(section, {}) if section else values)[key] = value


def _read(field: Field, text: str) -> Any:
    """Returns the value of an input. Raises ValueError if the field is a table and the text is not TOML."""
    match field.kind:
        case "names":
            return tuple(part.strip() for part in text.split(",") if part.strip())
        case "table":
            try:
                return tomllib.loads(text)
            except tomllib.TOMLDecodeError as error:
                raise ValueError(f"write lines such as epochs = 2, and text in quotes ({error})") from error
    is_count = text.isdecimal() and field.group == "retention"
    return _number(text) if field.kind == "number" or is_count else text


def _number(text: str) -> int | float | str:
    """Returns the text as a number, or as it is: the policy then refuses it with a message of its own."""
    for kind in (int, float):
        try:
            return kind(text)
        except ValueError:
            continue
    return text


def _placed(error: ValidationError) -> Iterator[tuple[str, str]]:
    """Yields the field and the message of each fault. The field is that of the fault's place, or the first one it names."""
    names = {field.name for field in fields()}
    for fault in error.errors(include_url=False, include_context=False, include_input=False):
        words = fault["msg"].removeprefix("Value error, ").replace("Input should", "must")
        path = [str(step) for step in fault["loc"]]
        places = [".".join(path[:length]) for length in range(len(path), 0, -1)] + words.split()[:1]
        yield next((place for place in places if place in names), ""), words
