"""What stands at the top of a file that describes an agent, and the JSON Schema of it. Pure."""

from __future__ import annotations

from typing import Annotated, Any, Literal, get_args

import msgspec
from msgspec import Meta

from actors.agents.approval_rule import RequireApproval
from actors.agents.settings import DEFAULT_MAX_TOKENS, DEFAULT_MENDINGS, DEFAULT_TURNS
from actors.budgets.budget import Budget

OutputName = Literal["text", "work", "plan", "verdict"]
OUTPUTS: tuple[OutputName, ...] = get_args(OutputName)

_TOOLS = "Names of tools, of kits, or references such as mail.send@2; with ? at its end one may be missing."
_OUTPUT = "text: its words; work: its words with what they rest on; plan and verdict are for teams."


class FrontMatter(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, omit_defaults=True):
    """The settings of an agent as a file says them; the file's text is its instructions."""

    name: Annotated[str, Meta(description="What it is asked for by.")]
    description: Annotated[str, Meta(description="One line for people, and for planners that choose among roles.")] = ""
    version: Annotated[str | None, Meta(description="Its own version; without it the app's.")] = None
    model: Annotated[str, Meta(description="A reference, such as anthropic:claude-sonnet-5.")] = ""
    tools: Annotated[tuple[str, ...], Meta(description=_TOOLS)] = ()
    output: Annotated[OutputName, Meta(description=_OUTPUT)] = "text"
    read_only: Annotated[bool, Meta(description="Of its tools only those that change nothing are offered.")] = False
    approve: Annotated[
        tuple[str | RequireApproval, ...], Meta(description="What people have to allow: tools, or rules with when.")
    ] = ()
    budget: Annotated[Budget | None, Meta(description="What one job of it may use up.")] = None
    turns: Annotated[int, Meta(ge=1, description="How often the model is asked at most.")] = DEFAULT_TURNS
    mendings: Annotated[int, Meta(ge=0, description="How many answers in a row may be wrong.")] = DEFAULT_MENDINGS
    max_tokens: Annotated[int, Meta(ge=1, description="The longest answer, in tokens.")] = DEFAULT_MAX_TOKENS
    temperature: Annotated[float, Meta(ge=0, le=2)] | None = None
    thinking_tokens: Annotated[int, Meta(ge=0, description="How much it may think, 0 for not at all.")] = 0


def front_matter_schema() -> dict[str, Any]:
    """JSON Schema (2020-12), for editors and for the check itself."""
    _, defs = msgspec.json.schema_components((FrontMatter,), ref_template="#/$defs/{name}")
    top = defs.pop("FrontMatter")
    for name in ("RequireApproval", "Budget", "Escalation"):
        defs[name] = {**defs[name], "additionalProperties": False}
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema", **top,
        "title": "Callboard agent file", "$defs": defs,
    }  # fmt: skip
