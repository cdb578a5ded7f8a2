"""List prices of models, in dollars per million tokens, as of ``AS_OF``. Data only.

From the price pages of Anthropic and OpenAI. Standard service, prompts cached for five minutes. What a provider says no
price of a cache write for costs as much as input.
"""

from __future__ import annotations

from datetime import date

from actors.metering.price import Price

AS_OF = date(2026, 11, 6)


def _claude(usd_in: float, usd_out: float, read_share: float = 0.1) -> Price:
    return Price(input=usd_in, output=usd_out, cache_read=round(usd_in * read_share, 6), cache_write=usd_in * 1.25)


def _gpt(usd_in: float, usd_out: float, cached: float | None, *, write: float = 1.0, long: bool = False) -> Price:
    """``long``: from 272,000 tokens of input on all of a request costs more."""
    read = usd_in if cached is None else cached
    price = Price(input=usd_in, output=usd_out, cache_read=read, cache_write=usd_in * write)
    return price.with_long(272_000, input_times=2, output_times=1.5) if long else price


PRICES: dict[str, Price] = {
    "claude-fable-5-1": _claude(10, 50, 0.025),
    "claude-mythos-5-1": _claude(10, 50, 0.025),
    "claude-fable-5": _claude(10, 50),
    "claude-mythos-5": _claude(10, 50),
    "claude-opus-5-5": _claude(4, 20, 0.05),
    **dict.fromkeys(
        ("claude-opus-5", "claude-opus-4-8", "claude-opus-4-7", "claude-opus-4-6", "claude-opus-4-5"), _claude(5, 25)
    ),
    **dict.fromkeys(("claude-opus-4-1", "claude-opus-4-0", "claude-opus-4", "claude-3-opus"), _claude(15, 75)),
    "claude-sonnet-5-5": _claude(2, 10, 0.05),
    "claude-sonnet-5": _claude(2, 10),
    **dict.fromkeys(
        (
            "claude-sonnet-4-6",
            "claude-sonnet-4-5",
            "claude-sonnet-4-0",
            "claude-sonnet-4",
            "claude-3-7-sonnet",
            "claude-3-5-sonnet",
        ),
        _claude(3, 15),
    ),
    "claude-haiku-5-5": _claude(0.1, 0.5).with_long(100_000, input_times=5, output_times=5),
    "claude-haiku-4-5": _claude(1, 5),
    "claude-3-5-haiku": _claude(0.8, 4),
    "claude-3-haiku": Price(input=0.25, output=1.25, cache_read=0.03, cache_write=0.3),
    "gpt-6-sol": _gpt(2, 10, 0.2, write=1.25, long=True),
    "gpt-6-luna": _gpt(0.1, 0.5, 0.01, write=1.25, long=True),
    "gpt-5.6": _gpt(5, 30, 0.5, write=1.25, long=True),
    "gpt-5.6-sol": _gpt(5, 30, 0.5, write=1.25, long=True),
    "gpt-5.6-terra": _gpt(2, 12, 0.2, write=1.25, long=True),
    "gpt-5.6-luna": _gpt(0.2, 1.2, 0.02, write=1.25, long=True),
    "gpt-5.5": _gpt(5, 30, 0.5, long=True),
    "gpt-5.4": _gpt(2.5, 15, 0.25, long=True),
    "gpt-5.4-mini": _gpt(0.75, 4.5, 0.075),
    "gpt-5.4-nano": _gpt(0.2, 1.25, 0.02),
    "gpt-5.2": _gpt(1.75, 14, 0.175),
    "gpt-5.1": _gpt(1.25, 10, 0.125),
    "gpt-5": _gpt(1.25, 10, 0.125),
    "gpt-5-mini": _gpt(0.25, 2, 0.025),
    "gpt-5-nano": _gpt(0.05, 0.4, 0.005),
    "gpt-5-pro": _gpt(15, 120, None),
    "gpt-4.1": _gpt(2, 8, 0.5),
    "gpt-4.1-mini": _gpt(0.4, 1.6, 0.1),
    "gpt-4.1-nano": _gpt(0.1, 0.4, 0.025),
    "gpt-4o-2024-05-13": _gpt(5, 15, None),
    "gpt-4o": _gpt(2.5, 10, 1.25),
    "gpt-4o-mini": _gpt(0.15, 0.6, 0.075),
    "o1": _gpt(15, 60, 7.5),
    "o3": _gpt(2, 8, 0.5),
    "o3-pro": _gpt(20, 80, None),
    "o3-mini": _gpt(1.1, 4.4, 0.55),
    "o4-mini": _gpt(1.1, 4.4, 0.275),
}
