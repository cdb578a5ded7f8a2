"""The claim check: an event over ``CLAIM_BYTES`` lies in the object store whole, and the log keeps its reference.

Writers call ``claim``, readers ``unclaim``; nobody else has to know how big an event was.
"""

from __future__ import annotations

import hashlib

import msgspec

from bus.event import BlobRef
from bus.messages import Event, decode, encode
from bus.objects import Blobs

CLAIM_BYTES = 256 * 1024
# What a reference leaves out: a letter's body is text, what a fork takes with it are events, the others are JSON.
_BULK = {"input": msgspec.Raw(b"null"), "output": msgspec.Raw(b"null"), "body": "", "recorded": (), "change": None}


async def claim(blobs: Blobs, event: Event) -> bytes:
    """The body to write for ``event``: its JSON, or the reference to it if that is over the limit."""
    body, blob = split(event)
    if blob is not None:
        await blobs.put(blob)
    return body


def split(event: Event) -> tuple[bytes, bytes | None]:
    """Pure: (the body to write for ``event``, what has to be in the object store before), the latter if it is big."""
    body = encode(event)
    if len(body) <= CLAIM_BYTES:
        return body, None
    ref = BlobRef(hashlib.sha256(body).hexdigest(), len(body))
    small = {name: nothing for name, nothing in _BULK.items() if hasattr(event, name)}
    return encode(msgspec.structs.replace(event, blob=ref, **small)), body


async def unclaim(blobs: Blobs, event: Event) -> Event:
    """The whole event. Raises: BlobMissing, BusError."""
    if event.blob is None:
        return event
    return decode(await blobs.get(event.blob.sha256))
