"""robots.txt: what a site asks of programs that read it, asked once an hour for each site (RFC 9309)."""

from __future__ import annotations

import time
from collections import OrderedDict
from collections.abc import Awaitable, Callable
from urllib.robotparser import RobotFileParser

from actors.toolbox.web.charset import text_of
from actors.toolbox.web.web_client import Answer
from bus.failure import RetryableError, TerminalError

KEPT_S = 3_600.0
SITES_LIMIT = 500

Ask = Callable[[str], Awaitable[Answer]]


class Robots:
    """What sites have said, each kept for an hour by this process. ``agent`` is the name that we go by."""

    def __init__(self, agent: str, now_s: Callable[[], float] = time.monotonic) -> None:
        self._agent = agent
        self._now_s = now_s
        self._kept: OrderedDict[str, tuple[float, RobotFileParser]] = OrderedDict()

    async def check(self, origin: str, url: str, ask: Ask) -> None:
        """Raises: TerminalError if the site does not want ``url`` read; RetryableError if it cannot say now."""
        found = self._kept.get(origin)
        if found is None or self._now_s() - found[0] >= KEPT_S:
            found = self._now_s(), parse_robots(await ask(f"{origin}/robots.txt"))
            self._keep(origin, found)
        if not found[1].can_fetch(self._agent, url):
            raise TerminalError(
                f"{origin}/robots.txt does not allow {self._agent.partition('/')[0]} to read this page: read another",
                code="robots",
            )

    def _keep(self, origin: str, found: tuple[float, RobotFileParser]) -> None:
        self._kept[origin] = found
        self._kept.move_to_end(origin)
        if len(self._kept) > SITES_LIMIT:
            self._kept.popitem(last=False)


def parse_robots(answer: Answer) -> RobotFileParser:
    """The rules of an answer. A site without the file allows all. Raises: RetryableError if it cannot say now."""
    if answer.status >= 500 or answer.status == 429:
        raise RetryableError(f"{answer.url} answered {answer.status}: whether the site may be read is not known now",
                             code="unavailable")  # fmt: skip
    rules = RobotFileParser()
    rules.parse(text_of(answer.body).splitlines() if answer.status < 300 else [])
    return rules
