"""The front door: an App collects the components that a module declares. It runs nothing; a node does that."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any, Concatenate, ParamSpec, TypeVar, Unpack, overload

from actors.assets.declaring import AssetDeclarations
from actors.components.caller import folder_of_caller
from actors.components.component import (
    DEFAULT_CONCURRENCY,
    DEFAULT_STALL_S,
    DEFAULT_TOOL_TIMEOUT_S,
    Component,
    Options,
    declare,
)
from actors.components.decorators import AgentDecorator, JobDecorator, ToolDecorator
from actors.components.version import parse_version
from bus.errors import UsageError
from bus.subjects import CallKind, check_name
from supervisor.at_once import AtOnce
from supervisor.breaker import Breaker
from supervisor.limits import Limits
from supervisor.rate import Rate
from supervisor.restart import Group, RestartKind
from supervisor.retry import Retry

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Mapping, Sequence

    from actors.agents.approval_rule import RequireApproval
    from actors.agents.declaring import AgentComponent
    from actors.budgets.budget import Budget
    from actors.context.policy import Context
    from actors.model.model import Model
    from actors.operations.job import Job
    from actors.roles.overrides import RoleOverrides
    from actors.roles.role import Role
    from actors.toolbox.kit import Kit
    from actors.tools.tool_context import ToolContext
    from actors.workflow.document import Document

P = ParamSpec("P")
R = TypeVar("R")
K = TypeVar("K", bound="Kit")
C = TypeVar("C", bound=Component[..., Any])

_DEFAULT_RETRY = Retry()
_DEFAULT_BREAKER = Breaker()
_NO_LIMITS = Limits()


class App(AssetDeclarations):
    """A named set of components, versioned together unless a component says otherwise.

    ``groups`` are its supervision groups by name, for components that say ``group=``.
    Raises: UsageError if the name cannot be part of a subject or the version is no semantic version.
    """

    def __init__(
        self, name: str, *, version: str = "0.1.0", description: str = "", groups: Mapping[str, Group] | None = None
    ) -> None:
        self.name = check_name(name, "name of the app")
        parse_version(version, f"version of app {name}")
        self.version = version
        self.description = description
        self.groups = dict(groups or {})
        self.components: list[Component[..., Any]] = []
        self.assets = {}
        self.kits: list[Kit] = []

    def __repr__(self) -> str:
        return f"<App {self.name} {self.version}, {len(self.components)} components>"

    @overload
    def tool(self, fn: Callable[Concatenate[ToolContext, P], Awaitable[R]], /) -> Component[P, R]: ...
    @overload
    def tool(self, fn: Callable[Concatenate[ToolContext, P], R], /) -> Component[P, R]: ...
    @overload
    def tool(self, fn: Callable[P, Awaitable[R]], /) -> Component[P, R]: ...
    @overload
    def tool(self, fn: Callable[P, R], /) -> Component[P, R]: ...
    @overload
    def tool(
        self,
        /,
        *,
        name: str | None = None,
        version: str | None = None,
        description: str | None = None,
        retry: Retry = ...,
        timeout_s: float = ...,
        replicas: int = 1,
        concurrency: int = ...,
        group: str = "",
        restart: RestartKind = "permanent",
        stall_s: float = ...,
        limits: Limits = ...,
        breaker: Breaker | None = ...,
        at_once: AtOnce | None = None,
        rate: Rate | None = None,
        cache_ttl_s: float | None = None,
        read_only: bool = False,
    ) -> ToolDecorator: ...
    def tool(
        self,
        fn: Callable[..., Any] | None = None,
        /,
        *,
        name: str | None = None,
        version: str | None = None,
        description: str | None = None,
        retry: Retry = _DEFAULT_RETRY,
        timeout_s: float = DEFAULT_TOOL_TIMEOUT_S,
        replicas: int = 1,
        concurrency: int = DEFAULT_CONCURRENCY,
        group: str = "",
        restart: RestartKind = "permanent",
        stall_s: float = DEFAULT_STALL_S,
        limits: Limits = _NO_LIMITS,
        breaker: Breaker | None = _DEFAULT_BREAKER,
        at_once: AtOnce | None = None,
        rate: Rate | None = None,
        cache_ttl_s: float | None = None,
        read_only: bool = False,
    ) -> Any:
        """Declare a tool: a function, async or not, that does one thing and may be retried.

        ``timeout_s`` bounds one attempt, ``replicas`` is how many processes run it on a node, and ``concurrency`` is
        how many calls each of them takes at once. ``group`` is one of the app's supervision groups (empty: its own),
        ``restart`` whether a process that ended is started again, ``stall_s`` how long it may give no sign of life,
        ``limits`` what it may use of the machine, ``breaker`` when its calls are held back (None: never),
        ``at_once`` how many calls run at the same time and ``rate`` how often it may be called, both of all replicas
        together. ``cache_ttl_s``: for how long an output may
        answer other calls with the same input, of the same version of the tool and the same workspace. ``read_only``:
        it changes nothing anywhere, so an agent that may only read may use it.
        Raises: UsageError if the function cannot be a tool.
        """
        options = Options(name=name, version=version, description=description, retry=retry, timeout_s=timeout_s,
                          replicas=replicas, concurrency=concurrency, group=group, restart=restart, stall_s=stall_s,
                          limits=limits, breaker=breaker, rate=rate, read_only=read_only,
                          at_once=at_once, cache_ttl_s=cache_ttl_s)  # fmt: skip
        return self._decorate("tool", fn, options)

    @overload
    def job(self, fn: Callable[Concatenate[Job, P], Awaitable[R]], /) -> Component[P, R]: ...
    @overload
    def job(
        self,
        /,
        *,
        name: str | None = None,
        version: str | None = None,
        description: str | None = None,
        timeout_s: float | None = None,
        replicas: int = 1,
        isolated: bool = False,
        group: str = "",
        stall_s: float = ...,
        limits: Limits = ...,
        at_once: AtOnce | None = None,
        rate: Rate | None = None,
    ) -> JobDecorator: ...
    def job(
        self,
        fn: Callable[..., Any] | None = None,
        /,
        *,
        name: str | None = None,
        version: str | None = None,
        description: str | None = None,
        timeout_s: float | None = None,
        replicas: int = 1,
        isolated: bool = False,
        group: str = "",
        stall_s: float = DEFAULT_STALL_S,
        limits: Limits = _NO_LIMITS,
        at_once: AtOnce | None = None,
        rate: Rate | None = None,
    ) -> Any:
        """Declare a job: an async function whose first parameter is a Job, durable from step to step.

        ``timeout_s`` bounds the whole run (None: no limit), ``isolated`` gives each run a process of its own.
        ``group``, ``stall_s`` and ``limits`` as for a tool; jobs that share a host share the strictest of each.
        ``at_once`` is how many run at the same time, ``rate`` how often one begins; the others wait.
        Raises: UsageError if the function cannot be a job.
        """
        options = Options(name=name, version=version, description=description, timeout_s=timeout_s, replicas=replicas,
                          isolated=isolated, group=group, stall_s=stall_s, limits=limits,
                          at_once=at_once, rate=rate)  # fmt: skip
        return self._decorate("job", fn, options)

    def agent(
        self,
        *,
        model: str | Model,
        instructions: str = "",
        tools: Sequence[Component[..., Any] | Kit | str] = (),
        output: Any = None,
        approve: Sequence[RequireApproval | str] = (),
        read_only: bool = False,
        budget: Budget | None = None,
        turns: int = 20,
        mendings: int = 3,
        max_tokens: int = 4096,
        temperature: float | None = None,
        thinking_tokens: int = 0,
        context: Context | None = None,
        retry: Retry | None = None,
        name: str | None = None,
        version: str | None = None,
        description: str | None = None,
        timeout_s: float | None = None,
        replicas: int = 1,
        group: str = "",
        stall_s: float = DEFAULT_STALL_S,
        limits: Limits = _NO_LIMITS,
        at_once: AtOnce | None = None,
        rate: Rate | None = None,
    ) -> AgentDecorator:
        """Declare an agent: an async function whose first parameter is an Agent; a job with processes of its own.

        ``model`` is a reference such as ``"anthropic:claude-sonnet-5"``, or a Model. ``instructions`` are what the
        model is told (the function's docstring if they are empty), ``tools`` all that it may use, ``output`` what a
        run gives (None: what the function returns). ``approve``: what people have to allow, as rules or names of
        tools. ``read_only``: of its tools only those that change nothing are offered. ``budget`` is what a job of it
        and all that it starts may use up. ``turns`` and ``mendings`` bound a run, ``max_tokens`` an answer;
        ``context`` is how a conversation is kept under a limit (None: the model's, by leaving the oldest turns out);
        ``retry`` is how calls of the model are tried again. The rest as for a job.
        Raises: UsageError if the function cannot be an agent.
        """
        from actors.agents.declaring import declare_agent
        from actors.agents.settings import make_settings

        settings = make_settings(
            model=model, instructions=instructions, tools=tools, output=output, approve=approve, read_only=read_only,
            budget=budget, turns=turns, mendings=mendings, max_tokens=max_tokens, temperature=temperature,
            thinking_tokens=thinking_tokens, context=context, retry=retry,
        )  # fmt: skip
        options = Options(name=name, version=version, description=description, timeout_s=timeout_s, replicas=replicas,
                          group=group, stall_s=stall_s, limits=limits, at_once=at_once, rate=rate)  # fmt: skip
        self._check_group(options)

        def decorate(fn: Callable[..., Any]) -> Any:
            return self._append(declare_agent(fn, settings, app=self.name, app_version=self.version, options=options))

        return decorate

    def role(self, role: str | Role, /, **overrides: Unpack[RoleOverrides]) -> AgentComponent:
        """Declare an agent by a role: one that comes with Callboard by its name, or ``Role.load("analyst.md")``.

        It takes ``task`` and ``context``. Tools that a role names are those that the app has by then, and ``tools=``
        is instead of them. Raises: UsageError for what cannot be.
        """
        from actors.roles.declaring import declare_role
        from actors.roles.role import Role

        known = Role.shipped(role) if isinstance(role, str) else role
        return self._append(declare_role(self, known, overrides))

    def agent_file(self, path: str | Path, /, **overrides: Unpack[RoleOverrides]) -> AgentComponent:
        """Declare an agent by a file, from the folder of the module that says so; as ``role`` does.

        Raises: UsageError that says all that is wrong with the file.
        """
        from actors.roles.declaring import declare_role, role_of

        return self._append(declare_role(self, role_of(self, folder_of_caller() / path), overrides))

    def workflow(
        self,
        document: Document | Mapping[str, Any] | str | Path,
        /,
        *,
        params: Mapping[str, Any] | None = None,
    ) -> Component[..., Any]:
        """Make a document a job of this app: a file, from the folder of the module that says so, or one that is made.

        A node publishes it before it starts, so that jobs find their version when the app has moved to a newer one.
        ``params`` are values of its parameters. Raises: UsageError that says all that is wrong with it.
        """
        from actors.interpreter.shipped import shipped_component

        return self._append(shipped_component(document, app=self.name, params=params or {}, folder=folder_of_caller()))

    def use(self, kit: K) -> K:
        """Take the tools of a kit into this app; the kit itself comes back, with its ``tools``.

        Raises: UsageError for settings that cannot be, or a tool whose name the app has already.
        """
        kit.tools = kit.declare(self)
        self.kits.append(kit)
        return kit

    def add(self, component: Component[..., Any], /) -> Component[..., Any]:
        """Take a component that was made elsewhere, by a kit say; the component itself comes back.

        Raises: UsageError if the app has that component already.
        """
        return self._append(component)

    @property
    def documents(self) -> list[Document]:
        """Those of its workflows that are documents."""
        found = [component for component in self.components if component.keeps_version]
        if not found:
            return []
        from actors.interpreter.component import WorkflowComponent  # heavy, and most apps have none

        return [component.document for component in found if isinstance(component, WorkflowComponent)]

    def find(self, kind: CallKind, name: str, major: int | None = None) -> Component[..., Any] | None:
        """The newest version of that component, within ``major`` if given; None if there is none."""
        found = [c for c in self._named(kind, name) if major is None or c.major == major]
        return max(found, key=lambda c: parse_version(c.version, "version"), default=None)

    def _decorate(self, kind: CallKind, fn: Callable[..., Any] | None, options: Options) -> Any:
        if fn is not None:
            return self._add(kind, fn, options)
        return lambda function: self._add(kind, function, options)

    def _add(self, kind: CallKind, fn: Callable[..., Any], options: Options) -> Component[..., Any]:
        self._check_group(options)
        return self._append(declare(kind, fn, app=self.name, app_version=self.version, options=options))

    def _check_group(self, options: Options) -> None:
        if options.group and options.group not in self.groups:
            known = ", ".join(self.groups) or "none"
            raise UsageError(
                f"app {self.name} has no group {options.group!r}", code="unknown_group", path="group",
                hint=f"there are: {known}; App(..., groups={{{options.group!r}: Group(...)}}) makes it",
            )  # fmt: skip

    def _append(self, component: C) -> C:
        kind, name = component.kind, component.name
        if kind != "tool" and self._named("agent" if kind == "job" else "job", name):
            raise UsageError(
                f"app {self.name} has a job and an agent {name}", code="duplicate_component",
                hint="both are asked for as jobs: give one of them another name",
            )  # fmt: skip
        for other in self._named(kind, name):
            if other.version == component.version:
                where = "a document" if other.keeps_version else f"{other.fn.__module__}.{other.fn.__qualname__}"
                raise UsageError(
                    f"app {self.name} has a {kind} {name} {component.version} already: {where}",
                    code="duplicate_component",
                    hint="give one of them another name or version",
                )
            if other.keeps_version != component.keeps_version:
                raise UsageError(
                    f"app {self.name} has a {kind} {name} as a document and as a function", code="duplicate_component",
                    hint="give one of them another name",
                )  # fmt: skip
        self.components.append(component)
        return component

    def _named(self, kind: CallKind, name: str) -> list[Component[..., Any]]:
        return [c for c in self.components if c.kind == kind and c.name == name]
