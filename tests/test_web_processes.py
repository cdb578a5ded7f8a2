"""The web tools in their own processes: what they do is in the job's log, and what they must not tell is not."""

from __future__ import annotations

from pathlib import Path

import pytest

from bus.embedded import EmbeddedServer
from bus.messages import JobCompleted, encode
from tests.stage import stage
from tests.web_server import Asked, Said, json_said, web_server

SECRETS = {"WEB_TEST_TOKEN": "token-of-the-api", "TAVILY_API_KEY": "tvly-key", "GITHUB_TOKEN": "ghp-token"}


async def test_an_errand(nats_server: EmbeddedServer, tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    """Four tools one after the other; each credential reaches its own server, and no event and no log."""
    stumbles = ["/repos/acme/shop/issues"]

    def say(asked: Asked) -> Said:
        if asked.path in stumbles:
            stumbles.remove(asked.path)
            return json_said({"message": "Server Error"}, 502)
        match asked.method, asked.path:
            case _, "/search":
                return json_said({"results": [{"title": "Tea", "url": f"{server.url}/tea", "content": "hot"}]})
            case _, "/tea":
                return Said("<title>Tea</title><p>Green tea.")
            case _, "/v1/tell":
                return json_said({"heard": asked.json(), "by": asked.headers["authorization"]})
            case "GET", _:
                return json_said([])
        return json_said({"number": 7, **asked.json()})

    async with web_server(say) as server:
        env = {**SECRETS, "WEB_TEST_URL": server.url}
        tools = ["web_search", "fetch", "http_request", "github_create_issue"]
        async with stage(nats_server.url, tmp_path, "tests.apps.web:app", env=env, only=(*tools, "errand")) as on:
            await on.submit("errand", "e1", {})
            end = await on.end("e1", deadline_s=60)
            events = [encode(each.event) for each in await on.events("e1")]
    assert isinstance(end, JobCompleted), end
    assert b"Green tea." in encode(end) and b'"issue":7' in encode(end)
    said = "".join(capfd.readouterr()).encode() + b"".join(events)
    said += b"".join(file.read_bytes() for file in tmp_path.rglob("*") if file.is_file())
    assert b"HTTP Request" not in said, "URLs are for the events, and a query may be secret"
    assert not [name for name, secret in SECRETS.items() if secret.encode() in said]
    authorized = {asked.path: asked.headers.get("authorization", "") for asked in server.asked}
    assert authorized == {
        "/search": "Bearer tvly-key", "/tea": "", "/v1/tell": "Bearer token-of-the-api",
        "/repos/acme/shop/issues": "Bearer ghp-token",
    }  # fmt: skip
    wrote = [asked.method for asked in server.asked if asked.path.endswith("/issues")]
    assert wrote == ["POST", "GET", "POST"], "the second attempt looks for what the first may have written"
