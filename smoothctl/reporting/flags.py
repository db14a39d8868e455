"""Arguments as a person types them: messages of the library name arguments, people give flags."""

import re

__all__ = ["with_flags"]

_NAMES = (
    "architecture|batch_size|compile|config|data|dataset|device|download|draws|feature_sha256|"
    "feature_weights|features|frames|init_from|kernel|label|learning_rate|limit|mask|method|n|"
    "number|on_nan|out|overwrite|precision|preset|quadrature|reference|samples|seed|sigma|"
    "skip_corrupt|split|standardise|steps|weights"
)
_ARGUMENT = re.compile(rf"`(?:(training|options|data)\.(\w+)|({_NAMES}))(?:=([^`]*))?`")
_TABLES = {"training": "--set training.", "options": "--set ", "data": "--data "}
_SPELT = {"architecture": "--arch", "n": "--number", "standardise": "--set standardise"}
_VALUES = {"True": "true", "False": "false"}


def with_flags(message: str) -> str:
    """Puts flags in the place of the arguments that a library's message names in backquotes.

    `out` becomes --out, `on_nan=skip` --on-nan skip, `training.accumulate=2` --set
    training.accumulate=2, and `data.size=32` --data size=32. Other backquotes stay.
    """
    return _ARGUMENT.sub(_flag, message)


def _flag(argument: re.Match[str]) -> str:
    table, key, name, value = argument.groups()
    flag = f"--{name}".replace("_", "-") if name else _TABLES[table] + key
    flag = _SPELT.get(name, flag)
    if value is None:
        return flag
    return f"{flag}{'=' if ' ' in flag else ' '}{_VALUES.get(value, value)}"
