"""The model of the desk without a key: it plays each role by the book, for the one question of the demo.

What it says follows from its role and the conversation; every number comes from a tool's answer. It makes one mistake:
at first it counts countries, where it should count people, and is told so by the reviewer.
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from actors.model.message import ToolResult
from actors.model.model import ModelRequest
from actors.testing import ScriptedModel, say, use

FIRST, LAST = 1952, 2007
PLAIN = "round(avg(life_expectancy), 2)"
WEIGHTED = "round(sum(life_expectancy * population) / sum(population), 2)"
COURSE = "SELECT continent, year, {} AS years FROM countries GROUP BY continent, year ORDER BY continent, year"
LOSERS = (
    "SELECT a.country, a.life_expectancy AS was, b.life_expectancy AS became FROM countries a JOIN countries b "
    "ON b.country = a.country WHERE a.year = 1952 AND b.year = 2007 AND b.life_expectancy < a.life_expectancy "
    "ORDER BY b.life_expectancy - a.life_expectancy"
)
ROWS = "SELECT continent, year, life_expectancy, population FROM countries WHERE year IN (1952, 2007)"
COUNT = "SELECT count(*) FROM countries WHERE year = 2007"
PROGRAM = """import csv, json
plain, weighted = {}, {}
for row in csv.DictReader(open("rows.csv")):
    place = (row["continent"], row["year"])
    years, people = float(row["life_expectancy"]), int(row["population"])
    plain.setdefault(place, []).append(years)
    total = weighted.setdefault(place, [0.0, 0])
    total[0] += years * people
    total[1] += people
assert sum(map(len, plain.values())) == 284, "142 countries, two years"
table = {}
for (continent, year), values in sorted(plain.items()):
    sums = weighted[continent, year]
    table.setdefault(continent, {})[year] = [round(sum(values) / len(values), 2), round(sums[0] / sums[1], 2)]
print(json.dumps(table))
"""

_WORK = re.compile(r"^# Work (\w+), by \w+\n(.*?)(?=^# |\Z)", re.MULTILINE | re.DOTALL)
_SOURCE = re.compile(r"^- \[((\w+)\.\d+)\] (\w+) ", re.MULTILINE)
_FILE = re.compile(r"^- (\S+)$", re.MULTILINE)


def play(request: ModelRequest) -> Any:
    """The next words of whoever is asked."""
    _note(request)
    for opening, role in ROLES.items():
        if request.system.startswith(opening):
            return role(request)
    raise AssertionError(f"nobody is told {request.system[:60]!r}")


def _note(request: ModelRequest) -> None:
    """Each call leaves a line, if somebody wants to count them."""
    if ledger := os.environ.get("TEAM_LEDGER"):
        line = f"{request.system.split('.')[0]}: {len(request.messages)} messages\n"
        with Path(ledger).open("a") as file:
            file.write(line)


def plan(_: ModelRequest) -> Any:
    """Two questions that do not need each other, and a check of the first."""
    course = (
        f"Life expectancy by continent for each year from {FIRST} to {LAST}. Which continent gained most? Draw the "
        "course of all continents as a line chart."
    )
    return say({
        "reason": "The course and the losers are two questions; figures that matter are checked from the rows.",
        "tasks": [
            {"id": "t1", "role": "analyst", "task": course},
            {"id": "t2", "role": "analyst", "task": f"In which countries was it lower in {LAST} than in {FIRST}?"},
            {"id": "t3", "role": "coder", "task": "Compute the figures of t1 anew, from the rows.", "needs": ["t1"]},
        ],
    })  # fmt: skip


def analyse(request: ModelRequest) -> Any:
    """The schema, a query, for the course also a chart, then the answer."""
    given, seen = request.messages[0].text, list(_seen(request))
    is_course = given.startswith("Life expectancy by continent")
    by_people = "# Why it comes back" in given
    match len(seen):
        case 0:
            return use("sql_schema", {}, text="First I look at what there is.")
        case 1:
            query = COURSE.format(WEIGHTED if by_people else PLAIN) if is_course else LOSERS
            return use("sql", {"query": query})
        case 2 if is_course:
            title = f"Life expectancy by continent, {FIRST} to {LAST}"
            table = {"columns": seen[1]["columns"], "rows": seen[1]["rows"], "row_count": seen[1]["row_count"]}
            asked = {"kind": "line", "rows": table, "x": "year", "y": "years", "color": "continent", "title": title}
            return use("chart", {**asked, "formats": ["html", "json"]})
        case _:
            return say(_course_words(seen[1]["rows"], by_people) if is_course else _loser_words(seen[1]["rows"]))


def _course_words(rows: list[list[Any]], by_people: bool) -> str:
    years = {(continent, year): value for continent, year, value in rows}
    gains = {c: (years[c, FIRST], years[c, LAST]) for c in sorted({continent for continent, *_ in rows})}
    most = max(gains, key=lambda c: gains[c][1] - gains[c][0])
    lines = [f"- {c}: {then} to {now} (+{now - then:.2f})" for c, (then, now) in gains.items()]
    how = "Each country counts by its population." if by_people else "Each country counts alike."
    return f"{most} gained most, {gains[most][1] - gains[most][0]:.2f} years.\n" + "\n".join([*lines, how])


def _loser_words(rows: list[list[Any]]) -> str:
    lines = [f"- {country}: {then} to {now} ({now - then:.2f})" for country, then, now in rows]
    return f"In {len(rows)} of 142 countries it was lower:\n" + "\n".join(lines)


def check(request: ModelRequest) -> Any:
    """The rows as a file, a program that computes from them, and a comparison with what the analyst said."""
    seen = list(_seen(request))
    match len(seen):
        case 0:
            return use("export", {"query": ROWS, "name": "rows.csv"})
        case 1:
            return use("python", {"code": PROGRAM, "files": [seen[0]]})
        case _:
            return say(_checked(request.messages[0].text, seen[1]))


def _checked(told: str, ran: dict[str, Any]) -> str:
    if ran["outcome"] != "ok":
        return f"Nothing is confirmed: the program ended with {ran['outcome']}. {ran['error']}"
    table = json.loads(ran["stdout"])
    place = 1 if "by its population" in told else 0
    lines = []
    for continent, then, now in re.findall(r"^- (\w+): ([\d.]+) to ([\d.]+)", told, re.MULTILINE):
        found = [table[continent][str(year)][place] for year in (FIRST, LAST)]
        # Databases and Python round halves in different ways.
        is_so = all(abs(one - float(other)) < 0.011 for one, other in zip(found, (then, now), strict=True))
        lines.append(f"- {continent}: {'confirmed' if is_so else f'not confirmed, it is {found}'}")
    asia = table["Asia"][str(LAST)]
    note = f"Counted by country Asia has {asia[0]} years in {LAST}, counted by people {asia[1]}."
    return "Computed anew from the rows:\n" + "\n".join([*lines, note])


def review(request: ModelRequest) -> Any:
    """One look into the table; then what is counted wrongly goes back."""
    seen = list(_seen(request))
    if not seen:
        return use("sql", {"query": COUNT}, text="How many are there?")
    if "Each country counts alike." in request.messages[0].text:
        reason = (
            "The question is about people. An average over countries counts Iceland like China: weigh by population, "
            "and draw the chart from that."
        )
        return say({"returned": [{"task": "t1", "reason": reason}]})
    comment = "The figures are confirmed. They say nothing of what differs within a country."
    return say({"returned": [], "comment": comment})


def write(request: ModelRequest) -> Any:
    """The report: each statement with the marks of the calls that show it."""
    told = request.messages[0].text
    works = {task: text.strip() for task, text in _WORK.findall(told)}
    marks = {(task, tool): mark for mark, task, tool in _SOURCE.findall(told)}
    page = next(name for name in _FILE.findall(told) if name.endswith(".html"))
    course, losers = works["t1"].splitlines(), works["t2"].splitlines()
    said = told.partition("# The reviewer said last")[2].strip()
    lines = [
        "# Years of life, 1952 to 2007", "", f"{course[0]} [{marks['t1', 'sql']}]", "",
        *(f"{line} [{marks['t1', 'sql']}, {marks['t3', 'python']}]" for line in course[1:-1]), "",
        f"{course[-1]} The [course of all continents]({page}) as a chart [{marks['t1', 'chart']}].", "",
        "## Where it fell", "", f"{losers[0]} [{marks['t2', 'sql']}]", "",
        *(f"{line} [{marks['t2', 'sql']}]" for line in losers[1:]), "", "## What to know", "", said,
    ]  # fmt: skip
    return say("\n".join(lines))


def _seen(request: ModelRequest) -> Iterator[Any]:
    """What tools have answered in this conversation."""
    for message in request.messages:
        for part in message.parts:
            if isinstance(part, ToolResult):
                assert not part.is_error, part.content
                yield json.loads(part.content)


ROLES: dict[str, Callable[[ModelRequest], Any]] = {
    "You plan": plan, "You are an analyst": analyse, "You are a programmer": check, "You review": review,
    "You write": write,
}  # fmt: skip
model = ScriptedModel(play)
