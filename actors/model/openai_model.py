"""Models behind the chat completions API, through the ``openai`` package: OpenAI's own, vLLM, Ollama, and many others.

    pip install 'callboard[openai]'

One call is one request: the package's own retries are off, since the durable step around the call does them.
"""

from __future__ import annotations

import asyncio
import json
import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from types import ModuleType
from typing import Any

from actors.model.model import Listen, ModelReply, ModelRequest
from actors.model.model_ref import ModelRef
from actors.model.openai_failure import shown, status_failure, stream_failure
from actors.model.openai_server import OpenAIServer, server_of
from actors.model.openai_wire import Dialect, Gathered, answer_of, body_of
from actors.model.token_estimate import estimate_request
from bus.errors import UsageError
from bus.failure import RetryableError, TerminalError


class OpenAIModel:
    """A Model that is served in the words of OpenAI's chat completions.

    ``server`` says where and with which key; without one it is OpenAI's own, or the one of OPENAI_BASE_URL.
    ``sends_thoughts`` sends the model's reasoning back with its messages, as some servers demand.

    Raises: UsageError with code ``no_api_key`` or ``missing_extra``.
    """

    def __init__(self, model: str, *, server: OpenAIServer | None = None, sends_thoughts: bool = False) -> None:
        self.name = model
        self._server = server or server_of(ModelRef("openai", model), os.environ)
        # The limit's old name is the one that all servers know; OpenAI's newer models refuse it.
        is_openai = self._server.base_url is None
        self._dialect = Dialect("max_completion_tokens" if is_openai else "max_tokens", sends_thoughts)
        self._sdk = _sdk()
        self._client = self._connect()

    @property
    def provider(self) -> str:
        """``openai``, ``ollama`` or ``vllm``; with host and port if it is a server that a ref names."""
        return self._server.provider

    async def reply(self, request: ModelRequest, listen: Listen | None = None) -> ModelReply:
        """One call. Raises: RetryableError, TerminalError."""
        body = body_of(request, self.name, self._dialect)
        async with self._failures(), asyncio.timeout(request.timeout_s):
            if request.stream or listen is not None:
                return await self._streamed(body, request.timeout_s, listen)
            return await self._whole(body, request.timeout_s)

    def count_tokens(self, request: ModelRequest) -> int:
        """About how many tokens the request is."""
        return estimate_request(request)

    async def close(self) -> None:
        """Close the connections."""
        await self._client.close()

    def _connect(self) -> Any:
        # The package would take these two from the environment and tell any server whose account it is.
        headers = {} if self._server.base_url is None else dict.fromkeys(_ACCOUNT_HEADERS, self._sdk.Omit())
        return self._sdk.AsyncOpenAI(
            api_key=self._server.key(os.environ), base_url=self._server.base_url, max_retries=0, default_headers=headers
        )

    async def _whole(self, body: dict[str, Any], timeout_s: float) -> ModelReply:
        completion = await self._client.chat.completions.create(**body, timeout=timeout_s)
        said = completion.to_dict() if hasattr(completion, "to_dict") else {}
        if not said.get("choices"):
            raise RetryableError(f"{self._who} answered with no choice", code="overloaded")
        return answer_of(said)[0]

    async def _streamed(self, body: dict[str, Any], timeout_s: float, listen: Listen | None) -> ModelReply:
        gathered = Gathered()
        stream = await self._client.chat.completions.create(
            **body, stream=True, stream_options={"include_usage": True}, timeout=timeout_s
        )
        async with stream:
            async for chunk in stream:
                for delta in gathered.add(chunk.to_dict()):
                    if listen is not None:
                        listen(delta)
        if not gathered.is_ended:
            raise RetryableError(f"{self._who}: the answer was cut off", code="unreachable")
        return gathered.reply()

    @property
    def _who(self) -> str:
        return f"{self.provider}:{self.name}"

    @asynccontextmanager
    async def _failures(self) -> AsyncIterator[None]:
        """The package's errors as ours."""
        sdk = self._sdk
        try:
            yield
        except (sdk.APITimeoutError, TimeoutError) as error:
            raise RetryableError(f"{self._who} did not answer in time", code="timeout") from error
        except sdk.APIConnectionError as error:
            reason = shown(str(error.__cause__ or error))
            raise RetryableError(f"{self._who} cannot be reached: {reason}", code="unreachable") from error
        except sdk.APIStatusError as error:
            headers, said = error.response.headers, str(error.message)
            raise status_failure(self._who, error.status_code, headers, error.body, said) from error
        except sdk.APIError as error:
            raise stream_failure(self._who, error.body, str(error.message)) from error
        except json.JSONDecodeError as error:
            raise RetryableError(f"{self._who} sent what is no JSON: {error}", code="unreachable") from error
        except sdk.OpenAIError as error:
            raise TerminalError(f"{self._who}: {shown(str(error))}", code="bad_request") from error


_ACCOUNT_HEADERS = ("OpenAI-Organization", "OpenAI-Project")


def _sdk() -> ModuleType:
    try:
        import openai
    except ImportError as error:
        raise UsageError("models of OpenAI, Ollama and vLLM need the package openai", code="missing_extra",
                         hint="pip install 'callboard[openai]'") from error  # fmt: skip
    return openai
