"""A Claude with the real SDK at a server of ours, and what it has to pay with."""

from collections.abc import Callable, Iterator, Sequence

import pytest

from proposer import constants
from proposer.anthropic_model import AnthropicModel
from proposer.claude import Claude
from proposer.config import ClaudeSource
from proposer.prices import Price
from proposer.python_knobs import read_python
from tests.proposer.messages_server import MessagesServer, Move, experiment
from tests.proposer.study import FakePurse

KEY = "sk-marked-key-of-a-test"
PRICE = Price(input=4.0, output=20.0, cache_read=0.2, cache_write=5.0)
LOWER = experiment("LR 0.1 -> 0.05", {"search": "LR = 0.1", "replace": "LR = 0.05"})
DEEPER = experiment("deeper", {"search": "DEPTH = 4", "replace": "DEPTH = 8"})


class Table:
    """A Claude at a server that plays the moves it was given."""

    def __init__(self) -> None:
        self.servers: list[MessagesServer] = []
        self.waits: list[float] = []
        self.now = 0.0
        self.purse = FakePurse()

    def claude(self, answer: Callable | Sequence[Move], **config: object) -> Claude:
        server = MessagesServer(answer)
        self.servers.append(server)
        source = ClaudeSource(
            kind="claude", **{"base_url": server.url, "max_tokens": 2000, **config}
        )

        def sleep(seconds: float) -> None:
            self.waits.append(seconds)
            self.now += seconds

        model = AnthropicModel(source, KEY, clock=lambda: self.now, sleep=sleep)
        return Claude(
            source, name="claude", purse=self.purse, price=PRICE, api_key=KEY, model=model
        )

    @property
    def server(self) -> MessagesServer:
        return self.servers[-1]


@pytest.fixture
def table(monkeypatch: pytest.MonkeyPatch) -> Iterator[Table]:
    """A table at which constants are read in this process, and every call is settled."""
    monkeypatch.setattr(constants, "read_python_apart", read_python)
    made = Table()
    yield made
    for server in made.servers:
        server.close()
    assert not made.purse.reserved, "a call was never settled"
