"""`make bench`: measure, keep the figures as JSON with hardware and versions, and draw the page."""

import argparse
import json
import os
import time
from pathlib import Path
from typing import Any

from benchmarks.cases import CASES
from benchmarks.page import write_page
from benchmarks.throughput import measure
from reticket.experiment import ExecutionConfig
from reticket.tasks.running import environment_of

HERE = Path(__file__).parent


def main() -> None:
    """Measure the cases that were asked for; the figures of the others stay as they are."""
    arguments = _parsed()
    out: Path = arguments.out
    found: dict[str, Any] = json.loads(out.read_text("utf-8")) if out.exists() else {"cases": {}}
    for name in arguments.case or CASES:
        print(f"{name} ...", flush=True)
        begun, load = time.monotonic(), os.getloadavg()[0]
        result = measure(CASES[name], arguments.data, rounds=arguments.rounds, seconds=arguments.seconds)
        result |= {"load_before": load, "took_seconds": round(time.monotonic() - begun, 1), "command": _command(name)}
        found["cases"][name] = result | {"environment": environment_of(ExecutionConfig())}
        for ratio, value in result["ratios"].items():
            print(f"  {ratio}: {value['median']:.2f} [{value['min']:.2f}, {value['max']:.2f}], n={value['n']}")
        out.parent.mkdir(parents=True, exist_ok=True)
        out.write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")
    if arguments.page:
        write_page(found, arguments.page)


def _parsed() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument("--case", action="append", choices=list(CASES), help="one of them; all when left out")
    parser.add_argument("--data", type=Path, default=os.environ.get("RETICKET_DATA"), help="folder of the data")
    parser.add_argument("--rounds", type=int, default=7, help="turns of every contestant")
    parser.add_argument("--seconds", type=float, default=1.5, help="of one turn")
    parser.add_argument("--out", type=Path, default=HERE / "results" / "throughput.json", help="file of the figures")
    parser.add_argument("--page", type=Path, default=None, help="where to write the page; none when left out")
    return parser.parse_args()


def _command(case: str) -> str:
    return f"make bench, case {case}"


if __name__ == "__main__":
    main()
