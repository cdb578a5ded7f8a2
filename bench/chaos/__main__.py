"""``python -m bench.chaos``: a load under faults, and whether everything that was promised held.

The seed is printed first; the same seed gives the same load and the same plan of faults (not the same run: processes
race). Exit code 1 if a promise was broken, with the evidence; the directory of the run is kept then.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import logging
import secrets
import signal
import sys
import tempfile
from pathlib import Path

from bench.chaos.report import figures, render
from bench.chaos.stage import Outcome, Settings, set_up


def main() -> int:
    """Run, print, and return 0 if nothing was broken."""
    options = _options()
    logging.basicConfig(
        level=logging.INFO if options.verbose else logging.ERROR, format="%(asctime)s %(name)s: %(message)s"
    )
    settings = Settings(
        options.seed, options.seconds, options.nodes, options.rate, options.gap, options.quiet, not options.no_faults
    )
    _say(f"seed {settings.seed}; {settings.seconds:g} s of faults on {settings.nodes} nodes")
    folder = Path(options.keep or tempfile.mkdtemp(prefix="callboard-chaos-"))
    folder.mkdir(parents=True, exist_ok=True)
    try:
        outcome = asyncio.run(_run(settings, folder))
    except (KeyboardInterrupt, asyncio.CancelledError):
        _say(f"interrupted; nothing runs any more; what there was is in {folder}")
        return 130
    print(json.dumps(figures(outcome), indent=2) if options.json else render(outcome))
    if outcome.findings:
        _say(f"{len(outcome.findings)} promises broken; the logs of the nodes and the ledger are in {folder}")
        return 1
    if not options.keep:
        _remove(folder)
    return 0


async def _run(settings: Settings, folder: Path) -> Outcome:
    task = asyncio.current_task()
    assert task is not None
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, task.cancel)  # as Ctrl-C: in order
    async with set_up(settings, folder) as stage:
        return await stage.run()


def _remove(folder: Path) -> None:
    import shutil

    shutil.rmtree(folder, ignore_errors=True)


def _say(text: str) -> None:
    sys.stderr.write(f"[chaos] {text}\n")


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m bench.chaos", description=__doc__)
    parser.add_argument("--seconds", type=float, default=60.0, help="how long load and faults go on")
    parser.add_argument("--seed", type=int, default=secrets.randbelow(1_000_000), help="of the load and the faults")
    parser.add_argument("--nodes", type=int, default=2, help="how many nodes")
    parser.add_argument("--rate", type=float, default=6.0, help="jobs submitted per second")
    parser.add_argument("--gap", type=float, default=2.0, help="seconds between faults, on the average")
    parser.add_argument("--quiet", type=float, default=120.0, help="seconds that all may take to end after the faults")
    parser.add_argument("--no-faults", action="store_true", help="the load alone, to see what is normal")
    parser.add_argument("--keep", metavar="DIR", help="where the run keeps its files, which are left there")
    parser.add_argument("--json", action="store_true", help="print JSON instead of text")
    parser.add_argument("--verbose", action="store_true", help="tell each fault as it happens")
    return parser.parse_args()


if __name__ == "__main__":
    raise SystemExit(main())
