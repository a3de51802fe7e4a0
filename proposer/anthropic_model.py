"""One question to a language model over Anthropic's Messages API. The edge to `anthropic`.

Knows the SDK, retries and deadlines, and turns everything that can go wrong into one of two kinds:
what may be better later, and what will not. Does not know what is asked. Importing the SDK takes a
second: it is done when the first model is made, and by no command.
"""

import json
import math
import random
import re
import socket
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field, replace
from typing import Any

import anthropic

from proposer.config import ClaudeSource
from proposer.plain import plain_line
from proposer.purse import Usage

CONNECT_S = 20.0
FIRST_WAIT_S = 2.0
MOST_WAIT_S = 60.0
MOST_RETRIES = 4
"""Of one question; what goes on for longer is the caller's circuit breaker's affair."""
_MOST_TOLD = 300
_MOST_RETRY_AFTER_S = 86_400.0
"""Of what a server says about when to come back; beyond a day it is taken for a slip."""
_LEAST_KEY = 8
"""A shorter one is none, and may stand in any text."""
_BAD_REQUEST = 400
_CAN_DO_WITHOUT = ("tool_choice", "thinking", "strict")
"""What a question loses little by; the prompt asks for the tool, and its input is checked here."""


class ModelTroubled(Exception):
    """The model gave no answer of use, and may later; `usage` is what it took all the same."""

    def __init__(self, reason: str, *, usage: Usage | None, retry_after_s: float = 0.0) -> None:
        super().__init__(reason)
        self.usage = usage
        """None where nobody knows: something was sent, and no count came back."""
        self.retry_after_s = retry_after_s


class AnswerLost(ModelTroubled):
    """Something was sent and no whole answer came back; it may be charged for all the same.

    Whoever asks again makes another call, and has to pay for both.
    """


class ModelRefused(Exception):
    """The model will not answer until somebody changes something: the message says what."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Question:
    """What is asked."""

    static: str
    """The first part of the prompt, which is the same from call to call: it is cached."""
    messages: Sequence[Mapping[str, Any]]
    """The conversation so far, the last word a user's."""
    tool: Mapping[str, Any]
    """The tool that is to be called."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelAnswer:
    """What came back."""

    data: object
    """Input of the tool call; None if the tool was not called."""
    content: Sequence[Mapping[str, Any]]
    """The answer as it goes back into the conversation."""
    tool_uses: Sequence[str]
    """Ids of the tool calls, the first of which is taken; each has to be answered."""
    usage: Usage


@dataclass(slots=True)
class AnthropicModel:
    """A model and how it is asked. One question at a time."""

    config: ClaudeSource
    api_key: str
    clock: Callable[[], float] = time.monotonic
    sleep: Callable[[float], None] = time.sleep
    _client: anthropic.Anthropic = field(init=False)
    _without: set[str] = field(init=False, default_factory=set)
    """Of `_CAN_DO_WITHOUT`, what the model or the server turned out not to take."""

    def __post_init__(self) -> None:
        # Without a key of ours the SDK would look for one itself, in the environment.
        self._client = anthropic.Anthropic(
            api_key=self.api_key or "none",
            base_url=self.config.base_url or "https://api.anthropic.com",
            max_retries=0,
            # Questions are minutes apart. On a connection that the server has meanwhile closed, one
            # would seem to be lost that was never read.
            default_headers={"Connection": "close"},
        )

    def deadline(self) -> float:
        """Return when an answer to a question that is asked now has to be there, by `clock`."""
        return self.clock() + self.config.timeout_s

    def ask(self, question: Question, end: float) -> ModelAnswer:
        """Return the answer; what fails for the moment and costs nothing is tried again till `end`.

        Raises:
            AnswerLost: it broke off, or did not come in time.
            ModelTroubled: overload, limits, no connection, a refusal, or an answer cut short.
            ModelRefused: a wrong key, an unknown model, or a request that will never do.
        """
        attempt = 0
        while True:
            retry_after_s = 0.0
            try:
                return self._once(question, end)
            except anthropic.APIStatusError as error:
                if self._has_given_way(error):
                    continue
                problem = self._told(error)
                retry_after_s = _retry_after(error.response.headers)
                if not _is_passing(error.status_code):
                    raise ModelRefused(problem) from None
            except anthropic.APIConnectionError as error:
                problem = self._short(error.__cause__ or error)
                if not _is_unsent(error):
                    raise AnswerLost(problem, usage=None) from None
            if not self.has_waited(attempt, end, at_least_s=retry_after_s):
                # Requests that were turned away cost nothing.
                raise ModelTroubled(problem, usage=Usage(), retry_after_s=retry_after_s)
            attempt += 1

    def has_waited(self, attempt: int, end: float, *, at_least_s: float = 0.0) -> bool:
        """Wait before another attempt; false, at once, if there is no time or use for one."""
        spread = random.uniform(0.5, 1.0)  # noqa: S311 - spreads retries, guards nothing
        wait_s = max(at_least_s, min(MOST_WAIT_S, FIRST_WAIT_S * 2**attempt) * spread)
        if attempt >= MOST_RETRIES or self.clock() + wait_s >= end:
            return False
        self.sleep(wait_s)
        return True

    def _has_given_way(self, error: anthropic.APIStatusError) -> bool:
        """Leave out what the model will not take and can be done without; false if it is not that.

        No list of models could stay true: newer ones take no forced call, older ones no adaptive
        thinking, other servers no strict tools.
        """
        if error.status_code != _BAD_REQUEST:
            return False
        said = error.api_message or error.message
        for word in _CAN_DO_WITHOUT:
            if word not in self._sent_words() or not re.search(rf"\b{word}\b", said):
                continue
            self._without.add(word)
            return True
        return False

    def _sent_words(self) -> set[str]:
        # A forced call and thinking exclude each other: who asks for effort asks for thinking.
        words = {"strict", "thinking" if self.config.effort else "tool_choice"}
        return words - self._without

    def _once(self, question: Question, end: float) -> ModelAnswer:
        left_s = max(1.0, end - self.clock())
        timeout = anthropic.Timeout(left_s, connect=min(CONNECT_S, left_s))
        with self._client.messages.stream(**self._request(question), timeout=timeout) as stream:
            return self._read(stream, end)

    def _read(self, stream: anthropic.MessageStream[Any], end: float) -> ModelAnswer:
        is_begun, problem = False, "the answer broke off in the middle"
        # Each read has the timeout anew: without the watch an answer that drips in would never end.
        with _cut_after(stream, end - self.clock()) as is_cut:
            try:
                for _ in stream:
                    is_begun = True
                    if self.clock() >= end:
                        is_cut.set()
                        break
            except anthropic.APIStatusError as error:
                if not is_begun:
                    raise
                problem = self._told(error)
            except Exception as error:  # noqa: BLE001 - what its transport and parsers raise has no base
                problem = self._short(error)
            else:
                if is_begun and stream.current_message_snapshot.stop_reason is not None:
                    return _answer(stream.get_final_message())
        if is_cut.is_set():
            problem = f"no whole answer within {self.config.timeout_s:g} s"
        raise AnswerLost(problem, usage=self._most_used(stream) if is_begun else None)

    def _most_used(self, stream: anthropic.MessageStream[Any]) -> Usage | None:
        """Return the most that a broken answer took: its prompt is known, its end is not."""
        begun = replace(_usage(stream.current_message_snapshot.usage), output=0)
        return replace(begun, output=self.config.max_tokens) if begun.total else None

    def _request(self, question: Question) -> dict[str, Any]:
        config, sent = self.config, self._sent_words()
        cached = {"type": "text", "text": question.static, "cache_control": {"type": "ephemeral"}}
        forced = {"type": "tool", "name": question.tool["name"]}
        tool = dict(question.tool)
        if "strict" not in sent:
            tool.pop("strict", None)
        request: dict[str, Any] = {
            "model": config.model,
            "max_tokens": config.max_tokens,
            "system": [cached],
            "messages": list(question.messages),
            "tools": [tool],
            "tool_choice": {
                **(forced if "tool_choice" in sent else {"type": "auto"}),
                "disable_parallel_tool_use": True,
            },
        }
        if "thinking" in sent:
            request["thinking"] = {"type": "adaptive"}
        if config.effort:
            request["output_config"] = {"effort": config.effort}
        if config.temperature is not None:
            # No parameter of the SDK any more; servers that know it read it all the same.
            request["extra_body"] = {"temperature": config.temperature}
        return request

    def _told(self, error: anthropic.APIStatusError) -> str:
        said = self._short(error.api_message or error.message)
        cure = {
            401: f"; is the key in {self.config.key or 'nothing'} right?",
            403: f"; may the key in {self.config.key or 'nothing'} use {self.config.model}?",
            404: f"; does the server know the model {self.config.model}?",
        }.get(error.status_code, "")
        if error.status_code == _BAD_REQUEST and "temperature" in said:
            cure = "; take temperature out of this [[proposer]]"
        # An error in the middle of an answer comes with the status of the answer's beginning.
        status = f"HTTP {error.status_code}: " if error.status_code >= _BAD_REQUEST else ""
        return f"{status}{said}{cure}"

    def _short(self, problem: object) -> str:
        """Return a problem as a short line for the ledger; servers quote the key that they got."""
        said = str(problem)
        if len(self.api_key) >= _LEAST_KEY:
            said = said.replace(self.api_key, "[...]")
        return plain_line(said, _MOST_TOLD) or type(problem).__name__


@contextmanager
def _cut_after(stream: anthropic.MessageStream[Any], left_s: float) -> Iterator[threading.Event]:
    """Cut the connection of an answer when its time is over, and say so by the event."""
    is_cut = threading.Event()
    network = stream.response.extensions.get("network_stream")

    def cut() -> None:
        is_cut.set()
        connection = network.get_extra_info("socket") if network is not None else None
        if isinstance(connection, socket.socket):
            # Unlike closing it, this wakes who reads. Of TLS the plain socket's, for the same.
            with suppress(OSError):
                socket.socket.shutdown(connection, socket.SHUT_RDWR)

    timer = threading.Timer(max(0.0, left_s), cut)
    timer.daemon = True
    timer.start()
    try:
        yield is_cut
    finally:
        timer.cancel()


def _is_passing(status: int) -> bool:
    return status in {408, 409, 425, 429} or status >= 500 or status < _BAD_REQUEST


def _is_unsent(error: anthropic.APIConnectionError) -> bool:
    """Whether no connection came about. By name: the SDK has changed its HTTP library before."""
    return type(error.__cause__).__name__ in {"ConnectError", "ConnectTimeout"}


def _retry_after(headers: Mapping[str, str]) -> float:
    try:
        wait_s = float(headers.get("retry-after", "0"))
    except ValueError:
        return 0.0
    return min(max(0.0, wait_s), _MOST_RETRY_AFTER_S) if math.isfinite(wait_s) else 0.0


def _usage(usage: anthropic.types.Usage | None) -> Usage:
    """Return the counts of a server, which may be anybody's: what it leaves out is none."""

    def count(name: str) -> int:
        found = getattr(usage, name, None)
        return max(0, found) if isinstance(found, int) else 0

    return Usage(
        input=count("input_tokens"),
        cache_read=count("cache_read_input_tokens"),
        cache_write=count("cache_creation_input_tokens"),
        output=count("output_tokens"),
    )


def _answer(message: Any) -> ModelAnswer:  # noqa: ANN401 - a generic of the SDK's
    usage = _usage(message.usage)
    if message.stop_reason == "refusal":
        raise ModelTroubled("the model refused to answer", usage=usage)
    if message.stop_reason in {"max_tokens", "model_context_window_exceeded"}:
        raise ModelTroubled("the answer was cut off: raise max_tokens", usage=usage)
    calls = [block for block in message.content if block.type == "tool_use"]
    return ModelAnswer(
        data=_input(calls[0].input) if calls else None,
        content=[_block(block) for block in message.content],
        tool_uses=[call.id for call in calls],
        usage=usage,
    )


def _block(block: Any) -> Mapping[str, Any]:  # noqa: ANN401 - one of many of the SDK's
    """Return a block as it goes back; a tool's input has to be an object there, whatever it was."""
    plain: dict[str, Any] = block.model_dump(mode="json", exclude_none=True, warnings=False)
    if plain["type"] == "tool_use" and not isinstance(plain["input"], dict):
        plain["input"] = {}
    return plain


def _input(data: object) -> object:
    """Return the input of a tool call; some servers send it as a text."""
    if not isinstance(data, str):
        return data
    try:
        return json.loads(data)
    except (ValueError, RecursionError):
        return None
