"""Models behind the chat completions API, through the ``openai`` package: OpenAI's own, vLLM, Ollama, and many others.

    pip install 'callboard[openai]'

One call is one request: the package's own retries are off, since the durable step around the call does them. The
package takes a second to import, so the first call does that, and in a thread: a node that is deaf so long counts as
ill.
"""

from __future__ import annotations

import asyncio
import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any

import msgspec

from actors.model.model import Listen, ModelReply, ModelRequest
from actors.model.model_ref import ModelRef
from actors.model.openai_failure import shown, status_failure, stream_failure
from actors.model.openai_server import OpenAIServer, server_of
from actors.model.openai_wire import Dialect, Gathered, answer_of, body_of
from actors.model.token_estimate import estimate_request
from bus.errors import UsageError
from bus.failure import RetryableError, TerminalError

if TYPE_CHECKING:
    from openai import AsyncOpenAI

CONNECT_S = 10.0
# A shorter key is the word that stands for none.
SECRET_CHARS = 8
_ACCOUNT_HEADERS = ("OpenAI-Organization", "OpenAI-Project")


class OpenAIModel:
    """A Model that is served in the words of OpenAI's chat completions.

    ``server`` says where and with which key; without one it is OpenAI's own, or the one of OPENAI_BASE_URL.
    ``sends_thoughts`` sends the model's reasoning back with its messages, as some servers demand.

    Raises: UsageError with code ``no_api_key`` or ``missing_extra``.
    """

    def __init__(self, model: str, *, server: OpenAIServer | None = None, sends_thoughts: bool = False) -> None:
        self.name = model
        self._server = server or server_of(ModelRef("openai", model), os.environ)
        self._key = self._server.key(os.environ)
        # The limit's old name is the one that all servers know; OpenAI's newer models refuse it.
        is_openai = self._server.base_url is None
        self._dialect = Dialect("max_completion_tokens" if is_openai else "max_tokens", sends_thoughts)
        self._client: AsyncOpenAI | None = None
        self._opening = asyncio.Lock()
        if find_spec("openai") is None:
            raise UsageError("models of OpenAI, Ollama and vLLM need the package openai", code="missing_extra",
                             hint="pip install 'callboard[openai]'")  # fmt: skip

    def __repr__(self) -> str:
        return f"OpenAIModel({self.name!r}, provider={self.provider!r})"

    @property
    def provider(self) -> str:
        """``openai``, ``ollama`` or ``vllm``; with host and port if it is a server that a ref names."""
        return self._server.provider

    async def reply(self, request: ModelRequest, listen: Listen | None = None) -> ModelReply:
        """One call. Raises: RetryableError, TerminalError."""
        body = body_of(request, self.name, self._dialect)
        client = await self._opened()
        with self._failures():
            async with asyncio.timeout(request.timeout_s):
                if request.stream or listen is not None:
                    return await self._streamed(client, body, listen)
                return await self._whole(client, body)

    def count_tokens(self, request: ModelRequest) -> int:
        """About how many tokens the request is."""
        return estimate_request(request)

    async def close(self) -> None:
        """Close the connections. A later call opens new ones."""
        client, self._client = self._client, None
        if client is not None:
            await client.close()

    async def _opened(self) -> AsyncOpenAI:
        async with self._opening:
            if self._client is None:
                await asyncio.to_thread(_load)
                self._client = self._new_client()
            return self._client

    def _new_client(self) -> AsyncOpenAI:
        from httpx2 import Timeout
        from openai import AsyncOpenAI, Omit

        # The package would take these two from the environment and tell any server whose account it is.
        headers: Any = {} if self._server.base_url is None else dict.fromkeys(_ACCOUNT_HEADERS, Omit())
        # The time of the whole call is kept by reply().
        timeout = Timeout(None, connect=CONNECT_S)
        return AsyncOpenAI(api_key=self._key, base_url=self._server.base_url, max_retries=0, default_headers=headers,
                           timeout=timeout)  # fmt: skip

    async def _whole(self, client: AsyncOpenAI, body: dict[str, Any]) -> ModelReply:
        response = await client.chat.completions.with_raw_response.create(**body)
        with self._understood():
            completion = msgspec.json.decode(response.content, type=dict[str, Any])
            if completion.get("choices"):
                return answer_of(completion)[0]
        raise RetryableError(f"{self._who} answered with no choice", code="overloaded")

    async def _streamed(self, client: AsyncOpenAI, body: dict[str, Any], listen: Listen | None) -> ModelReply:
        gathered = Gathered()
        stream = await client.chat.completions.create(**body, stream=True, stream_options={"include_usage": True})
        async with stream:
            async for chunk in stream:
                with self._understood():
                    deltas = gathered.add(chunk.to_dict(warnings=False))
                if listen is not None:
                    for delta in deltas:
                        listen(delta)
        if not gathered.is_ended:
            raise RetryableError(f"{self._who}: the answer was cut off", code="unreachable")
        return gathered.reply()

    @property
    def _who(self) -> str:
        return f"{self.provider}:{self.name}"

    def _shown(self, said: object) -> str:
        return shown(str(said).replace(self._key, "...") if len(self._key) >= SECRET_CHARS else str(said))

    @contextmanager
    def _understood(self) -> Iterator[None]:
        """What came is no answer of this protocol: a proxy's page, half a body. That passes."""
        try:
            yield
        except (msgspec.DecodeError, KeyError, TypeError, AttributeError, ValueError) as error:
            why = f"{type(error).__name__}: {error}"
            raise RetryableError(f"what {self._who} sent is no answer ({why})", code="unreachable") from None

    @contextmanager
    def _failures(self) -> Iterator[None]:
        """The package's errors as ours. Their causes are cut off: what they say goes into the log, unread by us."""
        import openai

        try:
            yield
        except TimeoutError:
            raise RetryableError(f"{self._who} did not answer in time", code="timeout") from None
        except openai.APIConnectionError as error:
            reason = self._shown(error.__cause__ or error)
            raise RetryableError(f"{self._who} cannot be reached: {reason}", code="unreachable") from None
        except openai.APIStatusError as error:
            headers, said = error.response.headers, self._shown(error.message)
            raise status_failure(self._who, error.status_code, headers, error.body, said) from None
        except openai.APIError as error:
            raise stream_failure(self._who, error.body, self._shown(error.message)) from None
        except (json.JSONDecodeError, UnicodeDecodeError) as error:
            raise RetryableError(f"{self._who} sent what is no JSON: {error}", code="unreachable") from None
        except openai.OpenAIError as error:
            raise TerminalError(f"{self._who}: {self._shown(error)}", code="bad_request") from None


def _load() -> None:
    import openai.resources.chat  # noqa: F401 - the part that the first call would import
