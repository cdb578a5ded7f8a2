"""Which processes a node starts: pure, from descriptions to child specs."""

from __future__ import annotations

import pytest

from actors import App, Job, Limits, UsageError
from actors.roster import Choice, default_stall_s, roster
from supervisor.child import ChildSpec, validate_specs

app = App("roster", version="1.0.0")


@app.tool(replicas=2, stall_s=30, limits=Limits(memory_bytes=2**30))
async def quote(sku: str) -> int:
    """A tool with two replicas."""
    return len(sku)


@app.tool
async def mail(to: str) -> str:
    """A tool, major 1."""
    return to


@app.tool(name="mail", version="2.0.0")
async def mail2(to: str) -> str:
    """The same tool, major 2."""
    return to


@app.job(limits=Limits(memory_bytes=2**28, cpu_s=30))
async def order(job: Job) -> str:
    """A job that shares its host."""
    return job.id


@app.job(limits=Limits(memory_bytes=2**29, cpu_s=50, cpu_window_s=600))
async def report(job: Job) -> str:
    """Another job in the shared host."""
    return job.id


@app.job(isolated=True, replicas=3, stall_s=90)
async def risky(job: Job) -> str:
    """A job that has a process to itself."""
    return job.id


def specs(**choice: object) -> dict[str, ChildSpec]:
    """The child specs by name."""
    made = roster("m:app", [c.info() for c in app.components], Choice(**choice))  # type: ignore[arg-type]
    validate_specs(made)
    return {spec.name: spec for spec in made}


def test_every_component_gets_its_processes() -> None:
    """Replicas, majors side by side, one shared host, isolated hosts with one job each, and the gateway."""
    made = specs()
    assert list(made) == [
        "quote-1", "quote-2", "mail-v1-1", "mail-v2-1", "host-1", "risky-1", "risky-2", "risky-3", "gateway",
    ]  # fmt: skip
    assert made["mail-v2-1"].argv[-3:] == ("m:app", "mail", "2")
    assert made["host-1"].argv[-3:] == ("m:app", "order", "report")
    assert made["risky-1"].argv[-4:] == ("--capacity", "1", "m:app", "risky")


def test_each_child_has_its_time_and_its_limits() -> None:
    """A tool has its own, hosts and gateway the node's; a shared host has the highest ceilings among its jobs."""
    made = specs(stall_s=20.0)
    assert {name: made[name].stall_s for name in ("quote-1", "mail-v1-1", "host-1", "risky-1", "gateway")} == {
        "quote-1": 30, "mail-v1-1": 15, "host-1": 20, "risky-1": 90, "gateway": 20,
    }  # fmt: skip
    assert made["quote-1"].limits == Limits(memory_bytes=2**30)
    assert made["host-1"].limits == Limits(memory_bytes=2**29, cpu_s=30)
    assert not made["gateway"].limits


def test_the_nodes_own_time_comes_from_the_environment() -> None:
    """What is no time is refused before anything starts."""
    assert default_stall_s({}) == 15
    assert default_stall_s({"CALLBOARD_STALL_S": "40"}) == 40
    for text in ("0", "-1", "soon", "inf", "nan"):
        with pytest.raises(UsageError, match="CALLBOARD_STALL_S is"):
            default_stall_s({"CALLBOARD_STALL_S": text})


def test_replicas_of_one_component_share_a_group() -> None:
    """So the restarts of one component never give up another."""
    made = specs()
    assert made["quote-1"].group == made["quote-2"].group
    assert len({spec.group for spec in made.values()}) == 6


def test_only_and_except_and_replicas() -> None:
    """What is chosen runs, as often as asked, and nothing else."""
    assert list(specs(only=("quote",), replicas={"quote": 3}, gateway=False)) == ["quote-1", "quote-2", "quote-3"]
    assert list(specs(without=("mail", "risky", "quote"))) == ["host-1", "gateway"]


@pytest.mark.parametrize(
    ("choice", "option"),
    [
        ({"only": ("qoute",)}, "--only"),
        ({"without": ("qoute",)}, "--except"),
        ({"replicas": {"qoute": 2}}, "--replicas"),
    ],
)
def test_unknown_names_are_refused_with_what_is_near(choice: dict[str, object], option: str) -> None:
    """A typing error is told with its option and the nearest name."""
    with pytest.raises(UsageError, match="did you mean 'quote'") as refused:
        specs(**choice)
    assert refused.value.path == option
