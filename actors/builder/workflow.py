"""A whole workflow that is being built, and the document that it becomes."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from actors.builder.origin import calling_source
from actors.builder.steps import Place, Steps
from actors.builder.value import plain, schema
from actors.workflow.document import Document, Param
from actors.workflow.finding import Finding
from actors.workflow.merged import Merged
from actors.workflow.origins import Origins, Spot
from actors.workflow.writing import plain as plain_document
from actors.workflow.writing import to_json, to_yaml
from actors.workflow_rules.component_rules import Catalogue
from actors.workflow_rules.validation import Checked, check_merged
from bus.errors import UsageError
from supervisor.at_once import AtOnce
from supervisor.rate import Rate


class Workflow(Steps):
    """A workflow. Steps are added by its methods, such as ``order.tool("quote", run=quote)``.

    ``input`` and ``output`` are JSON Schemas, or types. Nothing is checked before :meth:`findings` or
    :meth:`document` is asked for; what is wrong then has the file and line of the call that made it.
    """

    def __init__(
        self,
        name: str,
        *,
        version: str,
        description: str = "",
        category: str = "",
        labels: Mapping[str, str] | None = None,
        input: dict[str, Any] | type | None = None,  # noqa: A002 - as in the document
        output: dict[str, Any] | type | None = None,
        params: Mapping[str, Param] | None = None,
        at_once: AtOnce | None = None,
        rate: Rate | None = None,
    ) -> None:
        self._origins = Origins(Spot(calling_source(), ()))
        given = {"description": description, "category": category, "labels": dict(labels or {}),
                 "params": dict(params or {}), "at_once": at_once, "rate": rate}  # fmt: skip
        schemas = {"input": input, "output": output}
        self._value = self._origins.made({"name": name, "version": version})
        self._value |= {field: plain(value) for field, value in given.items() if value}
        self._value |= {field: schema(of) for field, of in schemas.items() if of is not None}
        steps = self._value["steps"] = self._origins.made(list[Any]())
        super().__init__(Place(steps, ("steps",), self._origins))

    @property
    def result(self) -> Any:
        """What it gives, as in ``order.result = {"total": quote.output["total"]}``."""
        return self._value.get("result")

    @result.setter
    def result(self, value: Any) -> None:
        self._value["result"] = plain(value)
        self._origins.mark(self._value, "result", Spot(calling_source(), ("result",)))

    def findings(self, catalogue: Catalogue | None = None, *, is_final: bool = False) -> list[Finding]:
        """All that is wrong with it, as ``callboard workflow validate`` tells it.

        With a catalogue what it runs is checked too; with ``is_final`` each parameter has to have a value.
        """
        return self._check(catalogue, is_final=is_final).findings

    def document(self) -> Document:
        """The document, for ``app.workflow`` and ``client.workflows.publish``. Raises: UsageError with all findings."""
        checked = self._check(None, is_final=False)
        if checked.document is None or checked.findings:
            text = "\n".join(str(finding) for finding in checked.findings)
            first = checked.findings[0]
            raise UsageError(f"this is no workflow:\n{text}", code="bad_workflow", path=first.path, hint=first.hint)
        return checked.document

    def to_yaml(self) -> str:
        """The document as YAML. Raises: UsageError with all findings."""
        return to_yaml(plain_document(self.document()))

    def to_json(self) -> str:
        """The document as JSON. Raises: UsageError with all findings."""
        return to_json(plain_document(self.document()))

    def _check(self, catalogue: Catalogue | None, *, is_final: bool) -> Checked:
        return check_merged(Merged(self._value, self._origins), catalogue, is_final=is_final)
