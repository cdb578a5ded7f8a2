"""The standard toolbox as an app: ``callboard node actors.toolbox.app:app --only sql``, settings in the environment."""

from __future__ import annotations

import os

from actors.toolbox.shelf import standard_app

app = standard_app(os.environ)
