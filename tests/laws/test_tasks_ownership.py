"""A run directory belongs to one experiment: no report is overwritten by that of another one."""

import json
from pathlib import Path

import pytest
import tomli_w

import reticket as rt
from reticket.errors import ConfigError
from reticket.experiment import Event, in_use, used
from reticket.tasks.config import Config
from reticket.tasks.ownership import default_store, difference, foreign_file, own_folder, refuse_other, release
from reticket.tasks.presets import list_presets, load_config
from reticket.tasks.running import OutputError, run_experiment

ARTEFACT = json.dumps({})


def config(*settings: str) -> Config:
    return load_config("digits", settings)[1]


def occupy(folder: Path, experiment: Config, *, done: bool = True) -> None:
    """Write what a run leaves that decides to whom the folder belongs."""
    folder.mkdir(parents=True)
    values = {key: value for key, value in experiment.model_dump(exclude_none=True).items() if value != {}}
    (folder / "environment.json").write_text("{}")
    (folder / "config.toml").write_text(tomli_w.dumps(values))
    if done:
        (folder / "results.json").write_text(ARTEFACT)


def test_an_experiment_goes_on_in_its_own_folder_and_another_beside_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    first, second, third = config(), config("grid.seeds=2"), config("grid.seeds=3")
    assert own_folder(first, "digits") == (Path("runs/digits"), "")
    occupy(Path("runs/digits"), first)
    assert own_folder(first, "digits") == (Path("runs/digits"), "")
    folder, text = own_folder(second, "digits")
    assert folder == Path("runs/digits-2")
    assert text == (
        "runs/digits is kept, it is another experiment's (grid.seeds is (0, 1, 2, 3, 4) there and (0, 1) here); "
        "this one goes to runs/digits-2"
    )
    occupy(folder, second)
    assert own_folder(second, "digits")[0] == folder
    assert own_folder(third, "digits")[0] == Path("runs/digits-3")
    (Path("runs/digits") / "store").mkdir()
    assert default_store(Path("runs/digits-3")) == Path("runs/digits/store")
    assert default_store(Path("runs/digits")) == Path("runs/digits/store")


def test_a_run_without_results_belongs_to_nobody(tmp_path: Path) -> None:
    occupy(tmp_path / "a", config(), done=False)
    assert difference(config("grid.seeds=2"), tmp_path / "a") == ""
    assert difference(config(), tmp_path / "nowhere") == ""


def test_a_run_that_goes_on_has_its_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    folder = Path("runs/digits")
    occupy(folder, config(), done=False)
    with in_use(folder), in_use(folder):  # two that run the same
        assert used(folder)
        assert own_folder(config(), "digits")[0] == folder
        assert own_folder(config("grid.seeds=2"), "digits")[0] == Path("runs/digits-2")
        with pytest.raises(ConfigError, match=r"grid\.seeds is"):
            refuse_other(config("grid.seeds=2"), folder)
    assert not used(folder)
    assert own_folder(config("grid.seeds=2"), "digits")[0] == folder


def test_of_two_runs_of_one_moment_the_first_does_not_write_over_the_second(tmp_path: Path) -> None:
    small = [
        "grid.seeds=1",
        "dense.epochs=2",
        'grid.methods=["dense"]',
        'grid.rewinds=["0ep"]',
        "checks.barriers=false",
    ]
    small += ["checks.diversity_members=0", "checks.overlap=false"]
    other = config(*small, "dense.lr=0.05")

    def begin(event: Event) -> None:
        values = {key: value for key, value in other.model_dump(exclude_none=True).items() if value != {}}
        (tmp_path / "run" / "config.toml").write_text(tomli_w.dumps(values))

    with pytest.raises(OutputError, match=r"another run has begun in .* \(dense.lr is 0.05 there and 0.1 here\)"):
        run_experiment(config(*small), tmp_path / "run", on_event=begin)
    assert not (tmp_path / "run" / "results.json").exists()
    assert run_experiment(config(*small), tmp_path / "again", store=tmp_path / "run" / "store").done == ()


def test_a_folder_that_the_user_names_is_refused_until_it_is_let_go(tmp_path: Path) -> None:
    occupy(tmp_path / "a", config("grid.seeds=2"))
    refuse_other(config("grid.seeds=2"), tmp_path / "a")
    with pytest.raises(ConfigError, match=r"a holds the results of another experiment \(grid.seeds is .*--force"):
        refuse_other(config(), tmp_path / "a")
    with pytest.raises(ConfigError, match="holds the results of another experiment"):
        rt.run("digits", out=tmp_path / "a")
    assert (tmp_path / "a" / "results.json").read_text() == ARTEFACT
    release(config(), tmp_path / "a")
    refuse_other(config(), tmp_path / "a")


@pytest.mark.parametrize("name", ["config.toml", "report.html"])
def test_a_file_that_no_run_wrote_is_not_replaced(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As a configuration with the user's comments, in the folder that `--out` names: it is another one's work."""
    monkeypatch.chdir(tmp_path)
    folder = Path("runs/digits")
    folder.mkdir(parents=True)
    (folder / name).write_text("# mine")
    said = f"digits has a {name} that no run wrote, and this one would replace it; give another --out, or move it"
    for refused in (
        lambda: refuse_other(config(), folder),
        lambda: release(config(), folder),
        lambda: rt.run(out=folder),
    ):
        with pytest.raises(ConfigError, match=said):
            refused()
    folder_of_it, text = own_folder(config(), "digits")
    assert folder_of_it == Path("runs/digits-2")
    assert text == f"runs/digits is kept, no run wrote the {name} in it; this one goes to runs/digits-2"
    assert [path.read_text() for path in folder.iterdir()] == ["# mine"]


def test_a_file_in_the_folder_of_a_sweeps_experiment_is_not_replaced(tmp_path: Path) -> None:
    swept = config("sweep.dense.lr=[0.1, 0.2]")
    (tmp_path / "lr-0.2").mkdir()
    refuse_other(swept, tmp_path)
    (tmp_path / "lr-0.2" / "config.toml").write_text("# mine")
    refuse_other(config(), tmp_path)
    with pytest.raises(ConfigError, match=r"has a lr-0\.2/config\.toml that no run wrote"):
        refuse_other(swept, tmp_path)


def test_a_run_that_lost_where_it_was_made_is_known_by_its_results(tmp_path: Path) -> None:
    occupy(tmp_path / "a", config())
    (tmp_path / "a" / "environment.json").unlink()
    refuse_other(config(), tmp_path / "a")
    with pytest.raises(ConfigError, match=r"another experiment \(grid\.seeds"):
        refuse_other(config("grid.seeds=2"), tmp_path / "a")
    release(config("grid.seeds=2"), tmp_path / "a")
    refuse_other(config("grid.seeds=2"), tmp_path / "a")


def test_files_that_no_run_writes_may_stand_in_its_folder(tmp_path: Path) -> None:
    (tmp_path / "notes.md").write_text("mine")
    refuse_other(config(), tmp_path)
    assert foreign_file(config(), tmp_path) == ""


def test_a_configuration_that_cannot_be_read_is_somebody_elses(tmp_path: Path) -> None:
    occupy(tmp_path / "a", config())
    (tmp_path / "a" / "config.toml").write_text("=")
    assert difference(config(), tmp_path / "a") == "its configuration cannot be read"


@pytest.mark.parametrize("preset", list(list_presets()))
def test_every_preset_goes_on_in_its_own_folder(tmp_path: Path, preset: str) -> None:
    """Also where an option's default is a tuple, which no file has: AdamW's betas."""
    experiment = load_config(preset)[1]
    occupy(tmp_path / "a", experiment)
    assert difference(experiment, tmp_path / "a") == ""
