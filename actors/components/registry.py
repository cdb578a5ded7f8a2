"""Every component in every version, whether it runs or not: KV bucket ``registry``, held in memory, asked by name.

A key is ``<kind>.<name>.<version>`` and its value the JSON of a ComponentInfo. Entries are decoded when somebody asks
for them, so a process of a deployment with 10,000 components does not carry 10,000 schemas as objects.
"""

from __future__ import annotations

import bisect
import difflib
import logging
from collections.abc import Iterable

import msgspec

from actors.components.component import ComponentInfo
from actors.components.schema_change import describe_change
from actors.components.version import Version, parse_version
from bus.connection import Bus, NoResponder
from bus.errors import Ambiguous, Fenced, UsageError
from bus.kv import Entry, Kv, KvCache
from bus.service import ServiceInfo, discover
from bus.subjects import CALL_KINDS, CallKind

log = logging.getLogger("callboard.registry")

BUCKET = "registry"
# A process that is busy must have time to say which schema it runs; asked only when schemas differ.
CONFLICT_WAIT_S = 1.0
_NEIGHBOURS = 100
_decode = msgspec.json.Decoder(ComponentInfo).decode


def key_of(kind: CallKind, name: str, version: str) -> str:
    """The key of one version; ``+`` of build metadata is no character of a key, and ``=`` is none of a version."""
    return f"{kind}.{name}.{version.replace('+', '=')}"


def _parse_key(key: str) -> tuple[CallKind, str, Version] | None:
    parts = key.split(".", 2)
    if len(parts) == 3 and parts[0] in CALL_KINDS:
        try:
            return parts[0], parts[1], parse_version(parts[2].replace("=", "+"), "version")
        except UsageError:
            return None
    return None


class Registry:
    """The components of this deployment. :meth:`start` loads them, and from then on lookups are local."""

    def __init__(self, bus: Bus) -> None:
        self._bus = bus
        self._kv = Kv(bus, BUCKET)
        self._cache = KvCache(self._kv)
        self._cache.on_change.append(self._on_change)
        # Versions of each component, the newest first, with their keys.
        self._versions: dict[tuple[CallKind, str], list[tuple[Version, str]]] = {}
        self._decoded: dict[str, ComponentInfo] = {}

    async def start(self) -> None:
        """Load all components and keep them live. Raises: BusError."""
        await self._cache.start()

    async def stop(self) -> None:
        """Stop following changes."""
        await self._cache.stop()

    async def refresh(self) -> None:
        """Read what was registered up to now; lookups otherwise trail by some milliseconds. Raises: BusError."""
        await self._cache.refresh()

    # ---- lookup

    def find(self, kind: CallKind, name: str, major: int | None = None) -> ComponentInfo | None:
        """The newest version of that component, within ``major`` if given; None if there is none."""
        for version, key in self._versions.get((kind, name), ()):
            if (major is None or version.major == major) and (info := self._info(key)):
                return info
        return None

    def get(self, kind: CallKind, name: str, version: str) -> ComponentInfo | None:
        """Exactly that version."""
        return self._info(key_of(kind, name, version))

    def resolve(self, ref: str, kinds: tuple[CallKind, ...] = CALL_KINDS) -> ComponentInfo:
        """The component that ``send``, ``send@2``, ``mail.send`` or ``mail.send@2`` names: [app.]name[@major].

        Where kinds share a name the first of ``kinds`` counts. Raises: UsageError, ``bad_ref`` or
        ``unknown_component``, with what is near or which majors there are.
        """
        app, name, major = parse_ref(ref)
        exact = exact_version(ref)
        for kind in kinds_for(ref, kinds):
            for version, key in self._versions.get((kind, name), ()):
                if (major is not None and version.major != major) or (exact and key != key_of(kind, name, exact)):
                    continue
                if (info := self._info(key)) and app in ("", info.app):
                    return info
        raise self._unknown(ref, app, name, major, kinds)

    def all(self) -> list[ComponentInfo]:
        """Every component in every version, by kind and name, the newest version first."""
        keys = [key for _, versions in sorted(self._versions.items()) for _, key in versions]
        return [info for key in keys if (entry := self._cache.get(key)) and (info := _read(entry))]

    def names(self, kinds: Iterable[CallKind] = CALL_KINDS) -> list[str]:
        """The names of all components of these kinds, sorted."""
        wanted = set(kinds)
        return sorted({name for kind, name in self._versions if kind in wanted})

    def near(self, name: str, kinds: Iterable[CallKind] = CALL_KINDS) -> list[str]:
        """Up to three names that look like ``name``, the nearest first."""
        names = self.names(kinds)
        if len(names) > 4 * _NEIGHBOURS:  # difflib takes 5 us a name: 50 ms for 10,000
            backwards = sorted(other[::-1] for other in names)
            alike = [*_neighbours(name, names), *(other[::-1] for other in _neighbours(name[::-1], backwards))]
            names = list(dict.fromkeys(alike))
        return difflib.get_close_matches(name, names, n=3)

    def _info(self, key: str) -> ComponentInfo | None:
        if (known := self._decoded.get(key)) is not None:
            return known
        entry = self._cache.get(key)
        info = None if entry is None else _read(entry)
        if info is not None:
            self._decoded[key] = info
        return info

    def _unknown(self, ref: str, app: str, name: str, major: int | None, kinds: tuple[CallKind, ...]) -> UsageError:
        what = " or ".join(kinds)
        same_name = [i for k in kinds for _, key in self._versions.get((k, name), ()) if (i := self._info(key))]
        fitting = [info for info in same_name if app in ("", info.app)]
        if fitting:
            if exact := exact_version(ref):
                known = ", ".join(f"{name}@{info.version if info.kind == 'job' else info.major}" for info in fitting)
                return _unknown_component(f"{what} {ref!r}: no version {exact}", f"there is {known}")
            majors = ", ".join(f"{name}@{m}" for m in sorted({info.major for info in fitting}))
            return _unknown_component(f"{what} {ref!r}: no version with major {major}", f"there is {majors}")
        if same_name:
            apps = ", ".join(sorted({f"{info.app}.{name}" for info in same_name}))
            return _unknown_component(f"app {app} has no {what} {name!r}", f"there is {apps}")
        other = next((k for k in CALL_KINDS if k not in kinds and self._versions.get((k, name))), None)
        hint = f"{name!r} is of kind {other}" if other else self.hint(name, kinds)
        return _unknown_component(f"no {what} is named {name!r}", hint)

    def hint(self, name: str, kinds: Iterable[CallKind] = CALL_KINDS) -> str:
        """What to say to somebody who asked for a name that does not exist."""
        kinds = tuple(kinds)
        if near := self.near(name, kinds):
            return f"did you mean {' or '.join(near)}?"
        if names := self.names(kinds):
            more = f" and {len(names) - 10} more" if len(names) > 10 else ""
            return f"there is {', '.join(names[:10])}{more}"
        return f"no {' or '.join(kinds)} is registered; start a node that has one"

    # ---- following the bucket

    def _on_change(self, key: str, entry: Entry | None) -> None:
        parsed = _parse_key(key)
        if parsed is None:
            log.warning("the registry holds the key %r, which names no component", key)
            return
        kind, name, version = parsed
        self._decoded.pop(key, None)
        versions = [v for v in self._versions.get((kind, name), []) if v[1] != key]
        if entry is not None:
            versions.append((version, key))
        self._versions[kind, name] = sorted(versions, reverse=True)
        if not versions:
            del self._versions[kind, name]

    # ---- registering

    async def register(self, info: ComponentInfo) -> None:
        """Make ``info`` known; nothing is written if it is already.

        The same version with another schema is refused while a process that runs the old one is live. So that two
        nodes which start at the same moment see each other, announce the component's micro service first.
        Raises: UsageError ``schema_conflict``, BusError.
        """
        key, value = key_of(info.kind, info.name, info.version), msgspec.json.encode(info)
        while True:
            try:
                revision = await self._write(key, value, info)
                if self._cache.is_live:  # who only registers need not load the registry
                    await self._cache.refresh(revision)
                return
            except Fenced:  # another node registers it as well: look again
                continue
            except (Ambiguous, NoResponder) as error:
                log.warning("registering %s: %s; going on", key, error)
                await self._bus.settle()

    async def _write(self, key: str, value: bytes, info: ComponentInfo) -> int:
        entry = await self._kv.get(key)
        if entry is None:
            return await self._kv.compare_and_set(key, value, 0)
        old = None if entry.deleted else _read(entry)
        if old == info:
            return entry.revision
        if old is not None and old.digest != info.digest:
            await self._check_conflict(old, info)
        return await self._kv.compare_and_set(key, value, entry.revision)

    async def _check_conflict(self, old: ComponentInfo, new: ComponentInfo) -> None:
        services = await discover(self._bus, new.name, wait_s=CONFLICT_WAIT_S)
        running = [service for service in services if _announces(service, old)]
        if not running:
            return
        nodes = ", ".join(sorted({service.meta("node") or f"service {service.id}" for service in running}))
        raise UsageError(
            f"{new.kind} {new.name} {new.version} runs with another schema on {nodes}: {describe_change(old, new)}",
            code="schema_conflict",
            path=f"{new.kind}.{new.name}",
            hint=f"give this one another version than {new.version}, or stop the other one first",
        )


def parse_ref(ref: str) -> tuple[str, str, int | None]:
    """(app or "", name, major or None) of [app.]name[@major]. Raises: UsageError ``bad_ref``.

    A whole version counts as its major here, see :func:`exact_version`.
    """
    path, at, version = ref.partition("@")
    app, _, name = path.rpartition(".")
    major = version if version.isdigit() else version.partition(".")[0]
    if not name or "." in app or (at and not (version.isascii() and major.isdigit() and _is_version(version))):
        hint = "write [app.]name[@major], such as send, send@2 or mail.send@2"
        raise UsageError(f"{ref!r} names no component", code="bad_ref", hint=hint)
    return app, name, int(major) if at else None


def exact_version(ref: str) -> str:
    """The whole version that a reference asks for, as ``order@1.2.0`` does; empty if it leaves a choice."""
    version = ref.partition("@")[2]
    return version if "." in version else ""


def kinds_for(ref: str, kinds: tuple[CallKind, ...]) -> tuple[CallKind, ...]:
    """Of these the ones that ``ref`` may mean: a whole version is asked of jobs only."""
    return tuple(kind for kind in kinds if kind == "job") if exact_version(ref) else kinds


def _is_version(text: str) -> bool:
    try:
        return text.isdigit() or parse_version(text, "version") is not None
    except UsageError:
        return False


def _neighbours(name: str, ordered: list[str]) -> list[str]:
    """Those that begin most alike."""
    place = bisect.bisect(ordered, name)
    return ordered[max(0, place - _NEIGHBOURS) : place + _NEIGHBOURS]


def _read(entry: Entry) -> ComponentInfo | None:
    try:
        return _decode(entry.value)
    except msgspec.DecodeError as error:
        log.warning("the registry's entry %s cannot be read: %s", entry.key, error)
        return None


def _announces(service: ServiceInfo, info: ComponentInfo) -> bool:
    version = service.meta("version") or service.version
    return (service.meta("kind"), version, service.meta("digest")) == (info.kind, info.version, info.digest)


def _unknown_component(message: str, hint: str) -> UsageError:
    return UsageError(message, code="unknown_component", hint=hint)
