"""The supervisor's end of the connection to its client.

Knows messages and a socket that does not block. Standard library only: the supervisor imports this
module in an isolated interpreter.
"""

import socket

from trainer.run_records import Message, MessageReader, encode


class Link:
    """The connection to the client; never blocks, lest a busy client stall a trial's limits."""

    def __init__(self, end: socket.socket) -> None:
        end.setblocking(False)
        self.end = end
        self.is_open = True
        self._reader = MessageReader()
        self._unsent = bytearray()

    @property
    def has_unsent(self) -> bool:
        """Say whether earlier messages still wait for the client to read."""
        return bool(self._unsent)

    def receive(self) -> list[Message]:
        """Return what has arrived; find out whether the client is gone."""
        try:
            data = self.end.recv(1 << 16)
        except BlockingIOError:
            return []
        except ConnectionError:
            data = b""
        self.is_open = bool(data)
        return self._reader.feed(data)

    def send(self, message: Message) -> None:
        """Send, now or when the client has read enough."""
        self._unsent += encode(message)
        self.flush()

    def flush(self) -> None:
        """Send what the socket takes."""
        try:
            del self._unsent[: self.end.send(self._unsent)]
        except BlockingIOError:
            pass
        except ConnectionError:
            self.is_open = False
