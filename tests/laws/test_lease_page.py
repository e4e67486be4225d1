"""The page of the GPU loans: made-up answers in, figures worked out by hand out."""

import copy
import json
import re
import xml.etree.ElementTree as ElementTree
from pathlib import Path
from typing import Any

import pytest

from benchmarks.lease.page import PAGE, main, write_page
from reticket.errors import InputError

ENVIRONMENT = {
    "torch": "2.11.0+cu130", "python": "3.12.3", "processor": "Intel Xeon", "cores": 16, "device": "NVIDIA H100",
    "date": "2026-11-27 02:00:00", "driver": "580.1", "cuda": "13.0", "cudnn": "9.13", "gpu_memory_gib": 79.6,
    "tf32": False,
}  # fmt: skip
THROUGHPUT = [
    {"way": "eager float32", "models": 1, "as": "threads", "inputs_a_second": 30000.0, "gpu_memory_gib": 0.5},
    {"way": "eager float32", "models": 8, "as": "threads", "inputs_a_second": 51234.4, "gpu_memory_gib": 2.04},
    {"way": "graph bfloat16", "models": 8, "as": "threads", "inputs_a_second": 168378.0, "gpu_memory_gib": None},
    {"way": "graph bfloat16", "models": 16, "as": "threads", "error": "OutOfMemoryError: 2 | 3\nGiB"},
    {"way": "graph bfloat16", "models": 8, "as": "processes", "inputs_a_second": 190000.0, "gpu_memory_gib": 6.0},
    {"way": "plain loop", "models": 1, "as": "processes", "inputs_a_second": 9000.0, "gpu_memory_gib": None},
]
ACCURACIES = {  # by method and place of matching: of the pairs 0, 1, 2
    ("lth", None): (89.0, 89.4, 89.8),
    ("naive", None): (87.0, 87.1, 87.2),
    ("permuted", "end"): (88.0, 88.2, 88.4),
    ("permuted", "821it"): (87.5, 87.5, 87.5),
}


def rows(seeds: tuple[int, ...], shift: float = 0.0) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = [
        {"method": "dense", "sparsity": None, "true_sparsity": None, "match_at": None, "seed": seed} for seed in seeds
    ]
    found = [row | {"accuracy": 90.0 + shift, "loss": 0.31} for row in found]
    for (method, match_at), values in ACCURACIES.items():
        cell = {"method": method, "sparsity": 0.9, "true_sparsity": 0.829, "match_at": match_at, "loss": 0.4}
        pairs = zip(seeds, values, strict=False)
        found += [cell | {"seed": seed, "accuracy": value + shift} for seed, value in pairs]
    return found


def row_of(seeds: tuple[int, ...], **changes: Any) -> dict[str, Any]:
    barrier = {"pair": "permuted A to B", "sparsity": None, "match_at": "end"}
    return {
        "epochs": 21, "retraining": 5, "rewind": "821it", "precision": "bfloat16", "matched_on": 500,
        "jobs": 12, "pairs": list(seeds),
        "predicted_s": 361.2, "seconds": 377.9, "stopped": False, "rows": rows(seeds),
        "barriers": [
            barrier | {"repair": repair, "seed": seed, "loss_barrier": 0.5 + seed, "accuracy_barrier": 3.0 * seed}
            for repair in (False, True) for seed in seeds
        ],
        "matching": [
            {"match_at": "end", "seed": seed, "group": group, "correlation": correlation}
            for seed in seeds for group, correlation in (("stem", 0.5), ("block", 0.7 + 0.1 * seed))
        ],
        **changes,
    }  # fmt: skip


def loan(**answers: Any) -> dict[str, Any]:
    known = {
        "smoke": {
            "training, 20 steps": {"difference": 3e-12, "tolerance": 1e-9, "ok": True},
            "REPAIR": {"difference": 2e-3, "tolerance": 1e-5, "ok": False},
        },
        "throughput": {"rows": THROUGHPUT},
        "symmetry": {"resnet20 x4": {"discover_s": 1.234, "match_s": 0.5, "match_examples": 50000}},
        "row": row_of((0, 1, 2)),
    }
    return {
        "schema": 1,
        "environment": dict(ENVIRONMENT),
        "budget": 540,
        "tiny": False,
        "answers": copy.deepcopy(known | answers),
    }


def page_of(folder: Path, *loans: dict[str, Any]) -> str:
    paths = [folder / f"lease-{letter}.json" for letter in "abcdef"[: len(loans)]]
    for path, found in zip(paths, loans, strict=True):
        path.write_text(json.dumps(found), encoding="utf-8")
    write_page(paths, folder / "docs" / "gpu.md")
    return (folder / "docs" / "gpu.md").read_text("utf-8")


def has(text: str, *lines: str) -> None:
    missing = [line for line in lines if line not in text.splitlines()]
    assert not missing, f"{missing[0]}\nis not in\n{text}"


def test_without_files_nothing_was_measured(tmp_path: Path) -> None:
    text = page_of(tmp_path)
    assert text.endswith("\nNot measured: no GPU was at hand.\n")
    assert "Written by `python -m benchmarks.lease.page`" in text.split("##")[0]
    assert "python -m benchmarks.lease --data DIR --out OUT --budget 540" in text
    assert not (tmp_path / "docs" / "images").exists()


def test_the_page_in_the_docs_is_what_the_command_writes(tmp_path: Path) -> None:
    assert main(["--page", str(tmp_path / "gpu.md")]) == 0
    assert (tmp_path / "gpu.md").read_text("utf-8") == PAGE.read_text("utf-8"), "python -m benchmarks.lease.page"


def test_card_smoke_and_symmetry(tmp_path: Path) -> None:
    text = page_of(tmp_path, loan())
    has(
        text,
        "## NVIDIA H100: lease-a.json",
        "NVIDIA H100, 80 GiB, driver 580.1, CUDA 13.0, cuDNN 9.13, TF32 off, Intel Xeon, 16 cores, "
        "torch 2.11.0+cu130, Python 3.12.3, 2026-11-27 02:00:00; a budget of 540 s.",
        "| training, 20 steps | 3.0e-12 | 1.0e-09 | yes |",
        "| REPAIR | 2.0e-03 | 1.0e-05 | **no** |",
        "| resnet20 x4 | 1.23 | 0.50 | 50,000 |",
    )
    assert "<!--" not in text
    assert not re.search(r"[ \t]$", text, re.MULTILINE)


def test_throughput_has_a_row_for_each_way_and_the_best_is_bold(tmp_path: Path) -> None:
    text = page_of(tmp_path, loan())
    has(
        text,
        "| images a second, all models together | 1 model | 8 models | 16 models | GPU memory at most, GiB |",
        "| eager float32 | 30,000 | 51,234 | – | 2.0 |",
        "| graph bfloat16 | – | 168,378 | not measured | – |",
        "| graph bfloat16, processes | – | **190,000** | – | 6.0 |",
        "- graph bfloat16, 16 models: not measured (OutOfMemoryError: 2 \\| 3 GiB).",
        "![Images a second by the number of models side by side](images/gpu.svg)",
    )


def test_the_drawing_is_to_scale(tmp_path: Path) -> None:
    page_of(tmp_path, loan())
    svg = ElementTree.fromstring((tmp_path / "docs" / "images" / "gpu.svg").read_text("utf-8"))
    circles = [element for element in svg if element.tag.endswith("circle")]
    bottom = 350.0  # 400 pixels less the margin
    heights = [bottom - float(circle.attrib["cy"]) for circle in circles]
    drawn = [row["inputs_a_second"] for row in THROUGHPUT if "error" not in row]
    assert heights == pytest.approx([310.0 * rate / (1.05 * 190000.0) for rate in drawn], abs=0.06)
    names = [element.text for element in svg if element.tag.endswith("text")]
    assert {"eager float32", "graph bfloat16, processes", "50k", "100k", "150k"} <= set(names)


def test_the_row_beside_the_paper(tmp_path: Path) -> None:
    """LTH: 89.0, 89.4, 89.8 have mean 89.4 and sd 0.4; the paper's 91.18 ± 0.27 are of T = 200."""
    text = page_of(tmp_path, loan())
    has(
        text,
        "### T = 21, 5 epochs a round, k = 821it, bfloat16, matched on 500 images",
        "- lease-a.json: NVIDIA H100, pairs 0, 1, 2, 12 tasks at once; predicted 361 s, took 378 s; all of it done.",
        "a difference from it is one of the schedule too.",
        "| dense | 0 % | – | 90.00 ± 0.00 (n=3) | 0.310 | – |",
        "| LTH | 90 % | 82.9 % | 89.40 ± 0.40 (n=3) | 0.400 | 91.18 ± 0.27 (n=3) |",
        "| naive | 90 % | 82.9 % | 87.10 ± 0.10 (n=3) | 0.400 | 88.83 ± 0.27 (n=3) |",
        "| permuted, matched at 821it | 90 % | 82.9 % | 87.50 ± 0.00 (n=3) | 0.400 | 89.23 |",
    )
    assert "T = 200 and k = 20:" in text


def test_differences_and_shares_over_the_same_pairs(tmp_path: Path) -> None:
    """LTH − naive is 2.0, 2.3, 2.6: 2.3 ± 4.303 · 0.3 / √3 = 2.3 ± 0.745; permuted − naive 1.0, 1.1, 1.2: ± 0.248.

    The share is 1.1 / 2.3 = 48 %. Its interval is all rho for which |1.1 − 2.3 rho| is at most 4.303 / √3 times the sd
    of g − rho d, which is 0.1 |1 − 3 rho|: 1.1 − 2.3 rho = ± 0.2484 (3 rho − 1), rho = 0.4424 and 0.5478.
    """
    text = page_of(tmp_path, loan())
    has(
        text,
        "| LTH − naive | 90 % | +2.30 [1.55, 3.05] | 3 | +2.35 |  |",
        "| permuted − naive | 90 % | +1.10 [0.85, 1.35] | 3 | +0.67 | 48 % [44, 55] (n=3) |",
    )


def test_barriers_and_matching(tmp_path: Path) -> None:
    """Accuracy barriers 0, 3, 6: 3 ± 3; loss 0.5, 1.5, 2.5: 1.5 ± 1; correlations 0.6, 0.65, 0.7 by pair."""
    text = page_of(tmp_path, loan())
    has(
        text,
        "| permuted A to B, matched at end | no | 3.00 ± 3.00 (n=3) | 1.50 ± 1.00 (n=3) |",
        "| permuted A to B, matched at end | yes | 3.00 ± 3.00 (n=3) | 1.50 ± 1.00 (n=3) |",
        "| end | 0.65 ± 0.05 (n=3) | 0.50 |",
    )


def test_loans_of_one_schedule_are_pooled_and_their_cards_named(tmp_path: Path) -> None:
    other = loan(row=row_of((3,), rows=rows((3,), shift=1.0), stopped=True))
    other["environment"] |= {"device": "NVIDIA H200", "date": "2026-12-01"}
    text = page_of(tmp_path, loan(), other)
    has(
        text,
        "- lease-b.json: NVIDIA H200, pairs 3, 12 tasks at once; predicted 361 s, took 378 s; "
        "stopped at the end of the budget.",
        "| dense | 0 % | – | 90.25 ± 0.50 (n=4) | 0.310 | – |",
        "| LTH | 90 % | 82.9 % | 89.55 ± 0.44 (n=4) | 0.400 | 91.18 ± 0.27 (n=3) |",
    )
    assert text.count("### T = 21") == 1
    assert text.index("images/gpu.svg") > text.index("## NVIDIA H200"), "the latest loan's throughput is drawn"


def test_loans_of_different_schedules_stay_apart(tmp_path: Path) -> None:
    text = page_of(tmp_path, loan(), loan(row=row_of((0, 1, 2), precision="float32")))
    assert text.count("### T = 21") == 2
    assert "(n=6)" not in text


def test_the_paper_s_own_length_is_said(tmp_path: Path) -> None:
    text = page_of(tmp_path, loan(row=row_of((0, 1, 2), epochs=200, retraining=50, rewind="20ep")))
    has(text, "so has this.")
    assert "821it" in text
    has(text, "| permuted, matched at 821it | 90 % | 82.9 % | 87.50 ± 0.00 (n=3) | 0.400 | – |")


def test_one_pair_has_no_interval(tmp_path: Path) -> None:
    text = page_of(tmp_path, loan(row=row_of((0,))))
    has(
        text,
        "| LTH − naive | 90 % | +2.00; one pair has no interval | 1 | +2.35 |  |",
        "| permuted − naive | 90 % | +1.00; one pair has no interval | 1 | +0.67 "
        "| 50 %; one seed has no interval (n=1) |",
    )


def test_what_failed_or_was_skipped_says_why(tmp_path: Path) -> None:
    failed = loan(
        smoke={"error": "RuntimeError: no kernel\nimage"},
        throughput={"skipped": "the budget of 540 s was spent."},
        symmetry={"resnet20": {"error": "KeyError: 'x'"}, "resnet50": {"skipped": "no time"}},
        row={"error": "RuntimeError: lost"},
    )
    text = page_of(tmp_path, failed)
    has(
        text,
        "Not measured: RuntimeError: no kernel image.",
        "Not measured: the budget of 540 s was spent.",
        "| resnet20 | not measured: KeyError: 'x' |  |  |",
        "| resnet50 | not measured: no time |  |  |",
        "lease-a.json: not measured (RuntimeError: lost).",
    )
    assert not (tmp_path / "docs" / "images").exists()
    cut = loan()
    cut["answers"] = {"throughput": {"rows": []}}
    text = page_of(tmp_path, cut)
    assert text.count("Not measured: the loan did not come to it.") == 2
    has(text, "Not measured: nothing of it was done.", "lease-a.json: not measured (the loan did not come to it).")


def test_a_row_that_was_cut_shows_what_it_has(tmp_path: Path) -> None:
    rows_so_far = [row for row in rows((0, 1)) if row["method"] == "dense"]
    none = {"method": "lth", "sparsity": 0.9, "match_at": None, "seed": 0, "accuracy": None, "loss": None}
    text = page_of(
        tmp_path, loan(row=row_of((0, 1), rows=[*rows_so_far, none], barriers=[], matching=[], error="lost"))
    )
    has(
        text,
        "| dense | 0 % | – | 90.00 ± 0.00 (n=2) | 0.310 | – |",
        "Differences: not measured (no pair has naive beside another method).",
        "Barriers: not measured (the loan did not come to them).",
        "Matching: not measured (the loan did not come to it).",
    )
    assert "took 378 s; lost." in text
    assert "LTH" not in text.split("The paper's row")[1].split("share")[0]


def test_a_rehearsal_measures_nothing(tmp_path: Path) -> None:
    text = page_of(tmp_path, loan() | {"tiny": True})
    assert text.count("Not measured: a rehearsal measures nothing.") == 3
    assert "30,000" not in text


def test_the_same_pair_twice_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"lease-b\.json: pair 2 at T = 21 is in lease-a\.json too.*--first-seed"):
        page_of(tmp_path, loan(), loan(row=row_of((2, 3))))
    twice = row_of((0, 1, 2))
    twice["rows"] += rows((1,))[:1]
    with pytest.raises(InputError, match=r"lease-a\.json: dense of pair 1 stands there twice"):
        page_of(tmp_path, loan(row=twice))


@pytest.mark.parametrize(
    ("content", "words"),
    [("{", "cannot be read as JSON"), ("[]", "schema is 'list', expected 1"), ('{"schema": 2}', "schema is 2")],
)
def test_a_file_of_something_else_is_refused(
    tmp_path: Path, content: str, words: str, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "x.json").write_text(content)
    assert main([str(tmp_path / "x.json"), "--page", str(tmp_path / "gpu.md")]) == 2
    said = capsys.readouterr().err
    assert words in said
    assert "give files that python -m benchmarks.lease wrote" in said
    assert not (tmp_path / "gpu.md").exists()


def test_figures_of_another_loan_are_noticed(tmp_path: Path) -> None:
    """What the other tests rest on: a figure that moved by a last digit fails them."""
    moved = loan()
    moved["answers"]["row"]["rows"][3]["accuracy"] += 0.03
    with pytest.raises(AssertionError):
        has(page_of(tmp_path, moved), "| LTH | 90 % | 82.9 % | 89.40 ± 0.40 (n=3) | 0.400 | 91.18 ± 0.27 (n=3) |")
