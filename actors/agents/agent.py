"""What an agent's function is written with: a Job that can also have its model work on something."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, TypeVar, overload

import msgspec

from actors.agents.answer import Answer
from actors.agents.offer import offer
from actors.agents.purse import Purse
from actors.agents.run import RUN, Run, RunRecord
from actors.agents.tool_use import MadeCall
from actors.budgets.accounts import account_key
from actors.model.model import Usage
from actors.operations.job import Job
from actors.threads.thread import check_thread, lock_of
from actors.threads.thread_turn import ThreadTurn

if TYPE_CHECKING:
    from actors.agents.settings import AgentSettings
    from actors.operations.operations import Operations

T = TypeVar("T")


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
        run = Run(self._operations, self._settings, self._name, self._purse, record, answer)
        try:
            value = await run.to_its_end()
            if turn is not None and record.earlier is not None:
                await turn.save(record.earlier, prompt, run.conversation)
            await self._purse.close()
            return value
        finally:
            self.calls += run.calls
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
