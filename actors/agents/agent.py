"""What an agent's function is written with: a Job that can also have its model work on something."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, TypeVar, overload

import msgspec
from msgspec.structs import replace

from actors.agents.answer import Answer
from actors.agents.conversation import (
    AskAgain,
    Conversation,
    Done,
    GiveUp,
    Next,
    Rules,
    UseTools,
    begin,
    heard,
    observed,
)
from actors.agents.model_caller import ModelCaller
from actors.agents.offer import Offered, offer
from actors.agents.purse import Purse
from actors.agents.tool_use import MadeCall, Observation, ToolUser
from actors.budgets.accounts import account_key
from actors.context.keeper import ContextKeeper
from actors.context.policy import Context
from actors.context.shortening import counted, noted
from actors.jobs.call_policy import CallPolicy
from actors.model.model import ModelRequest, Usage
from actors.model.token_estimate import estimate_request
from actors.operations.job import Job
from actors.threads.thread import Earlier, check_thread, lock_of
from actors.threads.thread_turn import ThreadTurn, messages_of
from bus.failure import CallFailed

if TYPE_CHECKING:
    from actors.agents.settings import AgentSettings
    from actors.operations.operations import Operations

T = TypeVar("T")

RUN = "run"


class RunRecord(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What a run begins with, as the log keeps it: it means the same to its end, whatever the code says by then."""

    prompt: str
    model: str
    instructions: str = ""
    tools: tuple[Offered, ...] = ()
    output_schema: dict[str, Any] | None = None
    context: Context = Context()
    earlier: Earlier | None = None


class Agent(Job):
    """The running agent, first parameter of each ``@app.agent`` function. All that a Job can do, it can."""

    def __init__(self, operations: Operations, settings: AgentSettings, name: str) -> None:
        super().__init__(operations)
        self._settings = settings
        self._name = name
        self._purse = Purse(operations, name)
        if settings.budget is not None:  # what it starts draws on its budget too
            own = account_key(operations.workspace, operations.job)
            operations.budgets = tuple(dict.fromkeys((own, *operations.budgets)))
        self.calls: list[MadeCall] = []
        self.usage = Usage()
        self.cost_usd = 0.0

    @overload
    async def run(self, prompt: str, *, instructions: str | None = None, thread: str | None = None) -> Any: ...
    @overload
    async def run(
        self, prompt: str, *, output: type[T], instructions: str | None = None, thread: str | None = None
    ) -> T: ...

    async def run(
        self, prompt: str, *, output: Any = None, instructions: str | None = None, thread: str | None = None
    ) -> Any:
        """Have the model work on ``prompt`` with the agent's tools until it gives an answer, and return that.

        The answer is of the type ``output`` (None: what the agent's decorator says, else what its function returns;
        ``str``: the model's words). ``instructions`` are what the model is told in this run (None: what the decorator
        says). They and the prompt are recorded at its beginning, and what is recorded counts to its end. Each call of
        the model and of a tool is a step on record: after a crash the run goes on at the first that is not.

        With a ``thread`` the model is told first what was said in the runs on that thread before, by whatever agent of
        the workspace, and prompt and answer are added to it. Of several runs on a thread each waits for those before
        it. Raises: CallFailed if the model cannot be asked, refuses, gets it wrong too often or finds no answer in its
        turns; UsageError for a thread that cannot be.
        """
        answer = Answer(self._settings.output if output is None else output, f"the answer of agent {self._name}")
        told = self._settings.instructions if instructions is None else instructions
        if thread is None:
            return await self._run(prompt, answer, told, None)
        async with self.lock(lock_of(check_thread(thread))):
            return await self._run(prompt, answer, told, ThreadTurn(self._operations, thread, self._name))

    async def _run(self, prompt: str, answer: Answer, told: str, turn: ThreadTurn | None) -> Any:
        record = await self._begin(prompt, answer, told, turn)
        run = _Run(self, self._settings, record, answer)
        try:
            value = await run.to_its_end()
            if turn is not None and record.earlier is not None:
                await turn.save(record.earlier, prompt, run.conversation)
            await self._purse.close()
            return value
        finally:
            self.usage += run.conversation.usage
            self.cost_usd += run.conversation.cost_usd

    async def open_budget(self) -> None:
        """Before all else, since whatever the agent starts draws on its budget too."""
        if self._settings.budget is not None:
            await self._purse.open(self._settings.budget)

    async def _begin(self, prompt: str, answer: Answer, told: str, turn: ThreadTurn | None) -> RunRecord:
        settings, hosting = self._settings, self._operations.hosting

        async def record() -> RunRecord:
            model = await hosting.models.open(settings.model)
            tools = await offer(hosting, settings.tools, read_only=settings.read_only)
            return RunRecord(
                prompt=prompt, model=model.name, instructions=told, tools=tuple(tools),
                output_schema=answer.schema, context=settings.context.for_model(model.name, settings.max_tokens),
                earlier=await turn.earlier() if turn is not None else None,
            )  # fmt: skip

        return msgspec.convert(await self._operations.record(RUN, record, op=RUN), RunRecord)


class _Run:
    """One run: what the conversation says is done, what came of it is said to the conversation."""

    def __init__(self, agent: Agent, settings: AgentSettings, record: RunRecord, answer: Answer) -> None:
        self.conversation = _beginning(record)
        self._agent = agent
        self._settings = settings
        self._record = record
        self._rules = Rules(answer, settings.turns, settings.mendings)
        ops = agent.operations
        self._caller = ModelCaller(ops, settings.model, settings.retry, agent._purse)
        self._tools = ToolUser(ops, list(record.tools), settings.approve, CallPolicy(), agent._name)
        self._fixed = estimate_request(replace(self._request(), messages=()))
        self._keeper = ContextKeeper(ops, self._caller, record.context, record.model, self._fixed)

    async def to_its_end(self) -> Any:
        """Raises: CallFailed."""
        following: Next = AskAgain()
        while True:
            match following:
                case AskAgain():
                    following = await self._ask()
                case UseTools():
                    following = await self._use(following)
                case Done(value):
                    return value
                case GiveUp(failure):
                    raise CallFailed(failure)

    async def _ask(self) -> Next:
        self.conversation = await self._keeper.keep(self.conversation)
        try:
            step = await self._caller.ask(self._request())
        except CallFailed as error:
            self.conversation = await self._keeper.relieve(self.conversation, error)
            step = await self._caller.ask(self._request())
        asked = len(self.conversation.messages)
        conversation, following = heard(self.conversation, step, self._rules)
        self.conversation = counted(conversation, step.usage, self._fixed, asked + bool(step.reply.message.parts))
        return following

    def _request(self) -> ModelRequest:
        settings, record = self._settings, self._record
        return ModelRequest(
            model=record.model, messages=self.conversation.messages, system=record.instructions,
            tools=tuple(tool.spec for tool in record.tools), max_tokens=settings.max_tokens,
            temperature=settings.temperature, thinking_tokens=settings.thinking_tokens,
            output_schema=record.output_schema,
        )  # fmt: skip

    async def _use(self, asked: UseTools) -> Next:
        """All side by side, each in a branch of its own; the model hears of all of them at once, in its order."""
        conversation = self.conversation
        facts = {"cost_usd": conversation.cost_usd, "tokens": conversation.usage.tokens, "turn": conversation.turns}
        why = conversation.messages[-1].text
        seen: tuple[Observation, ...] = await self._agent.gather(
            *(self._tools.use(use, why, facts) for use in asked.uses)
        )
        self._agent.calls += [observation.made for observation in seen if observation.made]
        wrong = "; ".join(o.wrong for o in seen) if all(o.wrong for o in seen) else ""
        results = tuple(observation.result for observation in seen)
        self.conversation, following = observed(self.conversation, results, wrong, self._rules)
        return following


def _beginning(record: RunRecord) -> Conversation:
    earlier = record.earlier
    if earlier is None:
        return begin(record.prompt)
    return noted(begin(record.prompt, messages_of(earlier)), earlier.first - earlier.summed_up, earlier.summary)
