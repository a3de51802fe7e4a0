"""What a Redis server or the way to it objects to, in one line with the cure. Knows no redis-py."""

import re
from collections.abc import Mapping

COMMANDS = (
    "client|setname",
    "ping",
    "info",
    "select",
    "multi",
    "exec",
    "evalsha",
    "script|load",
    "del",
    "exists",
    "rename",
    "get",
    "set",
    "hdel",
    "hexists",
    "hget",
    "hgetall",
    "hincrby",
    "hlen",
    "hmget",
    "hset",
    "hvals",
    "xadd",
    "xrange",
    "xread",
    "zadd",
    "zcard",
    "zmscore",
    "zrange",
    "zrem",
    "zscore",
)
"""What a user of a server needs, no more: tests run as one who may do just this."""
KEYS = "~incumbent:*"


def acl(user: str = "incumbent", password: str = "PASSWORD") -> str:  # noqa: S107 - stands for one
    """Return the line that makes such a user, for `ACL SETUSER`."""
    allowed = " ".join(f"+{command}" for command in COMMANDS)
    return f"{user} on >{password} resetkeys {KEYS} resetchannels -@all {allowed}"


def refusal(text: str) -> str:
    """Return what a server's refusal means; empty if it refuses nothing for good."""
    for pattern, words in _REFUSALS.items():
        if found := re.search(pattern, text):
            return words.format(*found.groups())
    return ""


def obstacle(text: str) -> str:
    """Return what is wrong with the way to a server; empty if it may just be away for a while."""
    return next((words for sign, words in _TLS.items() if sign in text), "")


def hint(url: str, text: str) -> str:
    """Return what a server's silence may mean when nobody has spoken with it yet; or nothing."""
    if url.startswith("rediss://") and "imeout" in text:
        return " (so does a port without TLS: for that write redis://)"
    hangs_up = any(sign in text for sign in ("reset by peer", "closed by server", "EOF occurred"))
    if hangs_up and url.startswith("rediss://") and "certfile" not in url:
        return f" (so does a server that {_OUR_CERTIFICATE})"
    if hangs_up and url.startswith("redis://"):
        return " (so does a port with TLS: for that write rediss://)"
    return ""


_OUR_CERTIFICATE = (
    "asks for a certificate of ours: add ssl_certfile=/PATH and ssl_keyfile=/PATH to the URL"
)
_WHERE = "docs/configuration.md has the whole ACL line"
_REFUSALS: Mapping[str, str] = {
    "no permissions to run the '([^']+)' command": (
        f"does not let its user run {{0!r}}: give it +{{0}} ({_WHERE})"
    ),
    "can't run this command": f"does not let its user run a command of our scripts ({_WHERE})",
    "NOPERM|No permission|no permissions": (
        f"does not let its user have the keys incumbent:*: give it {KEYS} ({_WHERE})"
    ),
    "WRONGPASS|invalid username-password|invalid password": (
        "refuses the user or the password in [cluster] redis"
    ),
    "without any password configured": (
        "has no password, and there is one in [cluster] redis: leave it out"
    ),
    "NOAUTH|Authentication required": (
        "asks for a password: write redis://USER:PASSWORD@HOST in [cluster] redis"
    ),
    "DB index is out of range": "has no database of that number: say /0, or leave it out",
}
"""What servers say, the special before the general, and what it means."""
_TLS: Mapping[str, str] = {
    "WRONG_VERSION_NUMBER": "does not speak TLS on that port: write redis://, or the port of TLS",
    "RECORD_LAYER_FAILURE": "does not speak TLS on that port: write redis://, or the port of TLS",
    "Hostname mismatch": "shows a certificate for another host: write the name that it is for",
    "IP address mismatch": "shows a certificate for another host: write the name that it is for",
    "certificate has expired": "shows a certificate that has expired: renew it",
    "CERTIFICATE_VERIFY_FAILED": (
        "shows a certificate that nobody vouches for: add ?ssl_ca_certs=/PATH/OF/CA.pem to the URL"
    ),
    "CERTIFICATE_REQUIRED": _OUR_CERTIFICATE,
    "alert certificate required": _OUR_CERTIFICATE,
    "[X509": "cannot be reached: a file that its URL names for TLS holds no certificate",
}
