"""An answer of the Messages API while it comes in: its events, one by one, become the message. Pure.

The SDK's own accumulator gives up the whole answer for arguments that are no JSON; here they are kept as they were
written, for the model to mend.
"""

from __future__ import annotations

from typing import Any

import msgspec

from actors.model.model import Delta


class StreamedAnswer:
    """The message so far. ``message`` is whole once ``is_whole``; until then it was cut off somewhere."""

    def __init__(self, answer_tool: str = "") -> None:
        self.message: dict[str, Any] = {}
        self.is_whole = False
        self._answer_tool = answer_tool
        self._blocks: dict[int, dict[str, Any]] = {}
        self._pieces: dict[int, list[str]] = {}

    def hear(self, event: dict[str, Any]) -> Delta | None:
        """Take an event in, and give what a listener is told of it. Raises: KeyError for events out of order.

        Arguments of ``answer_tool`` are the words of the answer.
        """
        match event["type"]:
            case "message_start":
                self.message = {**event["message"], "content": []}
            case "content_block_start":
                self._blocks[event["index"]] = dict(event["content_block"])
                self._pieces[event["index"]] = []
            case "content_block_delta":
                return self._delta(event["index"], event["delta"])
            case "content_block_stop":
                self.message["content"].append(self._whole(event["index"]))
            case "message_delta":
                self._ending(event)
            case "message_stop":
                self.is_whole = bool(self.message.get("stop_reason"))
        return None

    def _delta(self, index: int, delta: dict[str, Any]) -> Delta | None:
        block, pieces = self._blocks[index], self._pieces[index]
        match delta["type"]:
            case "text_delta":
                pieces.append(delta["text"])
                return Delta(delta["text"])
            case "thinking_delta":
                pieces.append(delta["thinking"])
                return Delta(delta["thinking"], "thinking")
            case "signature_delta":
                block["signature"] = delta["signature"]
            case "input_json_delta":
                pieces.append(delta["partial_json"])
                if block.get("name") == self._answer_tool and delta["partial_json"]:
                    return Delta(delta["partial_json"])
        return None

    def _whole(self, index: int) -> dict[str, Any]:
        block, said = self._blocks.pop(index), "".join(self._pieces.pop(index))
        match block["type"]:
            case "text" | "thinking" as kind:
                return {**block, kind: block[kind] + said}
            case "tool_use" if said.strip():
                return {**block, "input": _arguments(said)}
            case _:
                return block

    def _ending(self, event: dict[str, Any]) -> None:
        """Counts in here are totals; one that is missing stands as it was at the start."""
        counts = {key: value for key, value in event.get("usage", {}).items() if value is not None}
        usage = {**self.message.get("usage", {}), **counts}
        self.message = {**self.message, **event["delta"], "usage": usage}


def _arguments(written: str) -> dict[str, Any] | str:
    """The arguments, or the text itself if it is no JSON object."""
    try:
        return msgspec.json.decode(written, type=dict[str, Any])
    except (msgspec.DecodeError, UnicodeEncodeError):
        return written
