"""Controls, polishing and the dial on signs in an experiment, from the grid's text to stored networks."""

from pathlib import Path

import pytest
from torch.testing import assert_close

import reticket as rt
from reticket.experiment import FolderStore
from reticket.tasks.presets import load_config
from reticket.tasks.tensors import MASK, WEIGHTS, stripped
from reticket.tickets.choice import Choice
from tests.e2e.test_regression import FILE

TINY = Path(__file__).with_name("tiny.toml")
CONTROLS = ("one-shot", "snip", "grasp", "synflow")
PERMUTED = ("polished(share=0)", "polished(share=0, by=gradient)", "signed(share=0)", "signed(share=0, by=correlation)")
DIALS = (
    "polished(share=0.5)",
    "polished(share=0.5, by=gradient)",
    "signed(share=0.5)",
    "signed(share=0.5, by=correlation)",
)
pytestmark = pytest.mark.slow
SETTINGS = ("grid.sparsities=[0.7]", "checks.barriers=false", "checks.overlap=false")


@pytest.fixture(scope="module")
def results(tmp_path_factory: pytest.TempPathFactory) -> rt.Results:
    names = ", ".join(f"'{name}'" for name in ("permuted", *CONTROLS, *PERMUTED, *DIALS))
    settings = (
        f"grid.methods=[{names}]",
        *SETTINGS,
        "grid.seeds=1",
        'grid.rewinds=["1ep"]',
        "checks.diversity_members=0",
    )
    found = rt.run(load_config(str(TINY), settings)[1], out=tmp_path_factory.mktemp("runs") / "controls", name="tiny")
    assert found.complete, found.failures
    return found


def outcome(results: rt.Results, method: str) -> tuple[dict, dict, float | None]:
    """Return weights and mask at the end, and the accuracy."""
    row = next(one for one in results.rows if (one.method, one.metric) == (str(Choice.parse(method)), "accuracy"))
    tensors = FolderStore(results.folder / "store").get(row.keys[0]).tensors
    return stripped(tensors, WEIGHTS), stripped(tensors, MASK), row.mean


def test_every_one_keeps_as_many_weights(results: rt.Results) -> None:
    kept = {
        name: sum(int(t.sum()) for t in outcome(results, name)[1].values()) for name in ("permuted", *CONTROLS, *DIALS)
    }
    assert set(kept.values()) == {kept["permuted"]}
    masks = [outcome(results, name)[1] for name in ("permuted", *CONTROLS, *DIALS[:2])]
    assert all(any((one[n] != other[n]).any() for n in one) for i, one in enumerate(masks) for other in masks[:i])


@pytest.mark.parametrize("method", PERMUTED)
def test_at_the_end_of_its_dial_a_method_trains_to_the_bits_of_permuted(results: rt.Results, method: str) -> None:
    assert_close(outcome(results, method)[:2], outcome(results, "permuted")[:2], rtol=0, atol=0)


@pytest.mark.parametrize("method", [*CONTROLS, *DIALS])
def test_elsewhere_it_does_not(results: rt.Results, method: str) -> None:
    with pytest.raises(AssertionError):
        assert_close(outcome(results, method)[0], outcome(results, "permuted")[0], rtol=0, atol=0)


def test_networks_that_predict_numbers_are_pruned_by_the_slope_of_their_own_loss(tmp_path: Path) -> None:
    (tmp_path / "numbers.toml").write_text(FILE)
    methods = "grid.methods=['snip', 'grasp', 'synflow', 'polished(by=gradient)', 'signed(by=correlation, share=0.5)']"
    config = load_config(str(tmp_path / "numbers.toml"), (methods, "grid.seeds=1", "grid.rewinds=['1ep']", *SETTINGS))[
        1
    ]
    found = rt.run(config, out=tmp_path / "out", name="numbers")
    assert found.complete, found.failures
