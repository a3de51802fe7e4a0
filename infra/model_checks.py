"""What is said of models before a run: unknown names, unknown prices, and what a call may cost."""

from cluster.config import StudyConfig
from cluster.config_file import ConfigError
from infra.night import MostUsd
from proposer.config import ClaudeSource
from proposer.model_names import known_models
from proposer.prices import price_of


def require_prices(config: StudyConfig) -> None:
    """Raise ConfigError, with the lines to add, where a limit in dollars could not be held."""
    if not config.limits.usd:
        return
    for source in _models(config):
        if price_of(source.model, config.price) is None:
            hint = "; a server of your own costs 0" if source.base_url else ""
            raise ConfigError(
                f"[limits] usd cannot be held: nobody knows what {source.model} costs. Add to "
                f"incumbent.toml, in dollars per million tokens{hint}:\n[[price]]\nmodel = "
                f'"{source.model}"\ninput = 3\noutput = 15'
            )


def unknown_models(config: StudyConfig) -> str:
    """Name the models that neither the SDK nor a price knows; empty if there are none."""
    known = known_models()
    found = [
        source.model
        for source in _models(config)
        if not source.base_url
        and known
        and source.model not in known
        and price_of(source.model, config.price) is None
    ]
    names = ", ".join(dict.fromkeys(found))
    return f"is there a model {names}? The installed SDK does not know it" if found else ""


def most_usd_of(config: StudyConfig) -> MostUsd:
    """Return what tells the most that a call of a `[[proposer]]` can cost."""

    def most(source: ClaudeSource) -> float | None:
        price = price_of(source.model, config.price)
        return price.most_usd(source.context_tokens, source.max_tokens) if price else None

    return most


def _models(config: StudyConfig) -> list[ClaudeSource]:
    return [source for source in config.proposer if isinstance(source, ClaudeSource)]
