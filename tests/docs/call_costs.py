"""What calls of models cost, worked out for the page on proposers from the table of prices."""

import math
import textwrap
import tomllib
from importlib.resources import files

from cluster.config import StudyConfig
from cluster.state.state import StudyState
from infra.checks.model_checks import most_usd_of
from infra.checks.night import expected
from infra.facts.plain_text import dollars
from proposer.config import ClaudeSource
from proposer.prices import Price, price_of
from proposer.purse import Usage

MODELS = ("claude-fable-5-1", "claude-opus-5-5", "claude-sonnet-5-5", "claude-haiku-5-5")
USUAL, USUAL_NAME = "claude-opus-5-5", "Opus 5.5"
STATIC, DYNAMIC, ANSWER, IDEAS = 20_000, 10_000, 6000, 4
HOURS, BUDGET_S = 8, 300


def call_costs() -> str:
    """Return a table of what a call of usual length costs, and what a night comes to."""
    as_of = tomllib.loads((files("proposer") / "prices.toml").read_text("utf-8"))["as_of"]
    head = (
        f"Worked out for {STATIC:,} static and {DYNAMIC:,} dynamic tokens and an answer of "
        f"{ANSWER:,}, thinking included, which holds {IDEAS} proposals (list prices of {as_of}; "
        "five-minute cache):"
    )
    return "\n\n".join([_wrapped(head), _table(), _wrapped(_night())])


def _table() -> str:
    lines = ["| model | P / R / W / A | first call | later calls | an idea |", f"|{' --- |' * 5}"]
    for model in MODELS:
        price = _price(model)
        kinds = (price.input, price.cache_read, price.cache_write, price.output)
        first, later = _first(price), _later(price)
        costs = " | ".join(map(dollars, (first, later, later / IDEAS)))
        lines.append(f"| `{model}` | {' / '.join(map(_listed, kinds))} | {costs} |")
    return "\n".join(lines)


def _night() -> str:
    config = StudyConfig.model_validate(
        {
            "study": {"name": "s"},
            "metric": {"name": "loss", "goal": "minimize"},
            "trial": {"command": "python train.py", "budget_s": float(BUDGET_S)},
            "limits": {"hours": float(HOURS)},
        }
    )
    night = expected(config, StudyState(), slots=1)
    assert night is not None
    calls, price = math.ceil(night.ideas / IDEAS), _price(USUAL)
    most = most_usd_of(config)(ClaudeSource(kind="claude", model=USUAL))
    return (
        f"So {HOURS} hours on one GPU with trials of {BUDGET_S} s are about {night.trials:.0f} "
        f"trials, of which about {night.ideas:.0f} are new ideas: {calls} calls, or "
        f"{calls * _later(price):.2f} to {calls * _first(price):.2f} dollars of {USUAL_NAME}. "
        "Before a call is made, the most that it can cost is reserved: with the default "
        f"`context_tokens` and `max_tokens` up to {most:.2f} dollars of {USUAL_NAME}, as a prompt "
        "is taken to have up to twice the tokens that it is made for. `run` says before it starts "
        "what a night will be and what it can cost at most; smaller bounds make that less:"
    )


def _price(model: str) -> Price:
    found = price_of(model, ())
    assert found is not None, f"the table has no price of {model}"
    return found


def _first(price: Price) -> float:
    return price.usd(Usage(cache_write=STATIC, input=DYNAMIC, output=ANSWER))


def _later(price: Price) -> float:
    return price.usd(Usage(cache_read=STATIC, input=DYNAMIC, output=ANSWER))


def _listed(usd: float) -> str:
    """Return a price as lists have it: whole dollars, cents, or all of its digits."""
    short = f"{usd:g}"
    return f"${usd:.2f}" if "." in short and len(short.partition(".")[2]) < 2 else f"${short}"


def _wrapped(text: str) -> str:
    return textwrap.fill(text, 120, break_on_hyphens=False)
