"""An app with the tools of an MCP server; the file in ``CALLBOARD_TEST_MCP_LOG`` notes what the server does."""

from __future__ import annotations

import os
import sys
from pathlib import Path

from actors import App, Job, Retry
from actors.toolbox import Mcp

SERVER = Path(__file__).parent.parent / "children" / "mcp_server.py"
COMMAND = [sys.executable, str(SERVER), "--log", os.environ.get("CALLBOARD_TEST_MCP_LOG", os.devnull)]

app = App("mcp_tools", version="1.0.0")
small = app.use(
    Mcp(COMMAND, name="small", only=["echo", "second_time"], retry=Retry(attempts=3, backoff_s=0.1), timeout_s=60)
)
echo, second_time = small.tools


@app.job
async def talk(job: Job) -> str:
    """One call that works, then one whose server is killed meanwhile."""
    said = await job.call(echo, text="hello")
    return f"{said.text}, {(await job.call(second_time)).text}"
