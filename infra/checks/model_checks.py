"""What is said of models before a run: unknown names, unknown prices, and what a call may cost."""

from cluster.config import StudyConfig
from cluster.config_file import ConfigError
from infra.checks.night import MostUsd
from proposer.config import AgentSource, ClaudeSource, names_of
from proposer.model_names import known_models
from proposer.prices import price_of


def require_prices(config: StudyConfig) -> None:
    """Raise ConfigError, with the lines to add, where a limit on calls could not be held."""
    _require_most(config)
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


def _require_most(config: StudyConfig) -> None:
    """Of an agent nobody but its user knows what a run takes at most."""
    limits = {"usd": ("2.0", config.limits.usd), "tokens": ("500_000", config.limits.tokens)}
    for name, source in zip(names_of(config.proposer), config.proposer, strict=True):
        if not isinstance(source, AgentSource):
            continue
        for key, (example, limit) in limits.items():
            if limit and getattr(source, key) is None:
                raise ConfigError(
                    f"[limits] {key} cannot be held: nobody knows what a run of {name} takes. Add "
                    f"to its [[proposer]], e.g., {key} = {example}, the most that one run can "
                    "take; 0 if it takes none"
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
        # As is reserved: a prompt may have up to twice the tokens that it is made for.
        return price.most_usd(2 * source.context_tokens, source.max_tokens) if price else None

    return most


def _models(config: StudyConfig) -> list[ClaudeSource]:
    return [source for source in config.proposer if isinstance(source, ClaudeSource)]
