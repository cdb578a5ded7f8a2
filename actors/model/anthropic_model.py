"""Claude, through Anthropic's SDK: one call, streamed or not, told as the Model protocol asks for.

The SDK takes two seconds to import, so that is done by the first call, and in a thread: a node that is deaf for so long
counts as ill. It does not try again by itself: the agent's durable step does, and records it.
"""

from __future__ import annotations

import asyncio
import json
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import msgspec

from actors.model.anthropic_answer import AnswerForm, Kind, answer_form
from actors.model.anthropic_errors import call_error
from actors.model.anthropic_stream import StreamedAnswer
from actors.model.anthropic_words import params_of, reply_of
from actors.model.model import Listen, ModelReply, ModelRequest
from actors.model.model_ref import ModelRef, place_of
from actors.model.token_estimate import estimate_request
from bus.errors import UsageError
from bus.failure import RetryableError, TerminalError

if TYPE_CHECKING:
    from anthropic import APIError, AsyncAnthropic

KEY, TOKEN, URL = "ANTHROPIC_API_KEY", "ANTHROPIC_AUTH_TOKEN", "ANTHROPIC_BASE_URL"
# Of a server that somebody names in a ref. It is never given the key above: a ref may come with a document.
COMPATIBLE_KEY = "ANTHROPIC_COMPATIBLE_API_KEY"
CONNECT_S = 10.0
# What the API writes before the first tool, so that a model knows how to use them.
TOOLS_TOKENS = 346
# The last version whose requests may have a temperature; the SDK sends a newer one.
_TEMPERATE_VERSION = "2023-06-01"
_BINDING_BETA = "thinking-binding-controls-2026-08-01"


class AnthropicModel:
    """A model of Anthropic's. The key comes from the environment when a call is made, unless it is given.

    ``base_url``: another address of the API, empty for ANTHROPIC_BASE_URL or Anthropic's own; ``provider`` is what its
    limits and circuit are shared by. ``structured`` says how answers are held to a schema: "native" by the API, "tool"
    by a tool, None by what model and schema allow.
    """

    def __init__(
        self,
        model: str,
        *,
        base_url: str = "",
        api_key: str = "",
        provider: str = "anthropic",
        structured: Kind | None = None,
    ) -> None:
        self._model, self._provider, self._structured = model, provider, structured
        self._base_url, self._api_key = base_url, api_key
        self._client: AsyncAnthropic | None = None
        self._opening = asyncio.Lock()

    def __repr__(self) -> str:
        return f"AnthropicModel({self._model!r})"

    @property
    def provider(self) -> str:
        """Whose it is."""
        return self._provider

    @property
    def name(self) -> str:
        """Anthropic's name of the model."""
        return self._model

    async def reply(self, request: ModelRequest, listen: Listen | None = None) -> ModelReply:
        """One call of the API. ``listen`` hears words and thoughts as they come, if the request is streamed.

        Raises: RetryableError (``overloaded``, ``rate_limited``, ``timeout``, ``unreachable``), TerminalError
        (``unauthorized``, ``quota_exhausted``, ``bad_request``, ``context_too_long``, ``unknown_model``).
        """
        request = request if request.model else msgspec.structs.replace(request, model=self._model)
        client = await self._opened()
        form = self._form(request)
        with _translated(request, self._secrets()):
            async with asyncio.timeout(request.timeout_s):
                arguments = _arguments(request, form)
                if request.stream:
                    answer = await _streamed(client, arguments, listen, form)
                else:
                    answer = await _whole(client, arguments)
        with _understood():
            return reply_of(answer, form)

    def count_tokens(self, request: ModelRequest) -> int:
        """An estimate, with nobody asked: see ``estimate_request``; and what the API itself says about tools."""
        form = self._form(request)
        asks_tool = form is not None and form.kind == "tool"
        about_tools = TOOLS_TOKENS if request.tools or asks_tool else 0
        return estimate_request(request) + about_tools

    async def close(self) -> None:
        """Close the connections. A later call opens new ones."""
        client, self._client = self._client, None
        if client is not None:
            await client.close()

    def _form(self, request: ModelRequest) -> AnswerForm | None:
        if request.output_schema is None:
            return None
        taken = [tool.name for tool in request.tools]
        return answer_form(request.output_schema, request.model or self._model, taken, self._structured)

    def _secrets(self) -> tuple[str, ...]:
        known = (self._api_key,) if self._api_key else (os.environ.get(KEY, ""), os.environ.get(TOKEN, ""))
        return tuple(secret for each in known for secret in (each, each.strip()) if secret)

    async def _opened(self) -> AsyncAnthropic:
        async with self._opening:
            if self._client is None:
                if not self._secrets():
                    raise TerminalError(f"no key for Anthropic: {KEY} is not in this process's environment",
                                        code="unauthorized")  # fmt: skip
                await asyncio.to_thread(_load)
                self._client = self._new_client()
            return self._client

    def _new_client(self) -> AsyncAnthropic:
        from anthropic import AsyncAnthropic
        from httpx2 import InvalidURL, Timeout

        # A key from a file has a newline at its end, which no header may have.
        key = (self._api_key or os.environ.get(KEY, "")).strip() or None
        url = self._base_url or os.environ.get(URL) or None
        try:
            # The time of the whole call is kept by reply().
            return AsyncAnthropic(api_key=key, base_url=url, max_retries=0, timeout=Timeout(None, connect=CONNECT_S))
        except InvalidURL as error:
            # The text stays out of the message: it may hold a password.
            raise TerminalError(f"{URL} is no URL ({error})", code="bad_request") from None


def anthropic_at(ref: ModelRef, environ: Mapping[str, str]) -> AnthropicModel:
    """The model that a ref means. Raises: UsageError with code ``no_api_key``."""
    if ref.base_url:
        key = environ.get(COMPATIBLE_KEY, "").strip() or "none"
        return AnthropicModel(
            ref.name, base_url=ref.base_url, api_key=key, provider=f"anthropic-{place_of(ref.base_url)}"
        )
    if not (environ.get(KEY, "").strip() or environ.get(TOKEN, "").strip()):
        raise UsageError(f"{KEY} is not set in the environment of this process", code="no_api_key",
                         hint=f"export {KEY}=...")  # fmt: skip
    return AnthropicModel(ref.name)


def _load() -> None:
    import anthropic.resources.messages  # noqa: F401 - the part that the first call would import


def _arguments(request: ModelRequest, form: AnswerForm | None) -> dict[str, Any]:
    """The arguments of the SDK's ``create``."""
    arguments = params_of(request, form)
    output = arguments.get("output_config", {}).get("format")
    if output is not None:
        from anthropic import transform_schema

        try:
            output["schema"] = transform_schema(output["schema"])
        except (ValueError, TypeError, AssertionError) as error:
            raise TerminalError(f'the API takes no such output_schema: {error} (with structured="tool" it is asked '
                                "for by a tool)", code="bad_request") from None  # fmt: skip
    temperature = arguments.pop("temperature", None)
    if temperature is not None:
        arguments["extra_body"] = {"temperature": temperature}
        arguments["extra_headers"] = {"anthropic-version": _TEMPERATE_VERSION}
    if "block_binding" in arguments.get("thinking", {}):
        arguments["extra_headers"] = {"anthropic-beta": _BINDING_BETA}
    return arguments


async def _whole(client: AsyncAnthropic, arguments: dict[str, Any]) -> dict[str, Any]:
    """The answer's JSON as it came: the SDK's types would not hold arguments that are no object."""
    response = await client.messages.with_raw_response.create(**arguments)
    with _understood():
        return msgspec.json.decode(await response.read(), type=dict[str, Any])


async def _streamed(
    client: AsyncAnthropic, arguments: dict[str, Any], listen: Listen | None, form: AnswerForm | None
) -> dict[str, Any]:
    # Pieces of a wrapped answer are not the pieces of the answer.
    answer = StreamedAnswer(form.tool if form is not None and form.kind == "tool" and not form.is_wrapped else "")
    async with await client.messages.create(**arguments, stream=True) as stream:
        async for event in stream:
            with _understood():
                delta = answer.hear(event.to_dict(warnings=False))
            if delta is not None and delta.text and listen is not None:
                listen(delta)
    if not answer.is_whole:
        raise RetryableError("the stream of the answer ended before the answer", code="unreachable")
    return answer.message


# ---- errors


@contextmanager
def _understood() -> Iterator[None]:
    """What came is no message of the API's: a proxy's page, or half a body. That passes."""
    try:
        yield
    except (msgspec.DecodeError, KeyError, TypeError, AttributeError) as error:
        raise RetryableError(f"what came is no answer of the Messages API ({type(error).__name__}: {error})",
                             code="unreachable") from None  # fmt: skip


@contextmanager
def _translated(request: ModelRequest, secrets: tuple[str, ...]) -> Iterator[None]:
    """Turn what the SDK and its HTTP client raise into what the protocol says, without a key in any message.

    The causes are cut off, since their messages go into the log with the traceback.
    """
    from anthropic import APIConnectionError, APIError, APITimeoutError
    from httpx2 import HTTPError, TimeoutException

    try:
        yield
    except TimeoutError:
        raise RetryableError(f"Anthropic did not answer {request.model} within {request.timeout_s:g} s",
                             code="timeout") from None  # fmt: skip
    except (APITimeoutError, TimeoutException):
        raise RetryableError(f"no connection to Anthropic within {CONNECT_S:g} s", code="unreachable") from None
    except (APIConnectionError, HTTPError) as error:
        raise _connection_error(error.__cause__ or error, secrets) from None
    except APIError as error:
        raise _call_error(error, request.model, secrets) from None
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        raise RetryableError(f"an event of the answer's stream is no JSON: {error}", code="unreachable") from None


def _connection_error(error: BaseException, secrets: tuple[str, ...]) -> RetryableError | TerminalError:
    from httpx2 import LocalProtocolError, UnsupportedProtocol

    why = _without(secrets, str(error))
    if isinstance(error, LocalProtocolError | UnsupportedProtocol):
        return TerminalError(f"Anthropic cannot be asked: {why} (see {KEY} and {URL})", code="bad_request")
    return RetryableError(f"no whole answer from Anthropic: {why}", code="unreachable")


def _call_error(error: APIError, model: str, secrets: tuple[str, ...]) -> RetryableError | TerminalError:
    body = error.body if isinstance(error.body, dict) else {}
    said = body.get("error")
    told = said if isinstance(said, dict) else {}
    response = getattr(error, "response", None)
    status, headers = (response.status_code, response.headers) if response is not None else (500, {})
    message = _without(secrets, str(told.get("message") or error.message))
    return call_error(status, str(told.get("type") or ""), message, headers, model=model, now=datetime.now(UTC))


def _without(secrets: tuple[str, ...], text: str) -> str:
    for secret in secrets:
        # As it is, and as it is quoted by what finds a character in it that no header may have.
        text = text.replace(secret, "***").replace(repr(secret)[1:-1], "***")
    return text
