"""Which addresses a tool may speak to. Pure: it is given a URL's parts, or an address that a name stands for.

A model says where to go, and it may have read that on a page. So a tool must not be led to what only this machine and
its network can reach: their admin pages, the metadata service of a cloud, a database. What is checked is the address
that the connection is made to, not the name (``guarded_transport`` sees to that), so a name that is bent after the
check bends nothing.

Refused is all that the registries of IANA do not call global, whatever it is written like. The list is here and not
``ipaddress.is_global``, whose answers differ between versions of Python.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address, ip_network

from bus.errors import UsageError
from bus.failure import TerminalError

Address = IPv4Address | IPv6Address
Network = IPv4Network | IPv6Network

DEFAULT_PORTS = (80, 443, 8080, 8443)
_PORT_OF_SCHEME = {"http": 80, "https": 443}
_PORT_LIMIT = 65_535
_NAME_LIMIT_CHARS = 253

# The first that holds an address says why it is refused.
_REFUSED: tuple[tuple[Network, str], ...] = tuple(
    (ip_network(network), reason)
    for network, reason in (
        ("169.254.169.254/32", "a cloud's metadata service"),
        ("100.100.100.200/32", "a cloud's metadata service"),
        ("168.63.129.16/32", "a cloud's metadata service"),
        ("192.0.0.192/32", "a cloud's metadata service"),
        ("0.0.0.0/8", "this machine"),
        ("127.0.0.0/8", "loopback"),
        ("10.0.0.0/8", "private"),
        ("172.16.0.0/12", "private"),
        ("192.168.0.0/16", "private"),
        ("100.64.0.0/10", "a provider's private network (CGNAT)"),
        ("169.254.0.0/16", "link-local"),
        ("192.0.0.0/24", "reserved"),
        ("192.0.2.0/24", "reserved for documentation"),
        ("198.51.100.0/24", "reserved for documentation"),
        ("203.0.113.0/24", "reserved for documentation"),
        ("192.88.99.0/24", "a relay (6to4)"),
        ("198.18.0.0/15", "reserved for benchmarks"),
        ("224.0.0.0/4", "multicast"),
        ("240.0.0.0/4", "reserved"),
        ("::/128", "this machine"),
        ("::1/128", "loopback"),
        ("::ffff:0:0/96", "an IPv4 address in disguise (mapped)"),
        ("64:ff9b::/96", "an IPv4 address in disguise (NAT64)"),
        ("64:ff9b:1::/48", "an IPv4 address in disguise (NAT64)"),
        ("2002::/16", "an IPv4 address in disguise (6to4)"),
        ("2001::/32", "an IPv4 address in disguise (Teredo)"),
        ("2001::/23", "reserved"),
        ("2001:db8::/32", "reserved for documentation"),
        ("3fff::/20", "reserved for documentation"),
        ("fd00:ec2::254/128", "a cloud's metadata service"),
        ("fc00::/7", "private"),
        ("fe80::/10", "link-local"),
        ("fec0::/10", "private (site-local)"),
        ("ff00::/8", "multicast"),
    )
)
_GLOBAL_V6 = IPv6Network("2000::/3")

_NUMBER = re.compile(r"0x[0-9a-f]*|[0-9]+")
_OPENING = re.compile(r"(?:\[(?P<v6>[^\]]+)\]|(?P<v4>[0-9./]+))(?::(?P<port>[0-9]{1,5}))?")
_NAME = re.compile(r"[a-z0-9_](?:[a-z0-9_.-]*[a-z0-9_.-])?")


class AddressRefused(TerminalError):
    """Raised before anything is sent: the tool may not speak to this address. ``code`` is ``address_refused``."""

    def __init__(self, message: str) -> None:
        super().__init__(message, code="address_refused")


@dataclass(frozen=True, slots=True)
class Target:
    """Where a request goes: a host as it is written (lower case, no brackets), and a port."""

    scheme: str
    host: str
    port: int

    @property
    def origin(self) -> str:
        """``https://example.com``; the port is said if it is not the scheme's own."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{self.scheme}://{host}" + ("" if self.port == _PORT_OF_SCHEME[self.scheme] else f":{self.port}")


@dataclass(frozen=True, slots=True)
class Opening:
    """A network that is let in on purpose, at one port (None: at all allowed ports)."""

    network: Network
    port: int | None


@dataclass(frozen=True, slots=True)
class AddressGuard:
    """The rules: ports that are allowed, and openings in the wall."""

    ports: frozenset[int]
    openings: tuple[Opening, ...] = ()

    @classmethod
    def of(cls, ports: tuple[int, ...] = DEFAULT_PORTS, allow_private: tuple[str, ...] = ()) -> AddressGuard:
        """``allow_private`` names addresses or networks: ``127.0.0.1:8080``, ``10.1.0.0/16:443``, ``[fd00::/8]``.

        One with a port opens that port for it. Raises: UsageError for what is no port or address.
        """
        for port in ports:
            if type(port) is not int or not 0 < port <= _PORT_LIMIT:
                raise UsageError(f"{port!r} is no port", path="ports", hint=f"whole numbers, such as {DEFAULT_PORTS}")
        return cls(frozenset(ports), tuple(_opening(text) for text in allow_private))

    @classmethod
    def trusting(cls, port: int) -> AddressGuard:
        """For an address that the operator has set, such as a provider's: any, but at this port only."""
        everywhere = (Opening(IPv4Network("0.0.0.0/0"), port), Opening(IPv6Network("::/0"), port))
        return cls(frozenset({port}), everywhere)

    def target(self, scheme: str, host: str, port: int | None, *, has_user: bool = False) -> Target:
        """The place that these parts of a URL name. Raises: AddressRefused; a name may still be, once resolved."""
        scheme, host = scheme.lower(), host.lower()
        if scheme not in _PORT_OF_SCHEME:
            raise AddressRefused(f"only http and https are allowed, not {scheme[:40]!r}: give a whole URL, https://...")
        if has_user:
            raise AddressRefused("a URL must not hold a user or password: leave out what stands before the @")
        found = Target(scheme, host, port or _PORT_OF_SCHEME[scheme])
        self._check_port(found.port)
        if (literal := literal_address(host)) is not None:
            self.check(literal, found.port)
        return found

    def check(self, address: Address, port: int) -> None:
        """Raises: AddressRefused if no connection may be made to this address."""
        if reason := self.refusal(address, port):
            raise AddressRefused(reason)

    def refusal(self, address: Address, port: int) -> str:
        """Why no connection may be made to this address at this port; empty if it may."""
        if any(_is_open(opening, address, port, self.ports) for opening in self.openings):
            return ""
        if reason := refused_network(address):
            return f"{address} is refused, it is {reason}: only public addresses are allowed"
        if port not in self.ports:
            return _port_refused(port, self.ports)
        return ""

    def _check_port(self, port: int) -> None:
        if port not in self.ports and not any(opening.port == port for opening in self.openings):
            raise AddressRefused(_port_refused(port, self.ports))


def refused_network(address: Address) -> str:
    """What is wrong with an address, in words; empty if it is a public one."""
    for network, reason in _REFUSED:
        if address.version == network.version and address in network:
            return reason
    if isinstance(address, IPv6Address) and (address not in _GLOBAL_V6 or address.scope_id):
        return "reserved"
    return ""


def _is_open(opening: Opening, address: Address, port: int, ports: frozenset[int]) -> bool:
    if address.version != opening.network.version or address not in opening.network:
        return False
    return port == opening.port if opening.port else port in ports


def _port_refused(port: int, ports: frozenset[int]) -> str:
    return f"port {port} is refused: allowed are {', '.join(map(str, sorted(ports)))}"


def literal_address(host: str) -> Address | None:
    """The address that ``host`` is; None for a name. Raises: AddressRefused if it is neither.

    An IPv4 address has one spelling here: four decimal numbers. The others (``2130706433``, ``0x7f.1``, ``0177.0.0.1``,
    a dot at the end) are read in one way by browsers and in another by libraries, and are used to hide.
    """
    if ":" in host:
        try:
            return IPv6Address(host)
        except ValueError:
            raise AddressRefused(f"{host[:80]!r} is no IPv6 address") from None
    if not _NAME.fullmatch(host) or len(host) > _NAME_LIMIT_CHARS or ".." in host:
        raise AddressRefused(f"{host[:80]!r} is no host name: letters, digits, dots and hyphens")
    if not _NUMBER.fullmatch(host.rstrip(".").rpartition(".")[2]):
        return None
    try:
        return IPv4Address(host)
    except ValueError:
        raise AddressRefused(f"{host[:80]!r} is no IPv4 address: write it as four decimal numbers") from None


def read_address(text: str) -> Address:
    """An address as a resolver gives it. Raises: AddressRefused if it is none."""
    try:
        return ip_address(text)
    except ValueError:
        raise AddressRefused(f"{text[:80]!r} is no address") from None


def _opening(text: str) -> Opening:
    found = _OPENING.fullmatch(text)
    port = int(found["port"]) if found and found["port"] else None
    try:
        network = ip_network(found["v6"] or found["v4"]) if found else None
    except ValueError:
        network = None
    if network is None or (port is not None and not 0 < port <= _PORT_LIMIT):
        raise UsageError(
            f"{text!r} is no address that can be let in", path="allow_private",
            hint="an address or network, with a port or without: 127.0.0.1:8080, 10.1.0.0/16, [fd00::1]:443",
        )  # fmt: skip
    return Opening(network, port)
