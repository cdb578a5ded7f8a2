"""The claim check: an event over ``CLAIM_BYTES`` lies in the object store whole, and the log keeps its reference.

Writers call ``claim``, readers ``unclaim``; nobody else has to know how big an event was.
"""

from __future__ import annotations

import msgspec

from bus.event import BlobRef
from bus.messages import Event, decode, encode
from bus.objects import Blobs

CLAIM_BYTES = 256 * 1024
_BULK = ("input", "output")


async def claim(blobs: Blobs, event: Event) -> bytes:
    """The body to write for ``event``: its JSON, or the reference to it if that is over the limit."""
    body = encode(event)
    if len(body) <= CLAIM_BYTES:
        return body
    ref = BlobRef(await blobs.put(body), len(body))
    small = {name: msgspec.Raw(b"null") for name in _BULK if hasattr(event, name)}
    return encode(msgspec.structs.replace(event, blob=ref, **small))


async def unclaim(blobs: Blobs, event: Event) -> Event:
    """The whole event. Raises: BlobMissing, BusError."""
    if event.blob is None:
        return event
    return decode(await blobs.get(event.blob.sha256))
