"""One actor's process, run by hand until it ends by itself."""

from __future__ import annotations

import asyncio
import sys
from pathlib import Path

import msgspec

from actors.node.process import CONNECT_VARIABLE, NODE_VARIABLE
from bus.options import ConnectOptions
from bus.paths import DATA_DIR_VARIABLE
from tests.stage import ROOT


async def run_actor(
    connect: ConnectOptions, tmp_path: Path, *arguments: str, node: str = "n9", **variables: str
) -> tuple[int, str]:
    """(exit code, stderr) of ``python -m actors.node.process ARGUMENTS``; its output goes to ours."""
    env = {
        CONNECT_VARIABLE: msgspec.json.encode(connect).decode(), NODE_VARIABLE: node, "PYTHONPATH": str(ROOT),
        "PATH": "/usr/bin:/bin", DATA_DIR_VARIABLE: str(tmp_path / f"data-{node}"),
        **variables,
    }  # fmt: skip
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "actors.node.process", *arguments, env=env, cwd=ROOT, stderr=asyncio.subprocess.PIPE,
        stdin=asyncio.subprocess.DEVNULL,
    )  # fmt: skip
    _, err = await process.communicate()
    return process.returncode or 0, err.decode()
