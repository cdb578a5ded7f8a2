"""Where a connection leads and as whom: what a held message remembers, so that no other server ever gets it.

Secrets are no part of it. The servers are compared by address: one in common is enough, since the others are found by
gossip. Who connects as somebody else, or to another JetStream domain, may stand in another account, where the same
subjects mean other things.
"""

from __future__ import annotations

from urllib.parse import urlsplit

import msgspec

from bus.options import ConnectOptions

_LOOPBACK = {"localhost", "127.0.0.1", "::1", "0.0.0.0"}  # noqa: S104 - names of this machine, nothing is bound


class Destination(msgspec.Struct, frozen=True, omit_defaults=True):
    """``identity`` says how one logs in, not with what. ``context`` is for people: it may change what it stands for."""

    servers: tuple[str, ...] = ()
    identity: str = ""
    domain: str = ""
    context: str = ""

    def reaches(self, other: Destination) -> bool:
        """Whether a message for ``other`` may go out over a connection to this one."""
        is_same_user = (self.identity, self.domain) == (other.identity, other.domain)
        return is_same_user and bool(set(self.servers) & set(other.servers))

    def __str__(self) -> str:
        where = ", ".join(self.servers) or "nowhere"
        user = f" as {self.identity}" if self.identity else ""
        domain = f" in domain {self.domain}" if self.domain else ""
        context = f" (context {self.context})" if self.context else ""
        return f"{where}{user}{domain}{context}"


def destination_of(options: ConnectOptions) -> Destination:
    """The destination that these options lead to."""
    servers = tuple(sorted({_address(server) for server in options.servers}))
    return Destination(servers, _identity(options), options.jetstream_domain, options.context)


def _address(server: str) -> str:
    parts = urlsplit(server)
    host = (parts.hostname or "").lower()
    return f"{'localhost' if host in _LOOPBACK else host}:{parts.port or 4222}"


def _identity(options: ConnectOptions) -> str:
    """In the order in which a connection takes them."""
    if options.user:
        return f"user {options.user}"
    if options.creds or options.creds_text:
        return f"creds {options.creds or 'of the environment'}"
    if options.nkey or options.nkey_seed:
        return f"nkey {options.nkey or 'of the environment'}"
    if options.token:
        return "a token"
    return f"certificate {options.cert}" if options.cert else ""
