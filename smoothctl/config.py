"""Validated, documented settings: pydantic dataclasses and what is asked of them."""

import tomllib
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import MISSING, asdict, fields, is_dataclass
from typing import Any, Literal, TypeVar, get_args, get_origin, get_type_hints

from pydantic import ConfigDict, ValidationError
from pydantic.dataclasses import dataclass as pydantic_dataclass
from pydantic.fields import FieldInfo
from typing_extensions import dataclass_transform

from smoothctl.errors import UsageError, near_misses

__all__ = [
    "LARGEST_INTEGER",
    "SettingInfo",
    "as_dict",
    "build",
    "config",
    "errors_of",
    "parse_value",
    "settings_of",
]

LARGEST_INTEGER = 2**63 - 1
"""Of a setting: what TOML promises to every reader."""

C = TypeVar("C")
SettingInfo = dict[str, Any]


@dataclass_transform(kw_only_default=True, frozen_default=True)
def config(cls: type[C]) -> type[C]:
    """Makes a frozen, keyword-only, validated dataclass that takes no unknown key."""
    rules = ConfigDict(extra="forbid", validate_default=True, allow_inf_nan=False)
    return pydantic_dataclass(frozen=True, kw_only=True, config=rules)(cls)  # type: ignore[return-value]


def build(cls: type[C], values: Mapping[str, Any], where: str) -> C:
    """Returns cls(**values), each value checked and converted to its field's type.

    Args:
        cls: a class made by `config`.
        values: keys and values; strings are converted.
        where: what the settings belong to, for messages: "made".

    Raises:
        UsageError: an unknown key (with near misses) or a value of the wrong type or range.
    """
    known = {setting["name"]: setting["type"] for setting in settings_of(cls)}
    for key, value in values.items():
        if key not in known:
            raise UsageError(f"{where} has no setting '{key:.80}'{near_misses(key, known)}")
        if isinstance(value, bool) and known[key] in ("int", "float"):  # which Python takes for 1
            raise UsageError(f"{where}: the setting '{key}' is a number, not {value}.")
    with errors_of(where):
        built = cls(**values)
    for key, value in as_dict(built).items():
        if any(
            isinstance(number, int) and abs(number) > LARGEST_INTEGER for number in _each(value)
        ):
            raise UsageError(
                f"{where}: the setting '{key}' is wrong: whole numbers are at most "
                f"{LARGEST_INTEGER}."
            )
    return built


@contextmanager
def errors_of(where: str) -> Iterator[None]:
    """Turns a value that a class made by `config` refuses into a sentence.

    Args:
        where: what the settings belong to.

    Raises:
        UsageError: the first such value, what is wrong with it and of which setting it is.
    """
    try:
        yield
    except ValidationError as error:
        first = error.errors()[0]
        key = ".".join(map(str, first["loc"]))[:80]
        said = first["msg"].removeprefix("Value error, ")
        if not key:
            raise UsageError(f"{where}: {said}.") from error
        value = f", not {first['input']!r:.80}" if first["type"] != "missing" else ""
        raise UsageError(f"{where}: the setting '{key}' is wrong: {said}{value}.") from error


def as_dict(settings: Any) -> dict[str, Any]:
    """Returns the settings as plain JSON and TOML values: tuples become lists."""
    return {key: _plain(value) for key, value in asdict(settings).items()}


def settings_of(cls: type) -> list[SettingInfo]:
    """Returns name, type, default and description of each setting, in order."""
    if not is_dataclass(cls):
        return []
    hints = get_type_hints(cls)
    settings = []
    for field in fields(cls):
        info = field.default if isinstance(field.default, FieldInfo) else None
        default = info.default if info is not None else field.default
        kind = hints[field.name]
        settings.append(
            {
                "name": field.name,
                "type": _type_name(kind),
                "default": None if default is MISSING else _plain(default),
                "description": (info.description or "") if info is not None else "",
            }
        )
    return settings


def parse_value(text: str) -> Any:
    """Reads the right side of key=value as TOML (numbers, booleans, lists) or else as text."""
    if "\n" in text:
        return text
    try:
        return tomllib.loads(f"value = {text}")["value"]
    except tomllib.TOMLDecodeError:
        return text


def _type_name(kind: Any) -> str:
    if get_origin(kind) is Literal:
        return " | ".join(map(str, get_args(kind)))
    return kind.__name__ if isinstance(kind, type) else str(kind)


def _each(value: Any) -> Iterator[Any]:
    """Yields a value, or what is in it, at any depth."""
    if isinstance(value, dict):
        value = list(value.values())
    if not isinstance(value, list):
        yield value
        return
    for item in value:
        yield from _each(item)


def _plain(value: Any) -> Any:
    return [_plain(item) for item in value] if isinstance(value, list | tuple) else value
