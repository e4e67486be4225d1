"""An experiment of masks that change, from its configuration to its report."""

from pathlib import Path

import pytest

import reticket as rt

TINY = Path(__file__).with_name("tiny.toml")
CHANGING = ("erk+rigl", "erk+set(every=1, fraction=0.5)", "permuted+srigl", "gradual")


@pytest.mark.slow
def test_masks_that_change_from_the_configuration_to_the_report(tmp_path: Path) -> None:
    methods = ["lth", "erk", "permuted", "erk + rigl()", *CHANGING[1:]]
    settings = ("grid.seeds=1", "grid.sparsities=[0.7]", 'grid.rewinds=["1ep"]', f"grid.methods={methods}")
    results = rt.run(TINY, settings=settings, out=tmp_path, store=tmp_path / "store")
    assert results.complete
    assert {row.method for row in results.rows} == {"lth", "erk", "permuted", *CHANGING}
    masks = {row.method: results.mask(method=row.method, sparsity=0.7) for row in results.rows}
    kept = {name: mask.kept for name, mask in masks.items()}
    assert kept["gradual"] == kept["erk"] == kept["erk+rigl"] == kept["erk+set(every=1, fraction=0.5)"]
    assert 0.9 * kept["permuted"] < kept["permuted+srigl"] <= kept["permuted"]
    assert len({masks[name] for name in masks}) == len(masks), "every mask is another one"
    for name in CHANGING:
        weights = results.weights(method=name, sparsity=0.7)
        assert all(not weights[key][~flags].any() for key, flags in masks[name].items())
    page = (tmp_path / "report.html").read_text("utf-8")
    assert "ERK + RigL" in page
    assert "While it trains: RigL: a fraction of each layer" in page
