"""How a value is spelled: writes a new value in the style of an old literal, and reads typed text.

Knows the number, boolean and string literals of Python and of shell assignments. Knows nothing of
files or names. Exists so that a changed constant looks as if its author had changed it.
"""

import math
import re
from decimal import Decimal
from enum import StrEnum

from proposer.proposal import Scalar


class Syntax(StrEnum):
    """The language that a literal is written in."""

    PYTHON = "python"
    SHELL = "shell"


_POWER = re.compile(r"(2\s*\*\*\s*|1\s*<<\s*)(\d+)")
_BASED = re.compile(r"[-+]?\s*0([xXoObB])")
_SCIENTIFIC = re.compile(
    r"[-+]?\s*[\d_]*(?P<point>\.?)[\d_]*(?P<e>[eE])(?P<plus>\+?)-?(?P<exp>\d+)"
)
_SHELL_WORD = re.compile(r"[\w.+:/,@%=-]+")
_SHELL_QUOTED = re.compile(r"[^\"'$`\\\r\n\0!]+")
_SHELL_BOOLEANS = (("true", "false"), ("yes", "no"), ("on", "off"))
_MOST_POWER = 62
"""Typed powers of two stay within 64-bit integers."""


def write(value: Scalar, like: str, syntax: Syntax = Syntax.PYTHON) -> str:
    """Return `value` as a literal in the style of `like`; reading it gives `value` exactly.

    Kept are scientific notation, digit grouping, powers of two, base prefixes, quotes and the words
    of a shell boolean. A float is never written so that it reads as an integer.

    Raises:
        ValueError: a string that cannot stand in a shell assignment without escapes.
    """
    if syntax is Syntax.SHELL:
        return _write_shell(value, like)
    if isinstance(value, bool):
        return str(value)
    if isinstance(value, int):
        return _write_int(value, like)
    if isinstance(value, float):
        return _write_float(value, like)
    return _write_text(value, like)


def read(text: str, like: Scalar) -> Scalar:
    """Return what a person typed as a value of the type of `like`.

    Raises:
        ValueError: the text is no value of that type.
    """
    text = text if isinstance(like, str) else text.strip()
    if isinstance(like, bool):
        boolean = shell_boolean(text)
        if boolean is None:
            raise ValueError(f"{text!r} is neither true nor false")
        return boolean
    if isinstance(like, int):
        return _read_int(text)
    if isinstance(like, float):
        return _read_float(text)
    return text


def shell_boolean(word: str) -> bool | None:
    """Return what true/false, yes/no and on/off mean, in any case; None for other words."""
    for yes, no in _SHELL_BOOLEANS:
        if word.lower() in {yes, no}:
            return word.lower() == yes
    return None


def _read_int(text: str) -> int:
    power = _POWER.fullmatch(text)
    try:
        if not power:
            return int(text, 0)
    except ValueError:
        raise ValueError(f"{text!r} is not a whole number") from None
    if int(power[2]) > _MOST_POWER:
        raise ValueError(f"{text} is too large")
    return 1 << int(power[2])


def _read_float(text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        raise ValueError(f"{text!r} is not a number") from None
    if not math.isfinite(value):
        raise ValueError(f"{text} is not finite")
    return value


def _write_int(value: int, like: str) -> str:
    power = _POWER.fullmatch(like)
    if power and value > 0 and value.bit_count() == 1:
        return f"{power[1]}{value.bit_length() - 1}"
    group = "_" if "_" in like else ""
    based = _BASED.match(like)
    return format(value, f"#{group}{based[1].lower()}" if based else group)


def _write_float(value: float, like: str) -> str:
    style = _SCIENTIFIC.fullmatch(like)
    if style and value:
        return _scientific(value, style)
    if value and not 1e-9 <= abs(value) < 1e16:
        return repr(value)
    whole, _, fraction = format(Decimal(repr(value)), "f").partition(".")
    if "_" in like:
        sign, digits = ("-", whole[1:]) if whole.startswith("-") else ("", whole)
        whole = f"{sign}{int(digits):_}"
    return f"{whole}.{fraction or '0'}"


def _scientific(value: float, style: re.Match[str]) -> str:
    # repr gives the fewest digits that read back as the same float.
    number = Decimal(repr(value)).normalize()
    digits = "".join(map(str, number.as_tuple().digits))
    exponent = number.adjusted()
    mantissa = digits[0]
    if digits[1:] or style["point"]:
        mantissa = f"{mantissa}.{digits[1:] or '0'}"
    sign = "-" if exponent < 0 else style["plus"]
    width = len(style["exp"]) if style["exp"].startswith("0") else 1
    return f"{'-' if value < 0 else ''}{mantissa}{style['e']}{sign}{abs(exponent):0{width}d}"


def _write_text(value: str, like: str) -> str:
    quote = like[-1:]
    is_plain = value.isprintable() and "\\" not in value and quote not in value
    return f"{quote}{value}{quote}" if is_plain and quote in {'"', "'"} else repr(value)


def _write_shell(value: Scalar, like: str) -> str:
    quote = like[0] if like[:1] in {'"', "'"} else ""
    inner = like.strip(quote) if quote else like
    if isinstance(value, bool):
        return f"{quote}{_shell_boolean(value, inner)}{quote}"
    if isinstance(value, int):
        return f"{quote}{value}{quote}"
    if isinstance(value, float):
        return f"{quote}{_write_float(value, inner)}{quote}"
    if not (_SHELL_QUOTED if quote else _SHELL_WORD).fullmatch(value):
        raise ValueError(f"{value!r} cannot stand in a shell assignment as it is")
    return f"{quote}{value}{quote}"


def _shell_boolean(value: bool, like: str) -> str:
    pair = next(pair for pair in _SHELL_BOOLEANS if like.lower() in pair)
    word = pair[0] if value else pair[1]
    if like.isupper():
        return word.upper()
    return word.capitalize() if like[:1].isupper() else word
