"""A run beside the paper: which cells meet, which sd divides the difference, what is said to differ."""

from pathlib import Path
from typing import Any

import pytest
import torch

from reticket.analysis.diversity import diversity
from reticket.figures import published
from reticket.report.accuracy import by_sparsity
from reticket.report.against import departures, meetings
from reticket.report.paper import beside_the_paper, comparison_tables
from reticket.tasks.presets import load_config
from reticket.tasks.results import Results
from reticket.tasks.rows import Experiment
from tests.sample_results import PAPER_EXPERIMENT, stat

CELL = {"method": "lth", "sparsity": 0.9, "rewind": "20ep", "true_sparsity": 0.829, "metric": "accuracy"}


def run(rows: list[dict[str, Any]], experiment: dict[str, Any] | None = None, **more: Any) -> Results:
    """Rows are changes of one cell, LTH at 90 % and epoch 20 over three seeds, whose mean is 91.18."""
    values = [{**CELL, **stat([91.08, 91.18, 91.28]), **row} for row in rows]
    return Results.of_json({"schema": 1, "rows": values, "experiment": experiment or PAPER_EXPERIMENT, **more})


def changed(**sections: dict[str, Any]) -> dict[str, Any]:
    return PAPER_EXPERIMENT | {name: PAPER_EXPERIMENT[name] | values for name, values in sections.items()}


def test_the_sd_is_pooled_where_both_are_known() -> None:
    (one,) = meetings(run([stat([90.18, 91.18, 92.18])]))
    assert one.whose == "pooled"
    assert one.sd == pytest.approx(((2 * 1.0**2 + 2 * 0.27**2) / 4) ** 0.5)
    (one,) = meetings(run([stat([92.18, 93.18, 94.18])]))
    assert one.difference == pytest.approx(2.0)
    assert one.in_sds == pytest.approx(2.0 / ((1 + 0.27**2) / 2) ** 0.5)


def test_the_sd_is_ours_or_theirs_where_one_is_known_and_none_where_none_is() -> None:
    (one,) = meetings(run([{"rewind": "25ep"}]))
    assert (one.whose, one.sd) == ("ours", pytest.approx(0.1))
    (one,) = meetings(run([stat([90.0])]))
    assert (one.whose, one.sd, one.in_sds) == ("theirs", 0.27, pytest.approx((90 - 91.18) / 0.27))
    (one,) = meetings(run([{"rewind": "25ep", **stat([90.0])}]))
    assert (one.whose, one.sd, one.in_sds) == ("", None, None)


@pytest.mark.parametrize(
    "row",
    [
        {"method": "dense", "rewind": None, "sparsity": 0.0},
        {"method": "random"},
        {"sparsity": 0.92},
        {"rewind": "21ep"},
        {"rewind": None},
        {"metric": "loss"},
        {"method": "permuted", "match_at": "21ep"},
    ],
)
def test_what_is_not_published_meets_nothing(row: dict[str, Any]) -> None:
    assert meetings(run([row])) == ()


def test_steps_are_read_as_epochs() -> None:
    assert [one.theirs.rewind_epoch for one in meetings(run([{"rewind": "7820it"}]))] == [20]
    assert meetings(run([{"rewind": "7821it"}])) == ()


@pytest.mark.parametrize(
    "experiment",
    [changed(model={"params": {"width": 2}}), changed(data={"name": "digits"}), changed(model={"name": "mlp"}), {}],
)
def test_other_networks_and_data_meet_nothing(experiment: dict[str, Any]) -> None:
    assert meetings(run([{}]).model_copy(update={"experiment": Experiment(**experiment)})) == ()


def test_early_matching_meets_its_own_cells() -> None:
    rows = [{"method": "permuted", "match_at": at} for at in ("5ep", "20ep", "end")]
    assert [one.theirs.mean for one in meetings(run(rows))] == [89.16, 89.23, 89.5]


def test_a_shorter_run_meets_by_its_share_of_training() -> None:
    experiment = changed(dense={"epochs": 40})
    (one,) = meetings(run([{"rewind": "4ep"}], experiment))
    assert (one.theirs.rewind_epoch, one.same_epoch) == (20, False)
    (one,) = meetings(run([{"rewind": "20ep"}], experiment))
    assert (one.theirs.rewind_epoch, one.same_epoch) == (20, True)
    assert meetings(run([{"rewind": "7ep"}], experiment)) == ()  # epoch 35 of 200 is not published
    (one,) = meetings(run([{"method": "permuted", "rewind": "4ep", "match_at": "1ep"}], experiment))
    assert one.theirs.match_epoch == 5


def test_only_the_initialisation_meets_their_rewind_point_0() -> None:
    experiment = changed(dense={"epochs": 400})
    assert meetings(run([{"rewind": "100it"}], experiment)) == ()
    (one,) = meetings(run([{"rewind": "0it"}], experiment))
    assert one.theirs.rewind_epoch == 0


def test_departures_name_every_changed_setting_and_no_other() -> None:
    assert departures(Experiment(**PAPER_EXPERIMENT)) == ()
    experiment = changed(
        data={"train_size": 5000}, dense={"epochs": 12, "batch_size": 64}, sparse={"lr": 0.04}, prune={"exclude": []}
    )
    found = departures(Experiment(**experiment)) or ()
    assert [(one.name, one.ours, one.theirs) for one in found] == [
        ("training images", 5000, "all"),
        ("epochs of dense training", 12, 200),
        ("batch size", 64, 128),
        ("learning rate of the sparse runs", 0.04, 0.02),
        ("layers not pruned", [], ["shortcut"]),
    ]
    assert departures(Experiment(**changed(data={"name": "svhn"}))) is None


def test_the_presets_of_the_paper_depart_in_nothing_that_it_states() -> None:
    names = ("cifar10-resnet20", "cifar10-resnet20x16", "cifar10-vgg11", "cifar100-resnet20x4", "imagenet-resnet50")
    for name in names:
        config = load_config(name)[1]
        sections = {"data", "model", "dense", "sparse", "prune", "matching"}
        known = Experiment(**config.model_dump(mode="json", include=sections))
        assert departures(known) == (), name


def caption(results: Results) -> str:
    finding = beside_the_paper(results)
    assert finding is not None
    return finding.caption.replace("\u00a0", " ")


def test_the_caption_says_why_numbers_may_differ() -> None:
    assert "Every setting that the paper states is the paper's." in caption(run([{}]))
    assert "Not the paper's settings: epochs of dense training 12 instead of 200." in caption(
        run([{}], changed(dense={"epochs": 12}))
    )
    assert "Their rewind point 0 is the end of the first epoch" in caption(run([{"rewind": "0it"}]))
    assert "rewind point 0" not in caption(run([{}]))
    assert "true sparsities" not in caption(run([{}]))
    assert "differ: 90 % and 82.9 % at 90 %." in caption(run([{"true_sparsity": 0.9}]))
    assert caption(run([{}], scale={"epochs": [200, 1]})).startswith("Scaled down: 1 of 200 epochs")
    assert "source does not say with which settings" in caption(
        run([{"method": "naive"}], changed(data={"name": "svhn"}))
    )


def test_the_table_shows_ours_theirs_and_the_difference() -> None:
    table = comparison_tables(run([{}, {"method": "permuted", "rewind": "25ep"}]))["paper"]
    assert table.body[0][0] == "LTH"
    assert table.body[0][4:] == ("91.18 ± 0.10", "3", "91.18 ± 0.27", "3", "20", "0.00", "0.0", "pooled")
    assert table.records[1]["published_mean"] == 89.97
    assert table.records[1]["published_sd"] is None


def test_ensembles_stand_beside_the_published_ones() -> None:
    ours = {"method": "imp", "sparsity": 0.9, "protocol": "independent", "members": 5, "mean_accuracy": 91.0,
            "ensemble_accuracy": 93.0, "disagreement": 0.1, "kl": 0.3, "js": 0.1}  # fmt: skip
    results = run([], diversity=[ours, {**ours, "sparsity": 0.8}, {**ours, "protocol": "one ticket"}])
    (record,) = comparison_tables(results)["paper_diversity"].records
    assert (record["ours_kl"], record["published_kl"], record["published_ensemble_accuracy"]) == (0.3, 0.352, 93.25)
    assert "Ensembles are shown as ours / theirs" in caption(results)
    assert published.divergence_words() in caption(results)
    assert "KL" not in caption(run([{}]))


def test_kl_is_at_least_four_times_js_here_and_never_in_the_paper() -> None:
    generator, labels = torch.Generator().manual_seed(0), torch.zeros(50, dtype=torch.long)
    for scale in (0.01, 0.3, 1.0, 5.0, 30.0):
        measured = diversity(scale * torch.randn(3, 50, 10, generator=generator, dtype=torch.float64), labels)
        assert measured.kl is not None
        assert measured.js is not None
        assert measured.kl >= 4 * measured.js * (1 - 1e-6), scale
    assert all(one.kl < 4 * one.js for one in published.ensembles())
    # LTH: .038 / .011 = 3.45; independent: .352 / .130 = 2.71
    assert "its ratios KL / JS of 2.7 to 3.5 lie below 4" in published.divergence_words()


def test_the_text_says_of_kl_and_js_what_the_report_says() -> None:
    said = " ".join((Path(__file__).parents[2] / "docs" / "report.md").read_text("utf-8").split())
    assert published.divergence_words() in said


def test_nothing_published_leaves_the_section_out() -> None:
    assert beside_the_paper(run([], changed(data={"name": "digits"}))) is None
    assert comparison_tables(run([], changed(data={"name": "digits"}))) == {}


def test_published_values_are_drawn_where_they_fit_the_axis_and_only_there() -> None:
    near = by_sparsity(run([{}, {"method": "naive", **stat([88.0, 88.5, 89.0])}]))
    far = by_sparsity(run([{"rewind": "20ep", **stat([10.0, 10.2, 10.4])}]))
    part = by_sparsity(run([{}, {"method": "naive"}]))
    none = by_sparsity(run([{}], changed(data={"name": "digits"})))
    assert near is not None
    assert far is not None
    assert part is not None
    assert none is not None
    assert near.caption.endswith("Open marks: published, arXiv 2505.05143 (ICML 2025).")
    assert part.caption.endswith("Open marks: published, arXiv 2505.05143 (ICML 2025), where they fit the axis.")
    assert far.caption.endswith("The published accuracies, arXiv 2505.05143 (ICML 2025), lie outside the axis.")
    assert "published" not in none.caption
