"""A job that reads a page, asks an API and writes an issue, by tools in processes of their own."""

from __future__ import annotations

import os
from typing import Any

from actors import App, Job
from actors.toolbox import Fetch, GitHub, Http, WebSearch

app = App("web", version="1.0.0")
URL = os.environ.get("WEB_TEST_URL", "http://127.0.0.1:8080")

fetch = app.use(Fetch(robots=False, allow_private=(URL.removeprefix("http://"),)))
api = app.use(
    Http(
        (f"{URL}/v1/*",), methods=("POST",), headers_from_env={"Authorization": "Bearer ${WEB_TEST_TOKEN}"},
        allow_private=(URL.removeprefix("http://"),),
    )
)  # fmt: skip
search = app.use(WebSearch(provider="tavily", base_url=URL))
github = app.use(GitHub(("acme/shop",), read_only=False, base_url=URL))


@app.job
async def errand(job: Job) -> dict[str, Any]:
    """Search, read what was found, tell the API of it, and write an issue."""
    found = await job.call(search.tools[0], query="tea", count=1)
    page = await job.call(fetch.tools[0], url=found.results[0].url)
    told = await job.call(api.tools[0], url=f"{URL}/v1/tell", method="POST", json={"title": page.title})
    issue = await job.call(github.tools[5], repo="acme/shop", title=page.title)
    return {"text": page.text, "told": told.json, "issue": issue.number}
