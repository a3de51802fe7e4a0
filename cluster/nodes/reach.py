"""Whether anybody listens at an address, in which language, or could; and what an address is."""

import socket

ANSWER_S = 5.0
GREETING_S = 10.0
"""How long who listens may take to greet back: a head may be busy."""
_SETTINGS = b"\x04"
_GREETING = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + b"\0\0\0" + _SETTINGS + b"\0\0\0\0\0"
"""How a client begins in HTTP/2 (RFC 9113, 3.4): a server begins with a frame of settings, too."""
_HEADER_BYTES = 9
"""Of a frame: three for its length, its type, its flags, four for the stream, 0."""


def answers(address: str) -> bool:
    """Say whether anybody listens at HOST:PORT; Ray itself would try for a minute and more."""
    try:
        host, port = split(address)
        socket.create_connection((host, port), timeout=ANSWER_S).close()
    except (OSError, ValueError):
        return False
    return True


def speaks(address: str) -> bool:
    """Say whether who listens at HOST:PORT speaks HTTP/2, as Ray's store does.

    Ray itself would try for 40 seconds to be understood by anybody else.
    """
    try:
        with socket.create_connection(split(address), timeout=ANSWER_S) as connection:
            connection.settimeout(GREETING_S)
            connection.sendall(_GREETING)
            with connection.makefile("rb") as answer:
                header = answer.read(_HEADER_BYTES)
    except (OSError, ValueError):
        return False
    return header[3:4] == _SETTINGS and header[5:] == bytes(4)


def split(address: str) -> tuple[str, int]:
    """Return host and port of HOST:PORT; raises ValueError."""
    host, colon, port = address.rpartition(":")
    if not (colon and host and port.isdigit() and 0 < int(port) < 1 << 16):
        raise ValueError(f"{address!r} is not HOST:PORT")
    return host.strip("[]"), int(port)


def ipv4_of(host: str) -> str:
    """Return the address by which Ray is told of a host; ValueError says why there is none."""
    if ":" in host:
        raise ValueError(f"{host} is an IPv6 address, and machines join by IPv4 alone")
    try:
        found = socket.getaddrinfo(host, None, type=socket.SOCK_STREAM)
    except OSError as error:
        raise ValueError(f"there is no host {host} ({error.strerror})") from error
    addresses = [str(where[0]) for family, *_, where in found if family == socket.AF_INET]
    if not addresses:
        raise ValueError(f"{host} has addresses of IPv6 alone, and machines join by IPv4")
    return addresses[0]


def obstacle_to_listening(address: str, port: int) -> int:
    """Return the `errno` with which one cannot listen there, 0 if one can; "" is all addresses."""
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((address, port))
        except OSError as error:
            return error.errno or -1
    return 0


def is_of_this_machine(address: str) -> bool:
    """Say whether HOST:PORT is one of this machine's own; raises ValueError as `split` does."""
    host, port = split(address)
    try:
        return address_towards(host, port) == host
    except OSError:
        return False


def address_towards(host: str, port: int = 9) -> str:
    """Return the address with which this machine speaks to another; OSError without a route."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        probe.connect((host, port))  # sends nothing
        return str(probe.getsockname()[0])
