"""The object store of the bus: blobs named by their sha256 (ADR-20), so a retry writes the same object again."""

from __future__ import annotations

import hashlib
import os

import nats.errors
import nats.js.errors
from nats.errors import Error as NatsError
from nats.js.api import ObjectMeta, ObjectMetaOptions, ObjectStoreConfig
from nats.js.object_store import ObjectStore

from bus.acks import FULL_CODES
from bus.connection import Bus
from bus.errors import Ambiguous, BusError, StreamFull
from bus.streams import chosen_limits

BUCKET = "artifacts"
# nats-py polls flow control every 250 ms, so larger chunks read nearly twice as fast (NATS-FACTS item 10).
CHUNK_BYTES = 512 * 1024


class BlobMissing(BusError):
    """The log names a blob that the object store does not hold."""

    def __init__(self, sha256: str) -> None:
        super().__init__(f"blob {sha256} is not in the object store {BUCKET!r}")
        self.sha256 = sha256


class Blobs:
    """Puts and gets blobs; opens (or makes) the bucket on first use, on as many servers as the streams are."""

    def __init__(self, bus: Bus) -> None:
        self._bus = bus
        self._store: ObjectStore | None = None

    async def _open(self) -> ObjectStore:
        if self._store is None:
            js = self._bus.client.jetstream(prefix=self._bus.js_api)
            try:
                self._store = await js.object_store(BUCKET)
            except nats.js.errors.BucketNotFoundError:
                about = "Callboard: bodies over 256 KB, artifacts"
                config = ObjectStoreConfig(replicas=chosen_limits(os.environ).replicas, description=about)
                self._store = await js.create_object_store(BUCKET, config=config)
        return self._store

    async def put(self, data: bytes) -> str:
        """Store ``data`` and return its sha256 in hex.

        Raises: StreamFull or Ambiguous (both pass: put it again), BusError.
        """
        digest = hashlib.sha256(data).hexdigest()
        try:
            store = await self._open()
            if not await _holds(store, digest):
                options = ObjectMetaOptions(max_chunk_size=CHUNK_BYTES)
                await store.put(digest, data, meta=ObjectMeta(name=digest, options=options))
        except NatsError as error:
            raise _put_error(f"storing a blob of {len(data):,} bytes", error) from error
        return digest

    async def get(self, sha256: str) -> bytes:
        """The blob with that digest; the digest is checked. Raises: BlobMissing, BusError."""
        try:
            result = await (await self._open()).get(sha256)
        except nats.js.errors.NotFoundError as error:
            raise BlobMissing(sha256) from error
        except NatsError as error:
            raise BusError(f"reading blob {sha256} failed: {error}") from error
        data = result.data or b""
        if hashlib.sha256(data).hexdigest() != sha256:
            raise BusError(f"blob {sha256} is damaged")
        return data

    async def delete(self, sha256: str) -> None:
        """Remove a blob that nothing else refers to; one that is not there is none to remove. Raises: BusError."""
        try:
            await (await self._open()).delete(sha256)
        except nats.js.errors.NotFoundError:
            return
        except NatsError as error:
            raise BusError(f"removing blob {sha256} failed: {error}") from error


def _put_error(what: str, error: NatsError) -> BusError:
    match error:
        case nats.js.errors.APIError(err_code=int(code)) if code in FULL_CODES:
            return StreamFull(what, error.description or "no room")
        case nats.errors.TimeoutError() | nats.errors.NoRespondersError() | nats.js.errors.NoStreamResponseError():
            return Ambiguous(f"{what}: {error}")
        case _:
            return BusError(f"{what} failed: {error}")


async def _holds(store: ObjectStore, name: str) -> bool:
    try:
        await store.get_info(name)
    except nats.js.errors.NotFoundError:
        return False
    return True
