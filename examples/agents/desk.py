"""A desk that answers questions from figures: a planner, an analyst, a coder, a reviewer and a writer.

    callboard up examples.agents.desk:app
    callboard submit desk task='Where did people gain most years of life?' --wait

Without TEAM_MODEL the models play a script (``script.py``) that knows one question; with TEAM_MODEL, such as
anthropic:claude-sonnet-5, they answer any.
"""

from __future__ import annotations

import csv
import io
import os

from actors import App, Artifact, Budget, Team, ToolContext
from actors.toolbox import Chart, Python, Sql
from examples.agents.figures import database

QUESTION = (
    "On which continent did people gain most years of life expectancy between 1952 and 2007, and where did they lose "
    "some? Show the course of all continents in a chart."
)
MODEL = os.environ.get("TEAM_MODEL") or "scripted:examples.agents.script:model"

app = App("desk", version="1.0.0")
figures = app.use(Sql(f"sqlite:///{database()}", row_limit=400))
chart = app.use(Chart())
python = app.use(Python())


@app.tool(read_only=True)
async def export(ctx: ToolContext, query: str, name: str) -> Artifact:
    """Run one read-only SQL statement and keep its rows as a CSV file, for tool python to work on.

    Args:
        ctx: The call.
        query: One statement.
        name: The file's name, such as rows.csv.
    """
    table = await figures.run(query)
    text = io.StringIO()
    writer = csv.writer(text)
    writer.writerow([column.name for column in table.columns])
    writer.writerows(table.rows)
    return await ctx.artifact(name, text.getvalue().encode())


team = Team(
    app,
    "desk",
    planner=app.role("planner", model=MODEL),
    roles=[
        app.role("analyst", model=MODEL, tools=[figures, chart]),
        app.role("coder", model=MODEL, tools=[export, python]),
    ],
    reviewer=app.role("reviewer", model=MODEL, tools=[figures]),
    writer=app.role("writer", model=MODEL),
    budget=Budget(usd=2.0, turns=100),
)
