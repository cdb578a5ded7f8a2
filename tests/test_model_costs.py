"""What calls of models cost: by the list, by a user's own prices, and never more than was estimated."""

from __future__ import annotations

from pathlib import Path

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from actors.metering.costs import VARIABLE, Prices, cost_of, estimate, read_prices
from actors.metering.price import Price
from actors.metering.price_table import PRICES
from actors.model import Usage
from bus.errors import UsageError

MILLION = 1_000_000


@pytest.mark.parametrize(
    ("model", "listed"),
    [
        ("claude-opus-4-5-20251101", "claude-opus-4-5"),
        ("claude-opus-4-20250514", "claude-opus-4"),
        ("anthropic/claude-sonnet-4-5", "claude-sonnet-4-5"),
        ("claude-3-5-haiku-latest", "claude-3-5-haiku"),
        ("gpt-4o-2024-08-06", "gpt-4o"),
        ("gpt-4o-2024-05-13", "gpt-4o-2024-05-13"),
        ("gpt-4o-mini", "gpt-4o-mini"),
        ("gpt-5-2025-08-07", "gpt-5"),
        ("gpt-5-pro", "gpt-5-pro"),
        ("gpt-5.5-pro", None),
        ("claude-opus-4-9", None),
        ("gpt-51", None),
        ("llama3.2", None),
        ("", None),
    ],
)
def test_names(model: str, listed: str | None) -> None:
    """A release of a model has its price; one that is only similar has none."""
    assert Prices().of(model) is (PRICES[listed] if listed else None)


def test_costs() -> None:
    """Each kind of token has its price; unknown models have no cost, and one's own machines none to pay."""
    usage = Usage(MILLION, MILLION, MILLION, MILLION)
    assert cost_of("claude-sonnet-4-5", usage) == pytest.approx(3 + 15 + 0.3 + 3.75)
    assert cost_of("gpt-4.1", Usage(input_tokens=1000, cache_read_tokens=1000)) == pytest.approx(0.0025)
    assert cost_of("unheard-of", usage) is None
    assert estimate("unheard-of", 1, 1) is None
    assert cost_of("llama3.2", usage, "ollama") == 0.0
    assert estimate("claude-sonnet-4-5", MILLION, MILLION) == pytest.approx(3.75 + 15), "all of it may be cached"


def test_long_requests_cost_more() -> None:
    """Above the threshold all of the request has the higher price, cached input counts for the length."""
    price = Price(input=1, output=2, cache_read=0.5).with_long(100, input_times=2, output_times=3)
    prices = Prices({"m": price})
    assert prices.cost_of("m", Usage(input_tokens=60, output_tokens=10, cache_read_tokens=40)) == pytest.approx(1e-4)
    assert prices.cost_of("m", Usage(input_tokens=61, output_tokens=10, cache_read_tokens=40)) == pytest.approx(2.22e-4)


@given(
    st.sampled_from(sorted(PRICES)), st.builds(Usage, *[st.integers(0, 400_000)] * 4), st.integers(0, 10_000),
)  # fmt: skip
def test_no_call_costs_more_than_was_estimated(model: str, usage: Usage, rest: int) -> None:
    """For the tokens that were estimated, however they were cached, and no more output than was allowed."""
    cost = cost_of(model, usage)
    most = estimate(model, usage.tokens - usage.output_tokens, usage.output_tokens + rest)
    assert cost is not None and most is not None
    assert 0 <= cost <= most


def test_own_prices(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The longest beginning of the name counts, above the list; from TOML and JSON alike."""
    toml, json = tmp_path / "prices.toml", tmp_path / "prices.json"
    toml.write_text('["claude-"]\ninput = 1\noutput = 2\n["claude-opus"]\ninput = 7.5\noutput = 8\n')
    json.write_bytes(msgspec.json.encode(read_prices(toml)))
    assert read_prices(json) == read_prices(toml)
    monkeypatch.setenv(VARIABLE, str(toml))
    assert cost_of("claude-opus-4-5", Usage(MILLION)) == 7.5
    assert cost_of("claude-sonnet-4-5", Usage(MILLION)) == 1
    assert cost_of("gpt-4.1", Usage(MILLION)) == 2
    assert Prices({"llama": Price(input=3, output=3)}).cost_of("llama3.2", Usage(MILLION), "ollama") == 3


@pytest.mark.parametrize("text", ["", "{", '{"m": {"input": 1}}', '{"m": {"input": -1, "output": 1}}',
                                  '{"m": {"input": 1, "output": 1, "inptu": 2}}',
                                  '{"m": {"input": 1, "output": 1, "long_tokens": 5}}'])  # fmt: skip
def test_files_that_are_wrong(tmp_path: Path, text: str) -> None:
    """The error names the file and the variable; so does one for a file that is not there."""
    file = tmp_path / "prices.json"
    if text:
        file.write_text(text)
    with pytest.raises(UsageError, match=r"prices\.json") as refused:
        read_prices(file)
    assert refused.value.path == VARIABLE
