"""Whose folder a path is of that somebody writes in a module."""

from __future__ import annotations

import sys
from pathlib import Path


def folder_of_caller() -> Path:
    """Where the module lies that called the function that asks; the working directory if it has no file."""
    module = sys._getframe(2).f_globals.get("__file__")
    return Path(module).resolve().parent if module else Path.cwd()
