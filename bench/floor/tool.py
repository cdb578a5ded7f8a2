"""The floor's tool: ``python -m bench.floor.tool URL STYLE``."""

from __future__ import annotations

from nats.aio.client import Client
from nats.aio.msg import Msg

from bench.floor import contract, process, streams
from bench.floor.appender import Appender, appender
from bench.floor.intake import take_from


class Tool:
    """Answers commands: append the reply, then acknowledge, so a crash between the two only repeats the call."""

    def __init__(self, log: Appender) -> None:
        self._log = log

    async def run(self, command: Msg) -> None:
        called = contract.decode_called(command.data)
        quote = contract.price(called.input.sku, called.input.qty)
        reply = contract.Replied(called.job, contract.now(), called.call, called.attempt, quote)
        await (await self._log.send(f"{contract.log_of(called.job)}.reply.completed", contract.encode(reply)))
        await command.ack()


async def serve(nc: Client, style: str) -> object:
    """Take commands for as long as the process lives."""
    tool = Tool(await appender(nc, style))
    return await take_from(nc, streams.CALLS, tool.run, style)


if __name__ == "__main__":
    process.main(serve)
