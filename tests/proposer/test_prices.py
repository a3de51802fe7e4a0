"""What calls cost, by the table that is shipped and by what a study says instead."""

import pytest

from proposer.config import PriceConfig
from proposer.model_names import known_models
from proposer.prices import known_models as priced_models
from proposer.prices import price_of
from proposer.purse import Usage


def test_the_four_kinds_of_tokens_have_a_price_each() -> None:
    price = price_of("claude-opus-5-5", ())
    assert price is not None
    usage = Usage(input=1_000_000, cache_read=2_000_000, cache_write=3_000_000, output=4_000_000)
    assert price.usd(usage) == pytest.approx(4 + 2 * 0.2 + 3 * 5 + 4 * 20)


def test_a_long_prompt_costs_more_for_all_of_its_tokens_the_cached_ones_counted() -> None:
    price = price_of("claude-haiku-5-5", ())
    assert price is not None
    short = Usage(input=50_000, cache_read=50_000, output=1000)
    long = Usage(input=50_000, cache_read=50_001, output=1000)
    assert price.usd(short) == pytest.approx((50_000 * 0.1 + 50_000 * 0.01 + 1000 * 0.5) / 1e6)
    assert price.usd(long) == pytest.approx((50_000 * 0.5 + 50_001 * 0.05 + 1000 * 2.5) / 1e6)


@pytest.mark.parametrize("model", priced_models())
def test_the_most_that_a_call_can_cost_is_the_most_however_its_prompt_is_cached(model: str) -> None:
    price = price_of(model, ())
    assert price is not None
    most = price.most_usd(120_000, 500)
    for kind in ("input", "cache_read", "cache_write"):
        assert price.usd(Usage(**{kind: 120_000}, output=500)) <= most + 1e-12


def test_every_model_of_the_table_is_one_that_the_sdk_knows() -> None:
    assert set(priced_models()) <= known_models()


def test_a_study_s_own_word_goes_before_the_table() -> None:
    own = PriceConfig(model="claude-opus-5-5", input=1.0, output=2.0)
    price = price_of("claude-opus-5-5", [own])
    assert price is not None
    assert (price.input, price.cache_read, price.cache_write) == (1.0, 0.1, 1.25)
    assert price_of("somebody's model", [own]) is None
