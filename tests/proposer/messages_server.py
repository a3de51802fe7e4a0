"""A loopback server that speaks the Messages API: streamed answers, usage, every kind of trouble.

What it answers is scripted, by a list of moves, or by a function that reads the request and edits
the source that it was shown. `python -m tests.proposer.messages_server PORT_FILE` runs one by
itself for a whole study: see tests.proposer.scripted_model.
"""

import json
import re
import socket
import struct
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

Request = Mapping[str, Any]
Usage = Mapping[str, int]
USAGE: Usage = {
    "input_tokens": 100,
    "cache_read_input_tokens": 0,
    "cache_creation_input_tokens": 0,
    "output_tokens": 50,
}


@dataclass(frozen=True, kw_only=True)
class Move:
    """What is answered to one request."""

    experiments: Sequence[Mapping[str, Any]] | None = None
    """Input of the tool call, as far as experiments go; None calls no tool."""
    notes: str = ""
    hints: Sequence[str] = ()
    raw: Any = None
    """The whole input of the tool call instead."""
    text: str = ""
    status: int = 200
    headers: Mapping[str, str] = field(default_factory=dict)
    message: str = "scripted"
    """Of an error."""
    usage: Usage = field(default_factory=lambda: dict(USAGE))
    stop: str = ""
    """The reason to stop; empty says what goes with the content."""
    cut_after: int = -1
    """Events after which the answer ends too soon; -1 never."""
    cut: Callable[[BaseHTTPRequestHandler], None] = field(default_factory=lambda: end)
    """How it does."""
    thinking: str = ""
    """Signature of a block of thinking that comes first."""
    call_twice: bool = False
    """Call the tool a second time in the same answer."""
    broken_json: bool = False
    """Send an input of the tool call that is no JSON."""
    pause_s: float = 0.0
    """Between two events."""

    def blocks(self) -> Iterator[dict[str, Any]]:
        if self.thinking:
            yield {"type": "thinking", "signature": self.thinking}
        if self.text:
            yield {"type": "text", "text": self.text}
        data = self.raw
        if data is None and self.experiments is not None:
            data = {
                "experiments": list(self.experiments),
                "notes": self.notes,
                "hints": list(self.hints),
            }
        if data is not None:
            text = "{oops" if self.broken_json else json.dumps(data)
            for number in range(1, 3 if self.call_twice else 2):
                yield {"type": "tool_use", "id": f"toolu_{number}", "json": text}


def experiment(hypothesis: str, *edits: Mapping[str, Any], **more: Any) -> dict[str, Any]:
    return {
        "hypothesis": hypothesis,
        "category": more.get("category", "test"),
        "expected_effect": more.get("expected_effect"),
        "edits": [edit(**each) for each in edits],
    }


def edit(path: str = "train.py", **form: Any) -> dict[str, Any]:
    return {"path": path, "search": "", "replace": "", "diff": "", "content": None, **form}


def end(handler: BaseHTTPRequestHandler) -> None:
    """End the connection in good order."""
    handler.connection.shutdown(socket.SHUT_RDWR)


def reset(handler: BaseHTTPRequestHandler) -> None:
    """Reset the connection."""
    handler.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    handler.rfile.close()
    handler.wfile.close()
    handler.connection.close()


def overloaded(handler: BaseHTTPRequestHandler) -> None:
    """Say in the middle of an answer that there will be no more of it."""
    error = {"type": "overloaded_error", "message": "Overloaded"}
    _send(handler, {"type": "error", "error": error})


def drip(handler: BaseHTTPRequestHandler) -> None:
    """Send bytes that make no event, for as long as somebody listens, but 20 s at most."""
    for _ in range(400):
        handler.wfile.write(b": wait\n")
        handler.wfile.flush()
        time.sleep(0.05)


def refuses(word: str, then: Move) -> Callable[[Request], Move]:
    """Answer as a model does that will not take one part of a request."""

    def answer(request: Request) -> Move:
        forced = request["tool_choice"]["type"] == "tool"
        taken = {
            "tool_choice": not forced,
            "thinking": "thinking" not in request,
            "strict": "strict" not in request["tools"][0],
            "temperature": "temperature" not in request,
        }
        return then if taken[word] else Move(status=400, message=f"{word}: not supported")

    return answer


def shown(request: Request, path: str = "train.py") -> str:
    """Return the source that a request shows of a file: the last one, which is the incumbent's."""
    system = "".join(block["text"] for block in request["system"])
    block = rf"(?ms)^## {re.escape(path)}\n(`{{3,}})[a-z]*\n(.*?)\n\1$"
    found = re.findall(block, system)
    assert found, f"the prompt shows no {path}"
    return found[-1][1] + "\n"


def question(request: Request) -> str:
    """Return the first message of the conversation: history, standing and what is asked."""
    first = request["messages"][0]["content"]
    return first if isinstance(first, str) else "".join(block["text"] for block in first)


class MessagesServer:
    """Serves until `close`; every request is kept, with its headers."""

    def __init__(self, answer: Callable[[Request], Move] | Sequence[Move]) -> None:
        moves = iter(()) if callable(answer) else iter(answer)
        self._answer = answer if callable(answer) else lambda _: next(moves)
        self.requests: list[Request] = []
        self.headers: list[Mapping[str, str]] = []
        self._lock = threading.Lock()
        server = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                server.handle(self)

            def log_message(self, *args: Any) -> None: ...

        self._http = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._http.daemon_threads = True
        self._thread = threading.Thread(target=self._http.serve_forever, daemon=True)
        self._thread.start()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self._http.server_address[1]}"

    def close(self) -> None:
        self._http.shutdown()
        self._http.server_close()
        self._thread.join()

    def handle(self, handler: BaseHTTPRequestHandler) -> None:
        body = handler.rfile.read(int(handler.headers["content-length"]))
        request = json.loads(body)
        with self._lock:
            self.requests.append(request)
            self.headers.append({name.lower(): value for name, value in handler.headers.items()})
            move = self._answer(request)
        with suppress(OSError, ValueError):  # the client gave up, as it may; or it was cut off
            _respond(handler, move, request)


def _respond(handler: BaseHTTPRequestHandler, move: Move, request: Request) -> None:
    handler.protocol_version = "HTTP/1.1"
    handler.close_connection = True
    handler.send_response(move.status)
    for name, value in move.headers.items():
        handler.send_header(name, value)
    if move.status != 200:
        error = {"type": "error", "error": {"type": "api_error", "message": move.message}}
        payload = json.dumps(error).encode()
        handler.send_header("content-type", "application/json")
        handler.send_header("content-length", str(len(payload)))
        handler.send_header("connection", "close")
        handler.end_headers()
        handler.wfile.write(payload)
        return
    handler.send_header("content-type", "text/event-stream")
    handler.send_header("connection", "close")
    handler.end_headers()
    for number, event in enumerate(_events(move, request)):
        if number == move.cut_after:
            move.cut(handler)
            return
        if move.pause_s and number:
            time.sleep(move.pause_s)
        _send(handler, event)


def _send(handler: BaseHTTPRequestHandler, event: Mapping[str, Any]) -> None:
    handler.wfile.write(f"event: {event['type']}\ndata: {json.dumps(event)}\n\n".encode())
    handler.wfile.flush()


def _events(move: Move, request: Request) -> Iterator[dict[str, Any]]:
    begun = {**move.usage, "output_tokens": 1}
    message = {
        "id": "msg_1", "type": "message", "role": "assistant", "model": request["model"],
        "content": [], "stop_reason": None, "stop_sequence": None, "usage": begun,
    }  # fmt: skip
    yield {"type": "message_start", "message": message}
    blocks = list(move.blocks())
    for index, block in enumerate(blocks):
        yield from _block(index, block)
    stop = move.stop or ("tool_use" if any(b["type"] == "tool_use" for b in blocks) else "end_turn")
    delta = {"stop_reason": stop, "stop_sequence": None}
    yield {"type": "message_delta", "delta": delta, "usage": dict(move.usage)}
    yield {"type": "message_stop"}


def _block(index: int, block: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
    if block["type"] == "text":
        start = {"type": "text", "text": ""}
        deltas = [{"type": "text_delta", "text": block["text"]}]
    elif block["type"] == "thinking":
        start = {"type": "thinking", "thinking": "", "signature": ""}
        deltas = [{"type": "signature_delta", "signature": block["signature"]}]
    else:
        start = {"type": "tool_use", "id": block["id"], "name": "submit_experiments", "input": {}}
        text = block["json"]
        parts = [text[at : at + 200] for at in range(0, len(text), 200)]
        deltas = [{"type": "input_json_delta", "partial_json": part} for part in parts]
    yield {"type": "content_block_start", "index": index, "content_block": start}
    for delta in deltas:
        yield {"type": "content_block_delta", "index": index, "delta": delta}
    yield {"type": "content_block_stop", "index": index}


if __name__ == "__main__":
    from tests.proposer.scripted_model import main

    main()
