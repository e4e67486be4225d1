"""What a configuration says of a slip: where, what was seen, and the nearest right name or the range."""

import sys
from pathlib import Path

import pytest

from reticket import lookup
from reticket.errors import ConfigError
from reticket.models import Frame
from reticket.tasks.blueprint import Blueprint
from reticket.tasks.networks import Facts
from reticket.tasks.presets import load_config
from reticket.tasks.sweep import variants
from reticket.training import learning_rate

TINY = Path(__file__).parents[1] / "e2e" / "tiny.toml"


@pytest.mark.parametrize(
    ("setting", "message"),
    [
        (
            "prune.scope=LAYER",
            r"'prune\.scope' is 'LAYER', did you mean 'layer'\?; expected 'global', 'layer' or 'erk'$",
        ),
        ("prune.style=lr_rewind", r"'prune\.style' is 'lr_rewind', did you mean 'lr-rewind'\?"),
        (
            "dense.schedule=cosin",
            r"dense: unknown schedule 'cosin', did you mean 'cosine'\?; known are cosine, constant",
        ),
        (
            "grid.sparsities=[50]",
            r"'grid.sparsities.0' is 50: .* less than 1; it is the share of weights pruned, as 0\.9$",
        ),
        ("grid.rewinds=[5]", r"'grid.rewinds.0' is 5, but a position was expected: steps as '300it', epochs as '5ep'$"),
        ("prune.rewind=5s", r"'prune.rewind' is '5s', but a position was expected: steps as '300it', epochs as '5ep'$"),
        ("prune.rewind=5", r"'prune.rewind' is 5, but a position was expected: steps as '300it', epochs as '5ep'$"),
        (
            "grid.rewinds=5",
            r"'grid.rewinds' is 5, expected a list of texts, as grid.rewinds=\[\"0ep\", \"5ep\"\]; a shell",
        ),
        ("matching.a_at=last", r"'matching.a_at' is 'last', but .* epochs as '5ep', 'end', or 'same' as B$"),
        ("grid.match_at=['last']", r"'grid.match_at.0' is 'last', but a position was .* epochs as '5ep', or 'end'$"),
        ("dense.lr=-1", r"dense: lr is -1\.0, but it must be above 0$"),
        ("dense.epochs=0", "dense: epochs is 0, but it must be at least 1$"),
        ("dense.lr=fast", r"'dense\.lr' is 'fast': input should be a valid number"),
        ("sparse.lr=0", r"sparse: lr is 0\.0, but it must be above 0$"),
        (
            "prune.rate=1.5",
            r"prune: pruning rate 1\.5 is not in \(0, 1\); give the fraction of weights to prune in a round",
        ),
        ("prune.stile=finetune", r"unknown key, did you mean 'prune\.style'\?"),
        ("prune.epochs=0", r"'prune\.epochs' is 0: input should be greater than or equal to 1"),
        ("prune.momentum=2", r"prune: momentum is 2\.0, but it must be from 0 to below 1$"),
        ("dense.momentu=0.5", r"unknown key, did you mean 'dense\.momentum'\?"),
        ("grid.seeds=1000000000000", r"seeds is 1000000000000, but at most 1,000 are planned; give fewer"),
        (
            "checks.diversity_members=1000000",
            r"'checks\.diversity_members' is 1000000: input should be less than or eq",
        ),
        ("checks.alphas=2", r"'checks\.alphas' is 2: input should be greater than or equal to 3"),
        (
            "grid.methods=[erk]",
            r"'grid.methods' is '\[erk\]', expected a list of texts, as "
            r"grid.methods=\[\"erk\", \"lth\"\]; a shell needs single quotes around the whole setting$",
        ),
        ("grid.methods=signed(share=0.5)", r"'grid.methods' is 'signed\(share=0.5\)', expected a list of texts"),
        ("rewinds=0ep", r"'grid.rewinds' is '0ep', expected a list of texts, as grid.rewinds=\[\"0ep\", \"5ep\"\]; a"),
        ("diversity_sparsity=0.3", r"checks\.diversity_sparsity is 0\.3, which is none of \[0\.4, 0\.7\]"),
    ],
)
def test_a_slip_is_named(setting: str, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        load_config(TINY, [setting])


def test_an_unknown_key_of_a_file_is_named_with_the_nearest(tmp_path: Path) -> None:
    path = tmp_path / "mine.toml"
    path.write_text(TINY.read_text().replace("batch_size = 50", "batchsize = 50"))
    with pytest.raises(ConfigError, match=r"unknown key 'dense\.batchsize', did you mean 'dense\.batch_size'\?"):
        load_config(path)


def test_modules_that_a_file_names_are_found_beside_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lookup, "_places", [])
    monkeypatch.setattr(sys, "path", list(sys.path))
    (tmp_path / "lies_beside.py").write_text("def rate(at):\n    return 0.5\n")
    path = tmp_path / "mine.toml"
    path.write_text(TINY.read_text().replace("lr = 0.1", 'lr = 0.1\nschedule = "lies_beside:rate"', 1))
    setting = ["dense.schedule=lies_beside:rate"]
    with pytest.raises(ConfigError, match=r"schedule 'lies_beside:rate' cannot be imported"):
        load_config(TINY, setting)
    assert learning_rate(load_config(path)[1].dense, 3, 0, 6) == 0.05
    assert load_config(TINY, setting)[1].dense.schedule == "lies_beside:rate"  # known by now


def test_the_fixed_entries_of_an_asymmetric_model_cannot_move_with_its_units() -> None:
    settings = ["grid.frame=mask", "model.params.asymmetric.share=0.1"]
    with pytest.raises(ConfigError, match=r'grid\.frame is "mask", which moves B.s weights, but the fixed entries of'):
        load_config(TINY, settings)
    assert load_config(TINY, [*settings, "model.params.asymmetric.frozen=false"])[1].grid.frame == "mask"


@pytest.mark.parametrize("method", ["erk+rigl", "permuted + set(fraction=0.2)", "imp-b+srigl"])
def test_a_pruned_fixed_entry_cannot_return(method: str) -> None:
    settings = [f"grid.methods=['naive', '{method}']", "model.params.asymmetric.share=0.1"]
    with pytest.raises(ConfigError, match=r"grid\.methods: '.+' lets pruned weights return, at 0, where a fixed entry"):
        load_config(TINY, settings)
    load_config(TINY, [*settings, "model.params.asymmetric.frozen=false"])


def test_signs_of_units_that_moved_cannot_be_given_to_fixed_entries() -> None:
    frame = "model.params.asymmetric.share=0.1"
    for method in ("signed", "signed(share=0.5)"):
        with pytest.raises(ConfigError, match=r"grid\.methods: 'signed.*' gives B's weights the signs of A's moved"):
            load_config(TINY, [f"grid.methods=['{method}']", frame])
        load_config(TINY, [f"grid.methods=['{method}']", frame, "model.params.asymmetric.frozen=false"])
    harmless = ["signed(share=0)", "naive-signed", "gradual", "permuted+gradual", "imp"]
    load_config(TINY, [f"grid.methods={harmless}", frame])
    load_config(TINY, ["grid.methods=['no such method']", frame])  # who plans it says so


def test_a_frame_is_checked_before_anything_is_planned_and_in_each_experiment_of_a_sweep() -> None:
    with pytest.raises(ConfigError, match=r"model\.params\.asymmetric has no 'scal', did you mean 'scale'"):
        load_config(TINY, ["model.params.asymmetric.share=0.1", "model.params.asymmetric.scal=2.0"])
    settings = ["model.params.asymmetric.scale=2.0", "sweep.model.params.asymmetric.share=[0.1, 0.2]"]
    swept = load_config(TINY, [*settings, "grid.methods=['permuted']"])[1]
    assert [Frame.of(one.config.model.params["asymmetric"]).share for one in variants(swept)] == [0.1, 0.2]
    refused = load_config(TINY, [*settings, "grid.methods=['erk+rigl']"])[1]
    with pytest.raises(ConfigError, match=r"share = 0\.1: grid\.methods: 'erk\+rigl' lets pruned weights return"):
        variants(refused)


@pytest.mark.parametrize("section", ["dense", "sparse"])
def test_normalisation_that_is_not_there_is_said_while_planning(section: str) -> None:
    images = Facts("0" * 64, 600, tuple("0123456789"), (64,))
    with pytest.raises(ConfigError, match="recipe: interpolate_norms is set, but the model has no normalisation layer"):
        Blueprint(load_config("digits", [f"{section}.interpolate_norms=true"])[1], images)
    config = load_config("digits-vit", ["dense.interpolate_norms=true", f"{section}.interpolate_norms=true"])[1]
    Blueprint(config, images)
    assert config.sparse_recipe.interpolate_norms
    off = load_config("digits-vit", ["dense.interpolate_norms=true", "sparse.interpolate_norms=false"])[1]
    assert (off.sparse_recipe.interpolate_norms, off.finetuning_recipe.interpolate_norms) == (False, True)
