"""Try every operator and write the table: `python -m tests.operators docs/operators.md` (about ten minutes).

Ends with 1 where a claim is unsound, or where fewer operators are as free as they are than `--least`.
"""

import argparse
import sys
import warnings
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import torch

from tests.operators.case import Operator
from tests.operators.operators import OPERATORS
from tests.operators.oracle import FREE, LESS, UNSOUND, Finding, find

TOGETHER = 12  # operators that are discovered as one model
HEAD = """# Operators: how much of their freedom is found

Made by `make test-operators` with torch {version}. Each operator stands in small networks in which weights make every
axis that it reads and read every axis that it makes (`tests/operators`). By brute force every exchange of neighbours on
every axis is tried, with every exchange on every other axis: the parameters are moved, and the exchange counts where
the function is kept. *True* is the order of the group that these generate, *found* the order of the group that
`discover(..., verify=False)` claims, one for each network; permutations drawn from it must keep the function, otherwise
the row says {unsound}. Exchanges of units that nothing reads do not count. Where more is found than the exchanges
generate, the orders found differ from row to row of a weight that reads an axis on which nothing depends.

{free} of {all} operators are as free as they are, {less} less free, {bad} unsound.

| operator | true | found | verdict |
|---|---|---|---|
"""


def verdict(findings: Sequence[Finding]) -> str:
    """Return the worst verdict on an operator's networks."""
    found = {finding.verdict for finding in findings}
    return next(one for one in (UNSOUND, LESS, FREE) if one in found)


def tried(operators: Sequence[Operator]) -> dict[str, list[Finding]]:
    """Try operators, several at a time."""
    findings: dict[str, list[Finding]] = {}
    for start in range(0, len(operators), TOGETHER):
        part = operators[start : start + TOGETHER]
        found = iter(find([case for operator in part for case in operator.cases]))
        for operator in part:
            findings[operator.name] = [next(found) for _ in operator.cases]
            if verdict(findings[operator.name]) != FREE:
                print(row(operator.name, findings[operator.name]), flush=True)
    return findings


def row(name: str, findings: Sequence[Finding]) -> str:
    """Return the line of the table on one operator."""
    note = " (torch.export cannot trace it)" if any(f.note for f in findings) else ""
    true, found = (", ".join(str(getattr(f, field)) for f in findings) for field in ("true", "found"))
    return f"| `{name}` | {true} | {found} | {verdict(findings)}{note} |"


def page(findings: dict[str, list[Finding]]) -> str:
    """Return the whole page."""
    counts = Counter(verdict(found) for found in findings.values())
    head = HEAD.format(
        version=torch.__version__.partition("+")[0],
        unsound=UNSOUND,
        all=len(findings),
        free=counts[FREE],
        less=counts[LESS],
        bad=counts[UNSOUND],
    )
    return head + "".join(row(name, found) + "\n" for name, found in findings.items())


def main() -> int:
    """Write the page; return 1 where too little is found or a claim is unsound."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("page", type=Path, nargs="?", help="where to write the table")
    parser.add_argument("--only", default="", help="try the operators whose name contains this")
    parser.add_argument("--least", type=int, default=0, help="how many operators must be as free as they are")
    given = parser.parse_args()
    torch.set_num_threads(1)
    warnings.simplefilter("ignore")
    findings = tried([operator for operator in OPERATORS if given.only in operator.name])
    if given.page:
        given.page.write_text(page(findings), encoding="utf-8")
    counts = Counter(verdict(found) for found in findings.values())
    print(", ".join(f"{count} {what}" for what, count in counts.items()))
    return int(counts[UNSOUND] > 0 or counts[FREE] < given.least)


if __name__ == "__main__":
    sys.exit(main())
