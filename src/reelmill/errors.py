"""Faults that a user can mend, and how they are told."""

from pathlib import Path

from pydantic import BaseModel, ValidationError


class UserError(ValueError):
    """Bad input. The text says what, where, what was expected and what to do.

    Stages and the command line print it without a traceback.
    """


def explain(path: Path, error: ValidationError) -> str:
    """What a file of settings has wrong, a line a fault: file, key, what is allowed and what was given."""
    lines = []
    for item in error.errors():
        key = ".".join(str(part) for part in item["loc"])
        message = item["msg"].removeprefix("Value error, ")
        if item["type"] == "extra_forbidden":
            message = "unknown setting; remove it or correct its spelling"
        message += _nearest(item["type"], item.get("ctx", {}), item["input"])
        given = "" if isinstance(item["input"], dict | BaseModel) else f" (got {item['input']!r})"
        lines.append(
            ": ".join(filter(None, (str(path), key, f"{message}{given}")))
        )  # rules between sections have no key
    return "\n".join(lines)


def _nearest(kind: str, context: dict, given: object) -> str:
    """The nearest valid value of a bound or of a set of numbers; nothing for other faults."""
    if kind in ("greater_than_equal", "less_than_equal"):
        return f"; nearest: {context['ge' if kind == 'greater_than_equal' else 'le']:g}"
    if kind == "literal_error" and isinstance(given, int):
        allowed = [int(value) for value in context["expected"].replace(" or ", ", ").split(", ") if value.isdigit()]
        return f"; nearest: {min(allowed, key=lambda value: abs(value - given))}" if allowed else ""
    return ""
