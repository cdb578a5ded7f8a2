"""What the outboxes of this machine hold, for ``callboard doctor``: a server that is there should leave them empty."""

from __future__ import annotations

import os
import time

from actors.console.amount import duration, plural, size
from actors.doctor.finding import Finding
from bus.errors import OutboxError
from bus.outbox import Outbox, outbox_dir

# A courier comes by every five seconds.
LATE_S = 30.0
_ADVICE = "see 'callboard outbox list'; 'callboard outbox flush' delivers what is for this server"


async def held_findings() -> list[Finding]:
    """One finding for each outbox that holds something, or cannot be read."""
    return [finding for path in sorted(outbox_dir(os.environ).glob("*.db")) for finding in await _look(Outbox(path))]


async def _look(outbox: Outbox) -> list[Finding]:
    try:
        counts = await outbox.counts()
    except OutboxError as error:
        return [Finding("warn", "outbox", str(error.args[0]), error.hint)]
    finally:
        await outbox.close()
    if not counts.messages:
        return []
    age_s = time.time() - counts.oldest_at
    held = f"{plural(counts.messages, 'message')}, {size(counts.size_bytes)}"
    detail = f"{outbox.path.stem} holds {held}, the oldest for {duration(age_s)}"
    return [Finding("warn", "outbox", detail, _ADVICE) if age_s > LATE_S else Finding("ok", "outbox", detail)]
