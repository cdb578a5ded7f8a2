"""How long a document of many steps takes to check: ``python -m bench.workflow_check [--steps N]``.

CPU time, the best of some rounds, each with expressions that are new to it; without importing libraries.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Callable

from actors.components.component import ComponentInfo
from actors.workflow import expression
from actors.workflow.outline import outline
from actors.workflow.shape import shape
from actors.workflow.source import read_source
from actors.workflow_rules.component_rules import Catalogue
from actors.workflow_rules.validation import validate

ROUNDS = 15


def document(steps: int) -> bytes:
    """A chain: each step needs the one before, has a condition of its own, and two inputs."""
    first = (
        "name: chain\nversion: 1.0.0\ninput: {properties: {sku: {}}}\nsteps:\n  - {id: s0, kind: tool, run: quote@1}\n"
    )
    step = (
        "  - id: s{i}\n    kind: tool\n    run: quote@1\n    needs: [s{b}]\n    when: steps.s{b}.output.total > {i}\n"
        "    with:\n      sku: ${{ input.sku }}\n      qty: {i}\n"
    )
    return (first + "".join(step.format(i=i, b=i - 1) for i in range(1, steps))).encode()


def catalogue() -> Catalogue:
    """The one component that the steps run, with what it takes and gives, so that types are checked."""
    takes = {"properties": {"sku": {"type": "string"}, "qty": {"type": "integer"}}}
    gives = {"type": "object", "properties": {"total": {"type": "number"}}}
    info = ComponentInfo(
        kind="tool", name="quote", app="shop", version="1.0.0", input_schema=takes, output_schema=gives, digest=""
    )
    return Catalogue([info])


def best_ms(work: Callable[[], object]) -> float:
    """Milliseconds of CPU time of the best round."""
    times = []
    for _ in range(ROUNDS):
        expression._parse.cache_clear()
        begin = time.process_time()
        work()
        times.append(time.process_time() - begin)
    return min(times) * 1000


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(prog="python -m bench.workflow_check", description=__doc__)
    parser.add_argument("--steps", type=int, default=1000)
    steps = parser.parse_args().steps
    as_yaml = document(steps)
    value = read_source("a.yaml", as_yaml).value
    as_json = json.dumps(value).encode()
    made = shape(value).document
    assert made is not None and not validate("a.yaml", as_yaml) and not validate("a.json", as_json)
    known = catalogue()
    assert not validate("a.json", as_json, catalogue=known)
    texts = [step.when for step in made.steps if step.when]
    print(f"{steps} steps, {len(as_yaml):,} bytes of YAML")
    print(f"  YAML, all            {best_ms(lambda: validate('a.yaml', as_yaml)):6.1f} ms")
    print(f"  JSON, all            {best_ms(lambda: validate('a.json', as_json)):6.1f} ms")
    print(f"  JSON and a catalogue {best_ms(lambda: validate('a.json', as_json, catalogue=known)):6.1f} ms")
    print(f"  reading YAML         {best_ms(lambda: read_source('a.yaml', as_yaml)):6.1f} ms")
    print(f"  reading JSON         {best_ms(lambda: read_source('a.json', as_json)):6.1f} ms")
    print(f"  shape and order      {best_ms(lambda: outline(shape(value).document or made)):6.1f} ms")
    print(f"  expressions, compile {best_ms(lambda: [expression.parse(text) for text in texts]):6.1f} ms")


if __name__ == "__main__":
    main()
