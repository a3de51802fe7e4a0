"""What calls of models cost: a dated table, and what a study says instead.

Knows prices and tokens. Does not know what a study may spend: see proposer.purse.
"""

import tomllib
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from importlib.resources import files

from proposer.config import PriceConfig
from proposer.purse import Usage

_MILLION = 1e6
_READ, _WRITE = 0.1, 1.25
"""Prices of the cache relative to that of input, where nothing else is said."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Price:
    """Of one model, in US dollars per million tokens of each kind."""

    input: float
    output: float
    cache_read: float
    cache_write: float
    long_prompt_tokens: int = 0
    """Prompts of more tokens than this cost more; 0 is no such bound."""
    long_prompt_factor: float = 1.0
    """How many times as much, of all kinds."""

    def usd(self, usage: Usage) -> float:
        """Return what a call cost, in US dollars."""
        prompt = usage.input + usage.cache_read + usage.cache_write
        cost = (
            usage.input * self.input
            + usage.cache_read * self.cache_read
            + usage.cache_write * self.cache_write
            + usage.output * self.output
        )
        return self._factor(prompt) * cost / _MILLION

    def most_usd(self, input_tokens: int, output_tokens: int) -> float:
        """Return the most that a call can cost: all of its prompt written to the cache."""
        dearest = max(self.input, self.cache_read, self.cache_write)
        cost = input_tokens * dearest + output_tokens * self.output
        return self._factor(input_tokens) * cost / _MILLION

    def _factor(self, prompt: int) -> float:
        is_long = self.long_prompt_tokens and prompt > self.long_prompt_tokens
        return self.long_prompt_factor if is_long else 1.0


def price_of(model: str, overrides: Sequence[PriceConfig]) -> Price | None:
    """Return what a model costs, the study's own word first; None if nobody says."""
    for override in overrides:
        if override.model == model:
            return _overridden(override)
    return _table().get(model)


def _overridden(said: PriceConfig) -> Price:
    read = said.input * _READ if said.cache_read is None else said.cache_read
    write = said.input * _WRITE if said.cache_write is None else said.cache_write
    return Price(input=said.input, output=said.output, cache_read=read, cache_write=write)


def known_models() -> list[str]:
    """Return the names of the models in the table."""
    return sorted(_table())


@cache
def _table() -> dict[str, Price]:
    found: dict[str, Price] = {}
    for entry in tomllib.loads((files("proposer") / "prices.toml").read_text("utf-8"))["price"]:
        models = entry.pop("models")
        found |= dict.fromkeys(models, Price(**entry))
    return found
