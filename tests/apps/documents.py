"""An app that ships a document; which one, and in which version, a test says."""

from __future__ import annotations

import os

from actors import App

app = App("documents", version=os.environ.get("CALLBOARD_TEST_APP_VERSION", "1.0.0"))


@app.tool
async def price(sku: str) -> int:
    """A price."""
    return len(sku)


if "CALLBOARD_TEST_DOCUMENT" in os.environ:
    app.workflow(os.environ["CALLBOARD_TEST_DOCUMENT"], params={"says": "hello"})
