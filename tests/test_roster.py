"""Which processes a node starts: pure, from descriptions to child specs."""

from __future__ import annotations

import pytest

from actors import App, Job, Limits, UsageError
from actors.components.component import ComponentInfo
from actors.node.roster import Choice, default_stall_s, policies, rescaled, roster
from supervisor.child import ChildSpec, validate_specs
from supervisor.restart import Group

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
    """A tool has its own, hosts and gateway the node's; a shared host has the lowest ceilings among its jobs."""
    made = specs(stall_s=20.0)
    assert {name: made[name].stall_s for name in ("quote-1", "mail-v1-1", "host-1", "risky-1", "gateway")} == {
        "quote-1": 30, "mail-v1-1": 15, "host-1": 20, "risky-1": 90, "gateway": 20,
    }  # fmt: skip
    assert made["quote-1"].limits == Limits(memory_bytes=2**30)
    assert made["host-1"].limits == Limits(memory_bytes=2**28, cpu_s=50, cpu_window_s=600)
    assert not made["gateway"].limits


def test_the_nodes_own_time_comes_from_the_environment() -> None:
    """What is no time is refused before anything starts."""
    assert default_stall_s({}) == 15
    assert default_stall_s({"CALLBOARD_STALL_S": "40"}) == 40
    for text in ("0", "0.9", "-1", "soon", "inf", "nan"):
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


# ---- groups

grouped = App("grouped", version="1.0.0", groups={"line": Group("rest_for_one"), "spare": Group()})


@grouped.job(group="line")
async def pack(job: Job) -> str:
    """The first of the line."""
    return job.id


@grouped.tool(group="line", restart="temporary")
async def cut(n: int) -> int:
    """The second of the line."""
    return n


@grouped.job
async def alone(job: Job) -> str:
    """In no group: it shares its host with no job of one."""
    return job.id


@grouped.job(group="line", replicas=2, stall_s=40)
async def send(job: Job) -> str:
    """Shares the host of ``pack``."""
    return job.id


@grouped.tool(group="line")
async def glue(n: int) -> int:
    """The third of the line."""
    return n


def infos(of: App) -> list[ComponentInfo]:
    """What ``describe`` tells."""
    return [c.info() for c in of.components]


def test_a_group_stands_in_the_order_of_declaration() -> None:
    """Tools and hosts of one group: rest_for_one goes by this order. Hosts in no group come after the tools."""
    made = roster("m:app", infos(grouped), Choice())
    assert [(spec.name, spec.group) for spec in made] == [
        ("line-host-1", "line"), ("line-host-2", "line"), ("cut-1", "line"), ("glue-1", "line"), ("host-1", "host"),
        ("gateway", "gateway"),
    ]  # fmt: skip
    by_name = {spec.name: spec for spec in made}
    assert by_name["line-host-1"].serves == ("pack", "send")
    assert by_name["line-host-1"].argv[-2:] == ("pack", "send")
    assert (by_name["line-host-1"].kind, by_name["line-host-1"].stall_s) == ("permanent", 40)
    assert by_name["cut-1"].kind == "temporary"
    assert policies(grouped.groups, made) == {"line": Group("rest_for_one")}


def test_a_group_with_the_name_of_something_else_is_refused() -> None:
    """Else a tool that says nothing would be restarted with a group of the same name."""
    clash = App("clash", groups={"cut": Group("one_for_all"), "glue": Group()})
    clash.tool(group="cut")(glue.fn)
    assert len(roster("m:app", infos(clash), Choice())) == 2
    clash.tool(cut.fn)
    with pytest.raises(UsageError, match="group 'cut' of the app has the name of something"):
        roster("m:app", infos(clash), Choice())


@pytest.mark.parametrize(
    ("name", "count", "expected"),
    [
        ("quote", 4, {"quote": 4}), ("mail", 3, {"mail-v1": 3, "mail-v2": 3}), ("order", 5, {"host": 5}),
        ("host", 2, {"host": 2}), ("risky", 0, {"risky": 0}),
    ],
)  # fmt: skip
def test_a_component_is_scaled_with_all_that_it_shares_processes_with(
    name: str, count: int, expected: dict[str, int]
) -> None:
    """All majors of a tool; all jobs of a host, however they were scaled before; nothing else changes."""
    before = Choice(replicas={"report": 7})
    choice = rescaled(before, infos(app), name, count)
    sizes = [
        {group: [spec.group for spec in roster("m:app", infos(app), each)].count(group) for group in GROUPS}
        for each in (before, choice)
    ]
    assert sizes[1] == sizes[0] | expected


GROUPS = ("quote", "mail-v1", "mail-v2", "host", "risky", "gateway")


@pytest.mark.parametrize(
    ("name", "count", "said"),
    [("qoute", 2, "no component 'qoute'"), ("quote", -1, "-1 processes"), ("quote", 100_000, "cannot be"),
     ("mail", 2, "no component 'mail'")],
)  # fmt: skip
def test_wrong_scales_are_refused(name: str, count: int, said: str) -> None:
    """A component that is not there or does not run here, and numbers that nobody means."""
    with pytest.raises(UsageError, match=said):
        rescaled(Choice(without=("mail",)), infos(app), name, count)
