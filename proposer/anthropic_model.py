"""One question to a language model over Anthropic's Messages API. The edge to `anthropic`.

Knows the SDK, retries and deadlines, and turns everything that can go wrong into one of two kinds:
what may be better later, and what will not. Does not know what is asked. Importing the SDK takes a
second: it is done when the first model is made, and by no command.
"""

import json
import random
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import anthropic

from proposer.config import ClaudeSource
from proposer.purse import Usage

CONNECT_S = 20.0
FIRST_WAIT_S = 2.0
MOST_WAIT_S = 60.0
MOST_RETRIES = 4
"""Of one question; what goes on for longer is the caller's circuit breaker's affair."""
_MOST_TOLD = 300


class ModelTroubled(Exception):
    """The model gave no answer of use, and may later; `usage` is what it took all the same."""

    def __init__(self, reason: str, *, usage: Usage | None, retry_after_s: float = 0.0) -> None:
        super().__init__(reason)
        self.usage = usage
        """None where nobody knows: something was sent, and no count came back."""
        self.retry_after_s = retry_after_s


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
    tool_use: str
    """Id of the tool call; empty without one."""
    text: str
    """What was said beside it."""
    usage: Usage
    stop: str
    """Why the model stopped, in the API's word."""


@dataclass(slots=True)
class AnthropicModel:
    """A model and how it is asked. One question at a time."""

    config: ClaudeSource
    api_key: str
    clock: Callable[[], float] = time.monotonic
    sleep: Callable[[float], None] = time.sleep
    _client: anthropic.Anthropic = field(init=False)

    def __post_init__(self) -> None:
        # Without a key of ours the SDK would look for one itself, in the environment.
        self._client = anthropic.Anthropic(
            api_key=self.api_key or "none",
            base_url=self.config.base_url or "https://api.anthropic.com",
            max_retries=0,
        )

    def ask(self, question: Question) -> ModelAnswer:
        """Return the answer; what fails for the moment is tried again within `timeout_s`.

        Raises:
            ModelTroubled: overload, limits, a lost connection, a refusal, or no answer in time.
            ModelRefused: a wrong key, an unknown model, or a request that will never do.
        """
        end = self.clock() + self.config.timeout_s
        for attempt in range(MOST_RETRIES + 1):
            try:
                return self._once(question, end)
            except anthropic.APIStatusError as error:
                problem = self._told(error)
                retry_after_s = _retry_after(error.response.headers)
                usage = Usage()  # a request that was turned away costs nothing
                if not _is_passing(error.status_code):
                    raise ModelRefused(problem) from None
            except (anthropic.APIError, OSError) as error:
                problem, retry_after_s, usage = _short(error), 0.0, None
            wait_s = max(retry_after_s, self._backoff_s(attempt))
            if attempt == MOST_RETRIES or self.clock() + wait_s >= end:
                raise ModelTroubled(problem, usage=usage, retry_after_s=retry_after_s)
            self.sleep(wait_s)
        raise AssertionError("unreachable")

    def _backoff_s(self, attempt: int) -> float:
        spread = random.uniform(0.5, 1.0)  # noqa: S311 - spreads retries, guards nothing
        return float(min(MOST_WAIT_S, FIRST_WAIT_S * 2**attempt) * spread)

    def _once(self, question: Question, end: float) -> ModelAnswer:
        left_s = end - self.clock()
        timeout = anthropic.Timeout(max(1.0, left_s), connect=min(CONNECT_S, max(1.0, left_s)))
        is_begun = False
        with self._client.messages.stream(**self._request(question), timeout=timeout) as stream:
            for _ in stream:
                is_begun = True
                # Each read has the timeout anew: an answer that drips in would never end.
                if self.clock() >= end:
                    usage = _usage(stream.current_message_snapshot.usage)
                    raise ModelTroubled(
                        f"no whole answer within {self.config.timeout_s:g} s", usage=usage
                    )
            message = stream.get_final_message() if is_begun else None
        if message is None or message.stop_reason is None:
            raise ConnectionError("the answer broke off in the middle")
        return _answer(message)

    def _request(self, question: Question) -> dict[str, Any]:
        config = self.config
        cached = {"type": "text", "text": question.static, "cache_control": {"type": "ephemeral"}}
        request: dict[str, Any] = {
            "model": config.model,
            "max_tokens": config.max_tokens,
            "system": [cached],
            "messages": list(question.messages),
            "tools": [dict(question.tool)],
            "tool_choice": {"type": "tool", "name": question.tool["name"]},
        }
        if config.effort:
            # A forced call and thinking exclude each other.
            request["tool_choice"] = {"type": "auto"}
            request["thinking"] = {"type": "adaptive"}
            request["output_config"] = {"effort": config.effort}
        if config.temperature is not None:
            # No parameter of the SDK any more; servers that know it read it all the same.
            request["extra_body"] = {"temperature": config.temperature}
        return request

    def _told(self, error: anthropic.APIStatusError) -> str:
        said = _short(error.api_message or error.message)
        cure = {
            401: f"; is the key in {self.config.key or 'nothing'} right?",
            403: f"; may the key in {self.config.key or 'nothing'} use {self.config.model}?",
            404: f"; does the server know the model {self.config.model}?",
        }.get(error.status_code, "")
        return f"HTTP {error.status_code}: {said}{cure}"


def _is_passing(status: int) -> bool:
    return status in {408, 409, 425, 429} or status >= 500


def _retry_after(headers: Mapping[str, str]) -> float:
    try:
        return max(0.0, float(headers.get("retry-after", "0")))
    except ValueError:
        return 0.0


def _short(problem: object) -> str:
    flat = " ".join(str(problem).split()) or type(problem).__name__
    return flat if len(flat) <= _MOST_TOLD else f"{flat[:_MOST_TOLD]}..."


def _usage(usage: anthropic.types.Usage) -> Usage:
    return Usage(
        input=usage.input_tokens or 0,
        cache_read=usage.cache_read_input_tokens or 0,
        cache_write=usage.cache_creation_input_tokens or 0,
        output=usage.output_tokens or 0,
    )


def _answer(message: Any) -> ModelAnswer:  # noqa: ANN401 - a generic of the SDK's
    usage = _usage(message.usage)
    if message.stop_reason == "refusal":
        raise ModelTroubled("the model refused to answer", usage=usage)
    if message.stop_reason in {"max_tokens", "model_context_window_exceeded"}:
        raise ModelTroubled("the answer was cut off: raise max_tokens", usage=usage)
    data: object = None
    tool_use, words = "", list[str]()
    for block in message.content:
        if block.type == "tool_use":
            data, tool_use = _input(block.input), block.id
        elif block.type == "text":
            words.append(block.text)
    return ModelAnswer(
        data=data,
        content=[_block(block) for block in message.content],
        tool_use=tool_use,
        text="\n".join(words),
        usage=usage,
        stop=message.stop_reason or "",
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
    except ValueError:
        return None
