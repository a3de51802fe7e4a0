"""Asks a gRPC server something, as a stranger would who has no library for it: HTTP/2 by hand.

Knows just enough of RFC 9113 and 7541 to send one request whose headers need no compression, and
to see whether a message came back. What an error says is compressed, and is not read: who refuses
sends no message.
"""

import socket
import struct
from collections.abc import Iterator
from enum import StrEnum

_PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
_DATA, _HEADERS, _RESET, _SETTINGS, _PING, _GOAWAY = 0, 1, 3, 4, 6, 7
_END_STREAM, _END_HEADERS, _ACK = 1, 4, 1
_STREAM = 1


class Answer(StrEnum):
    """What came of asking."""

    MESSAGE = "message"  # it was done, and an answer sent
    REFUSED = "refused"  # an answer without a message: an error
    SILENT = "silent"  # nothing within the time, or the connection was closed
    UNREACHABLE = "unreachable"  # no connection


def ask(
    address: tuple[str, int],
    method: str,
    message: bytes = b"",
    *,
    token: str = "",
    timeout_s: float = 3.0,
) -> Answer:
    """Call `/package.Service/Method`, with a bearer token if there is one."""
    try:
        connection = socket.create_connection(address, timeout_s)
    except OSError:
        return Answer.UNREACHABLE
    with connection:
        connection.settimeout(timeout_s)
        try:
            connection.sendall(_request(address, method, message, token))
            return _answer(connection)
        except OSError:
            return Answer.SILENT


def _request(address: tuple[str, int], method: str, message: bytes, token: str) -> bytes:
    headers = [
        (":method", "POST"),
        (":scheme", "http"),
        (":path", method),
        (":authority", f"{address[0]}:{address[1]}"),
        ("content-type", "application/grpc"),
        ("te", "trailers"),
    ]
    if token:
        headers.append(("authorization", f"Bearer {token}"))
    body = b"\0" + struct.pack(">I", len(message)) + message
    return (
        _PREFACE
        + _frame(_SETTINGS, 0, 0, b"")
        + _frame(_HEADERS, _END_HEADERS, _STREAM, b"".join(_header(*each) for each in headers))
        + _frame(_DATA, _END_STREAM, _STREAM, body)
    )


def _frame(kind: int, flags: int, stream: int, payload: bytes) -> bytes:
    return struct.pack(">I", len(payload))[1:] + bytes([kind, flags]) + struct.pack(
        ">I", stream
    ) + payload  # fmt: skip


def _header(name: str, value: str) -> bytes:
    """Return a header field that is not to be indexed, with a name of its own."""
    return b"\0" + _text(name) + _text(value)


def _text(value: str) -> bytes:
    data = value.encode()
    if len(data) < 127:
        return bytes([len(data)]) + data
    rest, length = b"", len(data) - 127
    while length >= 128:
        rest += bytes([length % 128 + 128])
        length //= 128
    return b"\x7f" + rest + bytes([length]) + data


def _answer(connection: socket.socket) -> Answer:
    for kind, flags, stream, payload in _frames(connection):
        if kind == _SETTINGS and not flags & _ACK:
            connection.sendall(_frame(_SETTINGS, _ACK, 0, b""))
        elif kind == _PING and not flags & _ACK:
            connection.sendall(_frame(_PING, _ACK, 0, payload))
        elif kind == _GOAWAY:
            return Answer.SILENT
        elif stream == _STREAM and kind == _DATA and payload:
            return Answer.MESSAGE
        elif stream == _STREAM and (kind == _RESET or flags & _END_STREAM):
            return Answer.REFUSED
    return Answer.SILENT


def _frames(connection: socket.socket) -> Iterator[tuple[int, int, int, bytes]]:
    buffer = b""
    while True:
        while len(buffer) < 9 or len(buffer) < 9 + int.from_bytes(buffer[:3]):
            received = connection.recv(65536)
            if not received:
                return
            buffer += received
        length = int.from_bytes(buffer[:3])
        kind, flags = buffer[3], buffer[4]
        stream = int.from_bytes(buffer[5:9]) & 0x7FFFFFFF
        yield kind, flags, stream, buffer[9 : 9 + length]
        buffer = buffer[9 + length :]
