"""A seat for any matcher: one that looks at no data and one that begins from an alignment, from outside the package.

Both run through `rt.match`, `reticket match` and a whole experiment with its report.
"""

import json
import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor, nn

import reticket as rt
from reticket.cli import main
from reticket.errors import AlignmentError, ConfigError, InputError
from reticket.matching import MATCHERS, matcher
from reticket.tasks.blueprint import Blueprint
from reticket.tasks.networks import Facts
from reticket.tasks.presets import load_config

TINY = Path(__file__).parent / "tiny.toml"
SMALL = ("seeds=1", "sparsities=[0.5]", 'rewinds=["0it"]', 'methods=["permuted", "naive"]', "overlap=false")
SMALL = (*SMALL, "barriers=false", "diversity_members=0", "dense.epochs=1")


def by_bias(models_a: Sequence[nn.Module], models_b: Sequence[nn.Module], sym: rt.Symmetry, *, falling: bool = False):
    """Match units by the order of their biases; a falling order on both sides pairs them likewise."""
    order_a, order_b = (
        {name: models[-1].get_parameter(_bias(name)).argsort(descending=falling) for name in sym.groups}
        for models in (models_a, models_b)
    )
    return rt.Alignment(sym, {name: rt.Permutation(order_a[name][order_b[name].argsort()]) for name in sym.groups})


def _bias(group: str) -> str:
    return f"{group.removesuffix('.weight')}.bias"


def swapped(
    models_a: Sequence[nn.Module],
    models_b: Sequence[nn.Module],
    sym: rt.Symmetry,
    start: rt.Alignment,
    *,
    units: list[int] = [0, 1],  # noqa: B006 (a default that a configuration shows)
):
    """Begin from an alignment and swap two units of every group."""
    moved = {}
    for name, permutation in start.permutations.items():
        index = permutation.index.clone()
        index[..., units] = index[..., units[::-1]]
        moved[name] = rt.Permutation(index)
    return rt.Alignment(sym, moved)


def still(models_a: Sequence[nn.Module], models_b: Sequence[nn.Module], sym: rt.Symmetry):
    """Look at nothing, have no options, and move nothing."""
    return rt.identity_alignment(sym)


def masked(
    models_a: Sequence[nn.Module], models_b: Sequence[nn.Module], sym: rt.Symmetry, masks_a: Mapping[str, Tensor]
):
    """Look at a mask, and move nothing."""
    assert masks_a["layers.0.weight"].dtype is torch.bool
    return rt.identity_alignment(sym)


@pytest.fixture(autouse=True)
def _registered() -> Iterator[None]:
    for name, function in (("by-bias", by_bias), ("swapped", swapped), ("still", still), ("masked", masked)):
        matcher(name)(function)
    yield
    for name in ("by-bias", "swapped", "still", "masked"):
        del MATCHERS._members[name]


@pytest.fixture(scope="module")
def b() -> nn.Module:
    return rt.build_model("mlp", in_features=64, hidden=[6], classes=10, generator=rt.generator_for("b"))


@pytest.fixture(scope="module")
def sym(b: nn.Module) -> rt.Symmetry:
    return rt.discover(b, torch.randn(2, 64, generator=rt.generator_for("x")), verify=False)


@pytest.fixture(scope="module")
def shuffle(sym: rt.Symmetry) -> rt.Alignment:
    return rt.random_alignment(sym, rt.generator_for("shuffle"))


@pytest.fixture(scope="module")
def a(b: nn.Module, shuffle: rt.Alignment) -> nn.Module:
    """B with its units shuffled, so that `shuffle` is what matching must find."""
    model = rt.build_model("mlp", in_features=64, hidden=[6], classes=10)
    rt.load_into(model, shuffle.inverse().apply(b.state_dict()))
    return model


# ---------------------------------------------------------------- rt.match


def test_match_without_data_finds_what_was_shuffled(
    a: nn.Module, b: nn.Module, sym: rt.Symmetry, shuffle: rt.Alignment
) -> None:
    for found in (
        rt.match(a, b, sym, method="by-bias"),
        rt.match(a, b, sym, iter(()), "by-bias", falling=True),  # batches are left unread
    ):
        assert found.permutations == shuffle.permutations
        assert not found.quality
    assert rt.match(a, a, sym, method="by-bias").permutations != shuffle.permutations


def test_match_from_a_start(a: nn.Module, b: nn.Module, sym: rt.Symmetry, shuffle: rt.Alignment) -> None:
    found = rt.match(a, b, sym, method="swapped", start=shuffle)
    assert found.permutations != shuffle.permutations
    assert rt.match(a, b, sym, method="swapped", start=found).permutations == shuffle.permutations


def test_match_with_masks(a: nn.Module, b: nn.Module, sym: rt.Symmetry) -> None:
    assert rt.match(a, b, sym, method="masked", masks_a=rt.prune_magnitude(a, density=0.5)).symmetry is sym


@pytest.mark.parametrize(
    ("method", "arguments", "words"),
    [
        ("swapped", {}, r"^matcher 'swapped' needs an alignment to begin from, start=; give it$"),
        ("masked", {}, r"^matcher 'masked' needs the mask of A, masks_a=; give it$"),
        ("activation", {}, r"^matcher 'activation' needs batches of inputs, the argument batches; give it$"),
        (
            "by-bias",
            {"start": 1},
            r"^matcher 'by-bias' does not take an alignment to begin from, start=; leave it out$",
        ),
        (
            "by-bias",
            {"fallin": 1},
            r"^matcher 'by-bias' has no option 'fallin', did you mean 'falling'\?; it has fallin",
        ),
        (
            "masked",
            {"masks_a": {}, "cost": "cosine"},
            r"^matcher 'masked' has no option 'cost'; it has none of its own, and as all do fixed,",
        ),
    ],
)
def test_what_a_matcher_lacks_or_does_not_take(
    method: str, arguments: dict[str, Any], words: str, a: nn.Module, sym: rt.Symmetry
) -> None:
    if "start" in arguments:
        arguments = {"start": rt.identity_alignment(sym)}
    with pytest.raises(InputError, match=words):
        rt.match(a, a, sym, method=method, **arguments)


def test_models_and_a_start_of_another_symmetry_are_refused(a: nn.Module, sym: rt.Symmetry) -> None:
    with pytest.raises(AlignmentError, match=r"model_b is not of this symmetry"):
        rt.match(a, nn.Linear(6, 3), sym, method="by-bias")
    other = rt.identity_alignment(rt.Symmetry.from_axes({}, a))
    with pytest.raises(AlignmentError, match=r"start is an alignment of another symmetry; give one"):
        rt.match(a, a, sym, method="swapped", start=other)


def test_a_signature_that_says_too_little_is_refused() -> None:
    def no_default(models_a: Any, models_b: Any, sym: Any, *, rounds: int) -> None: ...
    def no_option(models_a: Any, models_b: Any, sym: Any, rounds: int = 1) -> None: ...
    def anything(models_a: Any, models_b: Any, sym: Any, **options: Any) -> None: ...
    def no_models(sym: Any) -> None: ...

    functions: list[Any] = [no_default, no_option, anything, no_models]
    for function in functions:
        with pytest.raises(
            InputError, match=r"^matcher 'odd' has the parameters .*options, which stand after a \*, have"
        ):
            matcher("odd")(function)
    assert "odd" not in MATCHERS
    odd: Any = lambda models_a, models_b, sym: {}  # noqa: E731
    matcher("masked-too")(odd)
    try:
        model = nn.Linear(2, 2)
        with pytest.raises(InputError, match="matcher 'masked-too' returned a dict, but an Alignment was expected"):
            rt.match(model, model, rt.Symmetry.from_axes({}, model), method="masked-too")
    finally:
        del MATCHERS._members["masked-too"]


# ---------------------------------------------------------------- reticket match


def reticket(monkeypatch: pytest.MonkeyPatch, *arguments: str | Path) -> int:
    monkeypatch.setattr(sys, "argv", ["reticket", *map(str, arguments)])
    with pytest.raises(SystemExit) as end:
        main()
    return int(end.value.code or 0)


def test_the_command_line(
    a: nn.Module,
    b: nn.Module,
    sym: rt.Symmetry,
    shuffle: rt.Alignment,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("small.toml").write_text(TINY.read_text().replace("hidden = [16]", "hidden = [6]"))
    for name, model in (("a", a), ("b", b)):
        save_file(model.state_dict(), f"{name}.safetensors")
    shuffle.save("start")
    call = ("match", "a.safetensors", "b.safetensors", "--model", "small.toml", "-o")
    assert reticket(monkeypatch, *call, "one", "--method", "by-bias", "--set", "falling=true") == 0
    assert "correlation" not in capsys.readouterr().out  # it looks at no activations
    assert reticket(monkeypatch, *call, "two", "--method", "swapped", "--start", "start") == 0
    assert reticket(monkeypatch, *call, "none", "--method", "still") == 0
    assert rt.Alignment.load("none").permutations == rt.identity_alignment(sym).permutations
    assert rt.Alignment.load("one").permutations == shuffle.permutations
    assert rt.Alignment.load("two").permutations == rt.match(a, b, sym, method="swapped", start=shuffle).permutations
    capsys.readouterr()
    for arguments, words in (
        (("--method", "by-bias", "--cost", "cosine"), "matcher 'by-bias' has no option 'cost'; it has falling"),
        (
            ("--method", "by-bias", "--set", "falling=1"),
            "option 'falling' of matcher 'by-bias' is 1: input should be a",
        ),
        (
            ("--method", "by-bias", "--set", "falling"),
            "--set falling: expected key=value, for instance --set cost=cosine",
        ),
        (("--cost", "cosin"), "option 'cost' of matcher 'activation' is 'cosin', did you mean 'cosine'?"),
        ((), "matcher 'activation' needs batches of inputs"),
    ):
        assert reticket(monkeypatch, *call, "three", *arguments) == 2
        assert words in capsys.readouterr().err
    assert not Path("three").exists()


# ---------------------------------------------------------------- reticket run


def results_of(tmp_path: Path, *settings: str) -> tuple[dict[str, Any], str]:
    results = rt.run(TINY, settings=(*SMALL, *settings), out=tmp_path)
    assert (results.complete, results.failures) == (True, ())
    return json.loads((tmp_path / "results.json").read_text()), (results.folder / "report.html").read_text()


@pytest.mark.slow
def test_an_experiment_without_data_for_matching(tmp_path: Path) -> None:
    results, report = results_of(tmp_path, "matching.method=by-bias", "matching.options.falling=true")
    assert results["matching"] == []  # it does not say how well it did
    assert {row["method"] for row in results["rows"]} >= {"permuted", "naive"}
    assert "by-bias" in (tmp_path / "config.toml").read_text()
    assert len(report) > 1000


@pytest.mark.slow
def test_an_experiment_whose_matcher_has_no_options(tmp_path: Path) -> None:
    """It moves nothing, so the permuted ticket is the naive one."""
    results, _ = results_of(tmp_path, "matching.method=still")
    found = {(row["method"], row["metric"]): row["values"] for row in results["rows"]}
    assert found["permuted", "accuracy"] == found["naive", "accuracy"]
    with pytest.raises(
        ConfigError,
        match=r"^matching: matcher 'still' has no option 'cost'; it has none of its own, and as all do fixed,",
    ):
        planned("matching.method=still", "matching.options.cost=cosine")


@pytest.mark.slow
def test_an_experiment_that_leaves_units_out(tmp_path: Path) -> None:
    """With nothing moved, a permuted ticket is the naive one but for connections of units that are left out."""
    settings = ("matching.method=identity", "matching.options.blocks=4", "matching.options.leave_out=0.5")
    results, _ = results_of(tmp_path, *settings)
    found = {(row["method"], row["metric"]): row["values"] for row in results["rows"]}
    assert found["permuted", "loss"] != found["naive", "loss"]
    with pytest.raises(ConfigError, match=r"^matching: option 'blocks' of matcher 'activation' is 'all': "):
        planned("matching.options.blocks=all")


@pytest.mark.slow
def test_an_experiment_that_begins_from_an_alignment(tmp_path: Path) -> None:
    found, _ = results_of(tmp_path / "plain")
    twice = ("matching.method=swapped", "matching.start.method=by-bias", "matching.start.options.falling=true")
    swapped, _ = results_of(tmp_path / "start", *twice)
    assert found["matching"]
    assert swapped["matching"] == []
    plan = Blueprint(load_config(TINY, (*SMALL, *twice))[1], FACTS)
    (task,) = plan.of("matching")["end"]
    start = task.inputs["start"].spec
    assert (start["method"], start["options"]) == ("by-bias", {"falling": True})


@pytest.mark.slow
def test_an_experiment_gives_a_matcher_the_ticket_that_it_will_move(tmp_path: Path) -> None:
    """Each cell has an alignment of its own, found with A's mask there and B's weights where B will train sparse."""
    settings = ("matching.method=combined", 'rewinds=["0it", "1it"]', "sparsities=[0.5, 0.8]")
    plan = planned(*SMALL, *settings)
    cells = {cell: tasks[0] for cell, tasks in plan.runs.items() if cell.method == "permuted"}
    found = {cell: task.inputs["alignment"] for cell, task in cells.items()}
    assert len({task.key for task in found.values()}) == 4
    for cell, task in found.items():
        assert task.inputs["ticket"] == cells[cell].inputs["ticket"]
        assert task.inputs["rewound_b"] == cells[cell].inputs["rewound_b"]
    assert plan.of("matching")["end"] == (next(iter(found.values())),)
    results, _ = results_of(tmp_path, "matching.method=combined", "matching.options.signs=4")
    assert results["matching"][0]["correlation"]["mean"] is not None
    without = planned(*SMALL, *settings, "matching.method=activation")
    assert (
        len({tasks[0].inputs["alignment"].key for cell, tasks in without.runs.items() if cell.method == "permuted"})
        == 1
    )


# ---------------------------------------------------------------- planning

FACTS = Facts("0" * 64, 300, tuple("0123456789"), (64,))


def planned(*settings: str) -> Blueprint:
    return Blueprint(load_config(TINY, settings)[1], FACTS)


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        (
            ["method=by_bias"],
            r"^matching: unknown matcher 'by_bias', did you mean 'by-bias'\?; known are .*activation, ",
        ),
        (
            ["options.costs=cosine"],
            r"^matching: matcher 'activation' has no option 'costs', did you mean 'cost'\?; it ",
        ),
        (
            ["cost=cosin"],
            r"^matching: option 'cost' of matcher 'activation' is 'cosin', did you mean 'cosine'\?; expec",
        ),
        (
            ["options.held_bytes=much"],
            r"^matching: option 'held_bytes' of matcher 'activation' is 'much': input should",
        ),
        (
            ["options.to_inputs=f"],
            r"^matching: option 'to_inputs' of matcher 'activation' is 'f': input should be call",
        ),
        (["options=5", "cost=cosine"], r"'matching.options' is 5: input should be a valid dictionary"),
        (["start.methd=x"], r"unknown key 'matching.start.methd'"),
        (["method=swapped"], r"^matching.start is missing: matcher 'swapped' begins from an alignment; say which "),
        (
            ["method=by-bias", "start={}"],
            r"^matching.start: matcher 'by-bias' does not begin from an alignment; leave ",
        ),
        (["method=swapped", 'start={method="swapped"}'], r"^matching.start: matcher 'swapped' needs a start itself"),
        (["method=swapped", "start={options={a=1}}"], r"^matching.start: matcher 'activation' has no option 'a'"),
        (["method=masked"], r"^matching: matcher 'masked' needs masks_a, which an experiment has not where networks"),
    ],
)
def test_planning_refuses_what_would_fail(settings: list[str], words: str) -> None:
    with pytest.raises(ConfigError, match=words):
        planned(*(f"matching.{setting}" for setting in settings))


def test_what_decides_a_matching_is_in_its_key() -> None:
    def spec(*settings: str) -> Mapping[str, Any]:
        task = planned(*(f"matching.{setting}" for setting in settings)).of("matching")["end"][0]
        return {key: value for key, value in task.spec.items() if key not in ("data", "model", "threads")}

    plain = {"method": "activation", "cost": "correlation", "stop": "stable", "samples": None, "batch_size": 500}
    assert spec() == spec("cost=correlation") == spec("options.unmatched=weight") == plain
    assert spec("cost=cosine") == spec("options.cost=cosine") == {**plain, "cost": "cosine"}
    for unmatched in ("identity", "error"):
        assert spec(f"options.unmatched={unmatched}") == {**plain, "options": {"unmatched": unmatched}}
    own = spec("method=by-bias")
    assert (own.keys(), own["options"]) == ({"method", "options", "code"}, {"falling": False})
    assert len(own["code"]) == 64  # who edits the matcher gets new keys
    assert spec("method=swapped", "start={}")["options"] == {"units": (0, 1)}
