"""TicketBench: whether a ticket can be moved, with every claim tested and every network priced."""

from reticket.bench.claims import ClaimRow, claims_of
from reticket.bench.record import Bench, BenchTask, merged, read_bench, read_benches, write_bench
from reticket.bench.running import run_bench
from reticket.bench.tiers import TIERS, bench_tasks, chosen_tasks

__all__ = [
    "TIERS",
    "Bench",
    "BenchTask",
    "ClaimRow",
    "bench_tasks",
    "chosen_tasks",
    "claims_of",
    "merged",
    "read_bench",
    "read_benches",
    "run_bench",
    "write_bench",
]
