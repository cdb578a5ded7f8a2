"""Contexts of the ``nats`` CLI (ADR-21): named connection settings in ``~/.config/nats/context/<name>.json``."""

from __future__ import annotations

import difflib
import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import msgspec

from bus.errors import UsageError
from bus.paths import nats_config_dir

# Settings that change where or as whom a client connects; to ignore them would connect to something else.
_UNSUPPORTED = {
    "nsc": "run 'nsc generate creds' and name the file as creds",
    "socks_proxy": "callboard connects directly",
    "user_jwt": "name a creds file instead",
    "user_seed": "name a creds file instead",
    "jetstream_api_prefix": "use jetstream_domain, or an account that imports $JS.API under its own name",
}


class _Context(msgspec.Struct, frozen=True):
    """The fields that we use. Colours, descriptions and Windows certificate stores are the CLI's own affair."""

    url: str = ""
    user: str = ""
    password: str = ""
    token: str = ""
    creds: str = ""
    nkey: str = ""
    cert: str = ""
    key: str = ""
    ca: str = ""
    tls_first: bool = False
    inbox_prefix: str = ""
    jetstream_domain: str = ""
    nsc: str = ""
    socks_proxy: str = ""
    user_jwt: str = ""
    user_seed: str = ""
    jetstream_api_prefix: str = ""


def selected_context(env: Mapping[str, str]) -> str:
    """The name chosen with ``nats context select``; empty if none was."""
    try:
        return (nats_config_dir(env) / "context.txt").read_text(encoding="utf-8").strip()
    except OSError:
        return ""


def load_context(name: str, env: Mapping[str, str]) -> dict[str, Any]:
    """The settings of one context that are not empty, and its name as ``context``.

    ``name`` may be a path to a ``.json`` file, as in the CLI.
    Raises: UsageError if there is no such context, it cannot be read, or it holds a setting that we cannot honour.
    """
    path = _path(name, env)
    context = _read(path, name)
    for field, hint in _UNSUPPORTED.items():
        if getattr(context, field):
            raise UsageError(
                f"context {name!r} sets {field}, which callboard does not support",
                code="unsupported_context",
                path=f"{path}: {field}",
                hint=hint,
            )
    settings = {field: value for field, value in msgspec.structs.asdict(context).items() if value}
    if "creds" in settings:
        settings["creds"] = _expand(settings["creds"], env)
    return settings | {"context": name}


def _path(name: str, env: Mapping[str, str]) -> Path:
    if name.endswith(".json") and Path(name).is_file():
        return Path(name)
    if not name or ".." in name or os.sep in name:
        raise UsageError(f"{name!r} is no name of a context", code="bad_context", path="context")
    return nats_config_dir(env) / "context" / f"{name}.json"


def _read(path: Path, name: str) -> _Context:
    try:
        return msgspec.json.decode(path.read_bytes(), type=_Context)
    except FileNotFoundError:
        raise _unknown(path, name) from None
    except OSError as error:
        raise UsageError(f"cannot read context {name!r}: {error}", code="bad_context", path=str(path)) from error
    except msgspec.DecodeError as error:
        raise UsageError(f"context {name!r} in {path} is damaged: {error}", code="bad_context", path=str(path),
                         hint=f"see 'nats context edit {name}'") from error  # fmt: skip


def _unknown(path: Path, name: str) -> UsageError:
    known = sorted(file.stem for file in path.parent.glob("*.json"))
    close = difflib.get_close_matches(name, known, n=1)
    if close:
        hint = f"did you mean {close[0]!r}?"
    elif known:
        hint = f"there are {', '.join(known)}"
    else:
        hint = f"there are none; 'nats context add {name}' makes one"
    return UsageError(
        f"there is no nats context {name!r} in {path.parent}", code="no_context", path="context", hint=hint
    )


def _expand(text: str, env: Mapping[str, str]) -> str:
    """``$NAME`` and ``${NAME}`` in a creds path, as the CLI expands them; an unset variable is empty."""
    return re.sub(r"\$(?:\{(\w+)\}|(\w+))", lambda found: env.get(found[1] or found[2], ""), text)
