"""What ``callboard usage`` does."""

from __future__ import annotations

from datetime import UTC, datetime

from actors.budgets.accounts import Accounts
from actors.budgets.usage import read_use
from actors.budgets.usage_page import account_page, account_rows, usage_page
from actors.command_bodies.session import Session
from bus.subjects import check_job_id


async def of_job(session: Session, job: str) -> int:
    """Print what a job and all that it started have used."""
    screen = session.screen()
    async with await session.client() as client:
        use = await read_use(client.bus, client.blobs, session.workspace, check_job_id(job))
    if session.json:
        screen.show_json(use)
    else:
        screen.show(usage_page(use))
    return 0


async def accounts(session: Session) -> int:
    """Print every budget of the workspace: what is spent, set aside, and left."""
    screen = session.screen()
    async with await session.client() as client:
        found = await Accounts(client.bus).all(session.workspace)
    now = datetime.now(UTC)
    rows = account_rows(found, now)
    if session.json:
        screen.show_json(rows)
    else:
        screen.show(account_page(rows, now))
    return 0
