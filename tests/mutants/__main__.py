"""Break one rule at a time and demand that the tests of rules notice every time: `python -m tests.mutants`.

Each suite is traced once. A mutant is caught when the freedom found in some model is not what it must be, when the
solver notices a contradiction, or when the numerical proof refuses what is found.
"""

import argparse
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from unittest import mock

import torch

from reticket.errors import ReticketError
from reticket.symmetry import Symmetry, discover, verify
from reticket.symmetry.graph import Trace
from tests.mutants.breaker import Breaker, Mutant
from tests.mutants.suites import Suite, suites

DISCOVERY = sys.modules[discover.__module__]
# mutants that change nothing, each with the beginning of the line before the call
HARMLESS = {
    ("index_put", "pin", "for term in values"): "the values meet the fixed places that they are written to in any case",
    ("trace", "result", ""): "a number has no axes to forget",
    ("noise_about", "no iteration space", ""): "every axis of its operand is pinned",
}


class Bench:
    """A suite with its traces kept, so that solving it again is quick."""

    def __init__(self, suite: Suite) -> None:
        self.suite = suite
        self._traces: list[Trace] = []
        with mock.patch.object(DISCOVERY, "_traces", self._keep(DISCOVERY._traces)):  # pyright: ignore
            discover(suite.model, suite.inputs, verify=False)

    def _keep(self, tracing: Callable[..., tuple[list[Trace], list[str]]]) -> Callable[..., object]:
        def keep(*args: object) -> tuple[list[Trace], list[str]]:
            traces, notes = tracing(*args)
            self._traces = list(traces)
            return traces, notes

        return keep

    @contextmanager
    def _kept(self) -> Iterator[None]:
        with (
            mock.patch.object(DISCOVERY, "_traces", return_value=(self._traces, [])),
            mock.patch.object(DISCOVERY, "_try"),
            mock.patch.object(DISCOVERY, "_sites", return_value=()),
        ):
            yield

    def solve(self) -> Symmetry:
        """Solve the kept traces with the rules in force."""
        with self._kept():
            return discover(self.suite.model, self.suite.inputs, verify=False)

    def complaint(self) -> str:
        """What the demands find wrong with the rules in force; empty if nothing."""
        try:
            symmetry = self.solve()
        except (AssertionError, ReticketError, ValueError, IndexError, KeyError) as error:
            return f"{type(error).__name__}"
        found = dict.fromkeys(self.suite.orders, 0.0)
        for group in symmetry.groups.values():
            for prefix in found:
                if group.name.startswith(prefix):
                    found[prefix] += group.log10_order
        for prefix, order in self.suite.orders.items():
            if abs(found[prefix] - order) > 1e-6:
                return f"freedom 10^{found[prefix]:.2f} instead of 10^{order:.2f} in {self.suite.name} {prefix}"
        return ""

    def disproof(self) -> str:
        """What the numerical proof finds wrong with the rules in force; empty if nothing."""
        try:
            verify(self.solve(), self.suite.model, self.suite.inputs, draws=4)
        except ReticketError:
            return f"the function changes in {self.suite.name}"
        return ""


def reached(benches: Sequence[Bench], breaker: Breaker) -> dict[Mutant, list[Bench]]:
    """Run every suite unbroken, which must satisfy it, and return the mutants with the suites that reach them."""
    found: dict[Mutant, list[Bench]] = {}
    for bench in benches:
        breaker.seen.clear()
        complaint = bench.complaint()
        assert not complaint, f"unbroken rules must satisfy the suite '{bench.suite.name}': {complaint}"
        for mutant in sorted(breaker.seen):
            found.setdefault(mutant, []).append(bench)
    return found


def caught(mutant: Mutant, benches: Sequence[Bench], breaker: Breaker) -> str:
    """How the first suite that notices the mutant does so; empty if none does."""
    breaker.broken = mutant
    try:
        for bench in benches:
            if complaint := bench.complaint():
                return complaint
        for bench in benches:
            if complaint := bench.disproof():
                return complaint
        return ""
    finally:
        breaker.broken = None


def harmless(mutant: Mutant) -> bool:
    """Whether it is known, with a reason, that the mutant changes nothing."""
    known = [code for rule, kind, code in HARMLESS if (rule, kind) == (mutant.rule, mutant.kind)]
    return any(mutant.code.startswith(code) for code in known)


def main() -> int:
    """Try every mutant; print the survivors and return their number."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--only", default="", help="try the mutants whose text contains this")
    parser.add_argument("--suites", default="", help="use the suites whose name contains this")
    parser.add_argument("--show", action="store_true", help="say how each mutant is caught")
    given = parser.parse_args()
    torch.set_num_threads(1)
    benches = [Bench(suite) for suite in suites() if given.suites in suite.name]
    breaker = Breaker()
    with breaker.watching():
        every = reached(benches, breaker)
        chosen = [mutant for mutant in sorted(every) if given.only in str(mutant) and not harmless(mutant)]
        survivors: list[Mutant] = []
        for mutant in chosen:
            how = caught(mutant, every[mutant], breaker)
            if not how:
                survivors.append(mutant)
            if given.show or not how:
                print(f"{how or 'SURVIVES'}: {mutant}", flush=True)
    rules = len({mutant.rule for mutant in chosen})
    print(f"{len(chosen) - len(survivors)} of {len(chosen)} mutants of {rules} rules caught")
    return len(survivors)


if __name__ == "__main__":
    sys.exit(bool(main()))
