"""Where tools may go: no spelling, no name and no redirect leads to what is not public."""

from __future__ import annotations

import socket
import ssl
from ipaddress import IPv4Address, IPv6Address, ip_address

import httpcore2
import httpx2
import pytest
import trustme
from hypothesis import assume, given
from hypothesis import strategies as st

from actors.toolbox.web.address_guard import AddressGuard, AddressRefused, refused_network
from actors.toolbox.web.guarded_transport import GuardedTransport, resolve, target_of
from actors.toolbox.web.web_client import WebClient
from bus.errors import UsageError
from bus.failure import RetryableError, TerminalError
from tests.web_server import Asked, Said, web_server

GUARD = AddressGuard.of()

PRIVATE = st.one_of(
    *(
        st.ip_addresses(network=network)
        for network in ("0.0.0.0/8", "10.0.0.0/8", "100.64.0.0/10", "127.0.0.0/8", "169.254.0.0/16", "172.16.0.0/12",
                        "192.168.0.0/16", "192.0.0.0/24", "198.18.0.0/15", "224.0.0.0/4", "240.0.0.0/4")
    )
)  # fmt: skip


def spellings(address: IPv4Address) -> list[str]:
    """An IPv4 address as one number, in hex, in octal, with fewer parts, with a dot at the end."""
    a, b, c, d = address.packed
    rest = (c << 8) + d
    return [
        str(int(address)), hex(int(address)), f"0{int(address):o}", f"{a}.{b}.{rest}", f"{a}.{(b << 16) + rest}",
        f"0x{a:x}.{b}.{c}.{d}", f"0{a:o}.{b}.{c}.{d}", f"{a}.{b}.{c}.0x{d:X}", f"{address}.", f"00{a}.{b}.{c}.{d}",
    ]  # fmt: skip


def disguises(address: IPv4Address) -> list[IPv6Address]:
    """IPv6 addresses that a router or the kernel takes for this IPv4 address."""
    number = int(address)
    return [
        IPv6Address(prefix + (number << shift))
        for prefix, shift in ((0xFFFF << 32, 0), (0x64FF9B << 96, 0), (0x2002 << 112, 80), (0x20010000 << 96, 0),
                              (0, 0), (0x64FF9B0001 << 80, 0))
    ]  # fmt: skip


@given(PRIVATE.filter(lambda address: address.version == 4), st.data())
def test_no_spelling_of_a_private_address_passes(address: IPv4Address, data: st.DataObject) -> None:
    """As it is, in any other spelling, and dressed up as IPv6, it is refused from the URL alone."""
    written = [str(address), *spellings(address), *map(str, disguises(address))]
    host = data.draw(st.sampled_from(written))
    with pytest.raises(AddressRefused):
        GUARD.target("http", host, None)


@given(st.ip_addresses())
def test_what_python_calls_private_is_refused(address: IPv4Address | IPv6Address) -> None:
    """The list here is at least as strict as that of the standard library."""
    assume(not address.is_global or address.is_multicast or address.is_reserved or address.is_link_local)
    assert refused_network(address)


@given(st.ip_addresses(v=4))
def test_odd_spellings_of_public_addresses_are_refused_too(address: IPv4Address) -> None:
    """Nobody needs them, and their readers disagree."""
    for host in spellings(address):
        with pytest.raises(AddressRefused):
            GUARD.target("http", host, None)


@pytest.mark.parametrize(
    "address",
    ["169.254.169.254", "100.100.100.200", "168.63.129.16", "fd00:ec2::254", "fe80::1", "::", "::1", "ff02::1",
     "fec0::1", "2001:db8::1", "2002:7f00:1::", "64:ff9b::7f00:1", "::ffff:8.8.8.8", "::8.8.8.8", "4000::1"],
)  # fmt: skip
def test_these_are_refused(address: str) -> None:
    """Metadata services, and what IANA keeps for other ends."""
    assert GUARD.refusal(ip_address(address), 443)


@pytest.mark.parametrize("address", ["8.8.8.8", "1.1.1.1", "93.184.216.34", "2606:4700::1111", "2a00:1450:4001::5"])
def test_public_addresses_pass(address: str) -> None:
    """A guard that refuses all would pass the other tests."""
    assert not GUARD.refusal(ip_address(address), 443)
    assert GUARD.refusal(ip_address(address), 22)


@pytest.mark.parametrize(
    ("url", "why"),
    [
        ("ftp://example.com/", "http and https"),
        ("file:///etc/passwd", "http and https"),
        ("//example.com/", "http and https"),
        ("http://user:secret@example.com/", "before the @"),
        ("http://user@example.com/", "before the @"),
        ("http://example.com:22/", "port 22"),
        ("http://example.com:6379/", "port 6379"),
        ("http://127%2e0.0.1/", "no host name"),
        ("http:///etc", "no host name"),
        ("http://a..b/", "no host name"),
        ("http://[::1%25lo]/", "refused|no IPv6"),
        ("http://0x7f.1/", "four decimal numbers"),
    ],
)
def test_urls_that_are_refused(url: str, why: str) -> None:
    """Schemes, users, ports and hosts that make no sense are told from the URL, in words that can be acted on."""
    with pytest.raises(AddressRefused, match=why):
        target_of(GUARD, httpx2.URL(url))


def test_openings() -> None:
    """An opening lets in its addresses at its port, or at the allowed ports; nothing beside it."""
    guard = AddressGuard.of((80,), ("127.0.0.1:9000", "10.1.0.0/16", "[fd00::/8]:443"))
    passing = [("127.0.0.1", 9000), ("10.1.2.3", 80), ("fd12::1", 443), ("8.8.8.8", 80)]
    refused = [("127.0.0.1", 80), ("127.0.0.2", 9000), ("10.1.2.3", 9000), ("10.2.0.1", 80), ("fd12::1", 80),
               ("8.8.8.8", 9000), ("::ffff:127.0.0.1", 9000), ("8.8.8.8", 443)]  # fmt: skip
    assert not [each for each in passing if guard.refusal(ip_address(each[0]), each[1])]
    assert not [each for each in refused if not guard.refusal(ip_address(each[0]), each[1])]


@pytest.mark.parametrize("opening", ["", "localhost:80", "127.0.0.1:0", "127.0.0.1:99999", "10.0.0.1/8", "::1:80", "x"])
def test_openings_that_cannot_be(opening: str) -> None:
    """A mistake in a setting is told when it is made."""
    with pytest.raises(UsageError, match="let in"):
        AddressGuard.of(allow_private=(opening,))


def test_ports_that_cannot_be() -> None:
    """So is a port that is none."""
    with pytest.raises(UsageError, match="no port"):
        AddressGuard.of((0,))


# ---- connections


async def test_the_connection_goes_to_the_address_that_was_checked() -> None:
    """The name is resolved once for a connection; what it would be a moment later does not matter."""
    asked: list[str] = []

    async def bent(host: str, port: int) -> list[str]:
        asked.append(host)
        return ["127.0.0.1"] if len(asked) == 1 else ["127.0.0.9"]

    async with web_server(lambda _: Said("hello")) as server:
        client = WebClient(guard=AddressGuard.of((), (server.opening,)), resolve=bent)
        answer = await client.ask("GET", f"http://shop.example:{server.port}/")
        assert (answer.body, asked) == (b"hello", ["shop.example"])
        assert server.asked[0].headers["host"] == f"shop.example:{server.port}"
        with pytest.raises(AddressRefused, match=r"127\.0\.0\.9 is refused, it is loopback"):
            await client.ask("GET", f"http://shop.example:{server.port}/")
        assert len(server.asked) == 1


async def test_names_of_private_addresses_are_refused() -> None:
    """A name is as good as the address that it stands for: of several, only public ones are tried."""

    async def both(host: str, port: int) -> list[str]:
        return ["10.0.0.1", "::1", "fe80::1%eth0"] if host == "bad.example" else []

    client = WebClient(guard=GUARD, resolve=both)
    with pytest.raises(AddressRefused, match="private"):
        await client.ask("GET", "https://bad.example/")
    with pytest.raises(AddressRefused, match="no address"):
        await client.ask("GET", "https://empty.example/")
    with pytest.raises(AddressRefused, match="loopback"):
        await WebClient(guard=GUARD).ask("GET", "http://localhost:8080/")


async def test_tls_keeps_the_name() -> None:
    """The certificate is checked against the name of the URL and not against the address."""
    authority = trustme.CA()
    served, trusting = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER), ssl.create_default_context()
    authority.issue_cert("shop.example").configure_cert(served)
    authority.configure_trust(trusting)

    async def here(host: str, port: int) -> list[str]:
        return ["127.0.0.1"]

    async with web_server(lambda _: Said("hello"), served) as server:
        transport = GuardedTransport(AddressGuard.of((), (server.opening,)), here, trusting)
        async with httpx2.AsyncClient(transport=transport, trust_env=False) as client:
            assert (await client.get(f"https://shop.example:{server.port}/")).text == "hello"
            with pytest.raises(httpcore2.ConnectError, match=r"not valid for 'other\.example'"):
                await client.get(f"https://other.example:{server.port}/")


@pytest.mark.parametrize(
    "where",
    ["http://169.254.169.254/latest/meta-data", "http://[::1]/", "http://2130706433/", "//10.0.0.1/", "file:///etc/passwd",
     "http://localhost/", "http://example.com:22/", "http://u:p@example.com/"],
)  # fmt: skip
async def test_redirects_are_checked(where: str) -> None:
    """A public page cannot send a tool where it may not go by itself."""
    async with web_server(lambda _: Said(status=302, headers={"location": where})) as server:
        with pytest.raises(AddressRefused):
            await WebClient(guard=AddressGuard.of((80,), (server.opening,))).ask("GET", f"{server.url}/")
        assert len(server.asked) == 1


async def test_redirects_end() -> None:
    """Five are followed, a sixth is not; a redirect of a write is not followed at all."""
    async with web_server(lambda asked: Said(status=307, headers={"location": f"/{len(server.asked)}"})) as server:
        client = WebClient(guard=AddressGuard.of((), (server.opening,)))
        with pytest.raises(TerminalError, match="more than 5 redirects"):
            await client.ask("GET", f"{server.url}/")
        assert len(server.asked) == 6
        assert (await client.ask("POST", f"{server.url}/", json={})).status == 307
        assert len(server.asked) == 7


async def test_a_redirect_does_not_give_up_tls(monkeypatch: pytest.MonkeyPatch) -> None:
    """From https to http is refused: from there on anybody on the way could answer."""
    authority = trustme.CA()
    served, trusting = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER), ssl.create_default_context()
    authority.issue_cert("127.0.0.1").configure_cert(served)
    authority.configure_trust(trusting)
    monkeypatch.setattr("actors.toolbox.web.guarded_transport._ssl_context", lambda: trusting)

    def say(asked: Asked) -> Said:
        return Said(status=301, headers={"location": f"http://127.0.0.1:{server.port}/"})

    async with web_server(say, served) as server:
        with pytest.raises(TerminalError, match="https to http"):
            await WebClient(guard=AddressGuard.of((), (server.opening,))).ask("GET", f"{server.url}/")


async def test_what_does_not_answer() -> None:
    """A silent server costs the time limit, a closed port and a damaged answer are told; all may pass."""
    async with web_server(lambda _: Said("x", hang=True)) as server:
        guard = AddressGuard.of((), (server.opening,))
        with pytest.raises(RetryableError, match=r"no answer within 0\.2 s") as silent:
            await WebClient(guard=guard, timeout_s=0.2).ask("GET", f"{server.url}/?key=secret")
        assert silent.value.code == "timeout" and "secret" not in str(silent.value)
    with pytest.raises(RetryableError, match="cannot be reached"):
        await WebClient(guard=guard).ask("GET", f"{server.url}/")


async def test_names_that_do_not_exist(monkeypatch: pytest.MonkeyPatch) -> None:
    """A name that nobody has is terminal; a resolver that is away is not."""
    for number, kind in ((socket.EAI_NONAME, TerminalError), (socket.EAI_AGAIN, RetryableError)):

        def fails(*_: object, number: int = number, **__: object) -> None:
            raise socket.gaierror(number, "no")

        monkeypatch.setattr(socket, "getaddrinfo", fails)
        with pytest.raises(kind):
            await resolve("nobody.example", 80)
