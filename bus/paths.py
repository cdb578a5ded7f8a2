"""Where files of a user lie: data by the platform's rule, ``nats`` CLI settings by the CLI's own."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from pathlib import Path

DATA_DIR_VARIABLE = "CALLBOARD_DATA_DIR"


def data_dir(env: Mapping[str, str]) -> Path:
    """The directory for data of this user: ``CALLBOARD_DATA_DIR``, else where the platform keeps such data."""
    if chosen := env.get(DATA_DIR_VARIABLE):
        return Path(chosen).expanduser().absolute()
    if sys.platform == "darwin":
        return _home(env) / "Library" / "Application Support" / "callboard"
    return _xdg(env, "XDG_DATA_HOME", ".local/share") / "callboard"


def nats_config_dir(env: Mapping[str, str]) -> Path:
    """The directory of the ``nats`` CLI: ``~/.config`` on macOS as well, since the CLI does it so."""
    return _xdg(env, "XDG_CONFIG_HOME", ".config") / "nats"


def _xdg(env: Mapping[str, str], variable: str, fallback: str) -> Path:
    # The XDG specification tells to ignore a relative path.
    chosen = Path(env.get(variable, ""))
    return chosen if chosen.is_absolute() else _home(env) / fallback


def _home(env: Mapping[str, str]) -> Path:
    return Path(env["HOME"]) if env.get("HOME") else Path.home()
