"""URLs of Redis servers: what may stand in one, and what of it may be shown.

    redis://USER:PASSWORD@HOST:PORT/DB     over TCP
    rediss://...                           the same, with TLS
    unix://USER:PASSWORD@/PATH?db=DB       over a unix socket

redis-py reads them; this looks at them before, since what it says of a mistake comes late, from
another process, and may show the password.
"""

import re
from pathlib import PurePosixPath
from urllib.parse import parse_qsl, urlsplit

SCHEMES = ("redis", "rediss", "unix")
PASSWORD_FILE = "password_file"  # noqa: S105 - a name
TLS_FILES = ("ssl_ca_certs", "ssl_certfile", "ssl_keyfile")
PARAMETERS = ("db", PASSWORD_FILE, *TLS_FILES, "ssl_check_hostname")
_NO_URL = (
    "is not the URL of a server, e.g. redis://host:6379/0 "
    "(in a password write / as %2F, @ as %40, : as %3A)"
)
_FILES = (PASSWORD_FILE, *TLS_FILES)


def problem(url: str) -> str:
    """Return what is wrong with a URL, with the cure; empty if nothing is."""
    # Without what is wrong in it: that may be part of a password.
    try:
        parts = urlsplit(url)
        has_port = parts.port is None or parts.port > 0
    except ValueError:
        return _NO_URL
    is_socket = parts.scheme == "unix"
    names_host = is_socket or bool(parts.hostname)
    names_database = is_socket or bool(re.fullmatch(r"/?\d*", parts.path))
    if not (parts.scheme in SCHEMES and has_port and names_host and names_database):
        return _NO_URL
    return _problem_of_parameters(parts.scheme, dict(parse_qsl(parts.query)))


def _problem_of_parameters(scheme: str, given: dict[str, str]) -> str:
    for name, value in given.items():
        if name not in PARAMETERS:
            return f"has the parameter {name!r}: only {', '.join(PARAMETERS)} may stand there"
        if name.startswith("ssl_") and scheme != "rediss":
            return f"has {name}, but no TLS: write rediss:// for that"
        if name in _FILES and not PurePosixPath(value).is_absolute():
            return f"names the file {value!r} for {name}: give its whole path, beginning with /"
    return ""


def shown(url: str) -> str:
    """Return a URL as it may be shown: without its password."""
    hidden = re.sub(r"(://[^:@/?]*):.*@", r"\1:***@", url)
    return re.sub(r"([?&]password=)[^&]*", r"\1***", hidden)


def named_files(url: str) -> list[tuple[str, str]]:
    """Return the files that a URL names for TLS, each with what it is named for."""
    given = parse_qsl(urlsplit(url).query)
    return [(name, value) for name, value in given if name in TLS_FILES]


def taken_apart(url: str) -> tuple[str, str]:
    """Return a URL as redis-py reads it, and the file that holds the password; "" if none does."""
    found = dict(parse_qsl(urlsplit(url).query)).get(PASSWORD_FILE, "")
    if not found:
        return url, ""
    head, _, query = url.partition("?")
    left = "&".join(one for one in query.split("&") if not one.startswith(f"{PASSWORD_FILE}="))
    return f"{head}?{left}" if left else head, found
