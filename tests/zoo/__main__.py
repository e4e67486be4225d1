"""`make test-zoo`: discover, prove and check every model of the wide sweep, a process each, and draw the page.

What a model gave is kept under `--out` with a digest of the code that gave it; after an interruption the same command
goes on with the models that lack it.
"""

import argparse
import sys
from pathlib import Path

from tests.zoo.page import FAILED, page
from tests.zoo.sweep import ENTRIES, sweep, versions


def main() -> int:
    """Return 0 when every model that was asked for is sound and no group was pinned by the proof."""
    arguments = _parsed()
    if arguments.list:
        print("\n".join(f"{entry.source:13} {name}" for name, entry in ENTRIES.items()))
        return 0
    if unknown := [name for name in arguments.only or () if name not in ENTRIES]:
        print(f"--only {unknown[0]}: no such model; see python -m tests.zoo --list", file=sys.stderr)
        return 2
    asked = [ENTRIES[name] for name in arguments.only or ENTRIES]
    rows = sweep(asked, arguments.out, arguments.jobs)
    if rows is None:
        return 130
    if arguments.page and not arguments.only:
        arguments.page.write_text(page(rows, "make test-zoo", versions()), "utf-8")
        print(f"wrote {arguments.page}")
    failed = [row for row in rows if row["verdict"] in FAILED]
    for row in failed:
        print(f"{row['name']}: {row['verdict']} {', '.join(row.get('pinned', [])) or row.get('sentence', '')}")
    print(f"{len(rows)} models, {len(failed)} failed")
    return int(bool(failed))


def _parsed() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m tests.zoo", description=__doc__)
    parser.add_argument("--list", action="store_true", help="name the models and end")
    parser.add_argument("--only", nargs="+", metavar="NAME", help="these models alone; the page stays as it is")
    parser.add_argument("--jobs", type=int, default=2, help="models at once")
    parser.add_argument("--out", type=Path, default=Path("runs/zoo"), help="folder of what each model gave")
    parser.add_argument("--page", type=Path, help="where to write the page; none when left out")
    return parser.parse_args()


if __name__ == "__main__":
    sys.exit(main())
