"""Documents that are shipped with an app are published before its node starts: jobs find their version in the bucket
when the app has moved to a newer one.
"""

from __future__ import annotations

from actors.command_bodies.describe import Description
from actors.workflow_versions.definitions import Definitions
from actors.workflow_versions.publishing import Published
from bus.connection import Bus


async def ship(bus: Bus, described: Description) -> list[Published]:
    """Publish the app's documents. Raises: UsageError (``version_taken``, ``breaking_change``, ...), BusError."""
    if not described.documents:
        return []
    definitions = Definitions(bus)
    await definitions.start()
    by = f"app {described.app} {described.version}"
    try:
        return [await definitions.publish(each, by=by, app=described.app) for each in described.documents]
    finally:
        await definitions.stop()
