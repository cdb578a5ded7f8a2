"""Servers for the tests, and the rule that nothing is skipped in CI without being listed here.

server          one nats-server for the whole run (one per worker); tests keep apart by their own workspace
nats_server     a fresh nats-server with an empty store, for tests that kill, restart, fill or purge it
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator, Generator, Iterator
from typing import Any

import pytest
from hypothesis import HealthCheck, settings

from bus.embedded import EmbeddedServer
from bus.errors import UsageError
from tests import command_line

pytest_plugins = ("pytester",)

# An example may take long where much else runs: how long it takes is no property of what is tested.
settings.register_profile("callboard", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("callboard")

# Reasons for which a test may be skipped in CI. Everything else that is skipped there fails.
ALLOWED_SKIPS = (
    "the stock nats CLI is not on PATH",
    "there is no Chrome or Chromium on this machine",  # which draws a PNG of a chart; HTML and JSON need none
    "network namespaces cannot be made here",  # the right to make them, and iproute2, are the machine's to give
    "this machine offers no sandbox by",  # likewise
)


async def _start() -> EmbeddedServer:
    try:
        return await EmbeddedServer.start()
    except UsageError as error:
        pytest.skip(str(error))  # fails in CI, since it is not in the list


@pytest.fixture(scope="session")
def server() -> Iterator[EmbeddedServer]:
    """The server that tests share; it belongs to no event loop. Never kill, restart or fill this one."""
    shared = asyncio.run(_start())
    yield shared
    asyncio.run(shared.stop())


@pytest.fixture
async def nats_server() -> AsyncIterator[EmbeddedServer]:
    """A server of the test's own, on a free port with an empty store."""
    async with await _start() as fresh:
        yield fresh


def pytest_unconfigure() -> None:
    """End what ran the commands of this process's tests."""
    command_line.close()


# ---- many at once


def pytest_xdist_auto_num_workers(config: pytest.Config) -> int:
    """For ``-n auto``: two for each core, since most tests wait. Each has its own servers, directories and nodes."""
    return min(16, 2 * (os.cpu_count() or 1))


# ---- nothing is skipped silently in CI


def _refuse_skip(report: Any) -> None:
    if not report.skipped or hasattr(report, "wasxfail") or not os.environ.get("CI"):
        return
    reason = report.longrepr[2] if isinstance(report.longrepr, tuple) else str(report.longrepr)
    if not any(allowed in reason for allowed in ALLOWED_SKIPS):
        report.outcome = "failed"
        report.longrepr = f"skipped in CI, which tests/conftest.py does not allow: {reason}"


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport() -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Turn a test that was skipped without leave into a failure."""
    report = yield
    _refuse_skip(report)
    return report


@pytest.hookimpl(wrapper=True)
def pytest_make_collect_report() -> Generator[None, pytest.CollectReport, pytest.CollectReport]:
    """The same for a module that skips itself while it is collected."""
    report = yield
    _refuse_skip(report)
    return report
