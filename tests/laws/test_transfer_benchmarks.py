"""The tables of the benchmarks of transfers: means and paired differences of the rows that are there."""

from benchmarks import asymmetric, width_transfer


def framed(dense: float, naive: float) -> dict:
    shifts = (0.0, 0.2, -0.2)
    values = {"dense": dense, "lth": 96.0, "permuted": 95.0, "naive": naive}
    row = {method: [value + shift for shift in shifts] for method, value in values.items()}
    return {**row, "in place": [0.5, 0.25, 0.75], "differ": {"permuted": [1.0] * 3, "naive": [2.0, 3.0, 4.0]}}


def test_the_table_of_frames_pairs_seeds_with_the_ordinary_networks() -> None:
    cases = {"digits, ordinary": framed(97.5, 93.0), "digits, share 0.5": framed(97.0, 94.5), "other, ordinary": {}}
    head, _, ordinary, share = asymmetric.table(cases, "digits")
    assert len(head.split("|")) == len(share.split("|"))
    assert ordinary == (
        "| ordinary | 3 | 97.50 |  | 96.00 | 93.00 | +3.00 [+3.00, +3.00] | -2.00 [-2.00, -2.00] | 50 % | 3.0 % |"
    )
    assert "| -0.50 [-0.50, -0.50] | 96.00 | 94.50 | +1.50 [+1.50, +1.50] | -0.50 [-0.50, -0.50] |" in share


def test_the_table_of_widths_holds_the_pairs_that_were_measured() -> None:
    accuracies = dict.fromkeys(width_transfer.METHODS, 90.0)
    row = {f"{s:.0%}": {**accuracies, "widened": 92.0, "imp-b": 93.5} for s in width_transfer.SPARSITIES}
    head, rule, *rows = width_transfer.table({"x2, seed 0": row, "x2, seed 1": row, "x4, seed 0": row})
    assert [one[:14] for one in rows] == ["| x2 | 95% | 2", "| x2 | 98% | 2"]
    assert len({len(one.split("|")) for one in (head, rule, *rows)}) == 1
    assert rows[0].endswith(
        "| +2.00 [+2.00, +2.00] | +2.00 [+2.00, +2.00] | +2.00 [+2.00, +2.00] | +1.50 [+1.50, +1.50] |"
    )
