"""A sweep is several ordinary experiments: the same tasks, in one plan."""

import pytest

from reticket.errors import ConfigError
from reticket.experiment import Plan
from reticket.tasks.blueprint import Blueprint
from reticket.tasks.config import Config
from reticket.tasks.networks import Facts
from reticket.tasks.presets import load_config
from reticket.tasks.sweep import variants

FACTS = Facts("0" * 64, 1297, tuple("0123456789"), (64,))


def digits(*settings: str) -> Config:
    return load_config("digits", ("seeds=1", "diversity_members=0", *settings))[1]


def test_a_configuration_without_a_sweep_is_its_own_only_variant() -> None:
    (only,) = variants(digits())
    assert (only.value, only.folder, only.config) == (None, "", digits())


def test_each_variant_is_the_experiment_that_a_user_would_set_by_hand() -> None:
    found = variants(digits("sweep.sparse.lr=[0.1, 0.05]"))
    assert [(variant.value, variant.folder) for variant in found] == [(0.1, "lr-0.1"), (0.05, "lr-0.05")]
    for variant in found:
        by_hand = Blueprint(digits(f"sparse.lr={variant.value}"), FACTS)
        swept = Blueprint(variant.config, FACTS)
        assert [task.key for task in swept.targets] == [task.key for task in by_hand.targets]


def test_variants_share_their_tasks_in_one_plan() -> None:
    found = [Blueprint(variant.config, FACTS) for variant in variants(digits("sweep.sparse.lr=[0.1, 0.05]"))]
    alone = [Plan.of(plan.targets) for plan in found]
    both = Plan.of(task for plan in found for task in plan.targets)
    trained = sum(task.kind == "sparse" for task in alone[0].tasks)
    assert len(both) == len(alone[0]) + trained


def test_a_parameter_of_the_model_is_swept() -> None:
    found = variants(digits('sweep."model.params.hidden"=[[8], [16, 16]]'))
    assert [variant.folder for variant in found] == ["hidden-8", "hidden-16-16"]
    assert [variant.config.title.rpartition(": ")[2] for variant in found] == ["hidden 8", "hidden 16, 16"]
    assert [list(variant.config.model.params["hidden"]) for variant in found] == [[8], [16, 16]]


STEP = ("dense.schedule=step", "dense.milestones=[3]")


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        (("dense.milestones=[3]",), r"^dense: milestones are \[3\], but schedule 'cosine' has none; set schedule to"),
        (("dense.schedule=step",), "^dense: schedule 'step' has no milestones, so its rate would never fall; give"),
        (
            ("dense.milestones=[3]", "sweep.dense.lr=[0.1, 0.2]"),
            r"milestones are \[3\], but schedule 'cosine' has none",
        ),
    ],
)
def test_milestones_that_no_schedule_reads_are_refused(settings: tuple[str, ...], said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        variants(digits(*settings))


@pytest.mark.parametrize(
    "settings",
    [
        STEP,
        (*STEP, 'sweep.dense.schedule=["step", "cosine"]'),
        ("dense.milestones=[3]", 'sweep.dense.schedule=["step", "cosine"]'),
        ("dense.schedule=step", "sweep.dense.milestones=[[3], [4]]"),
    ],
)
def test_in_a_sweep_milestones_may_be_for_some_of_its_experiments(settings: tuple[str, ...]) -> None:
    """And keys are those that they have always been: with the milestones, read or not."""
    assert all(variant.config.dense.milestones in ((3,), (4,)) for variant in variants(digits(*settings)))


@pytest.mark.parametrize(
    ("setting", "said"),
    [
        ("sweep.sparse.lr=[]", r"sweep.sparse.lr is \[\]; give at least one value"),
        ("sweep.sparse.lr=[0.1, 0.1]", "give at least one value, each once"),
        ("sweep.sparse.rate=[0.1]", "unknown key 'sparse.rate', did you mean"),
    ],
)
def test_a_sweep_that_is_none_is_refused(setting: str, said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        digits(setting)


def test_two_keys_are_refused() -> None:
    with pytest.raises(ConfigError, match=r"sweep names sparse.lr, dense.lr; one key can be swept"):
        digits("sweep.sparse.lr=[0.1]", "sweep.dense.lr=[0.1]")


def test_a_value_that_makes_no_experiment_is_named() -> None:
    with pytest.raises(ConfigError, match=r"sweep.dense.epochs = 0: dense: epochs is 0, but it must be at least 1"):
        variants(digits("sweep.dense.epochs=[5, 0]"))


@pytest.mark.parametrize(
    ("setting", "said"),
    [
        ('sweep."model.params.hidden"=[[8, 16], ["8, 16"]]', r"of \[8, 16\] and of \['8, 16'\] would both be written"),
        ('sweep."model.params.hidden"=[[-8], [8]]', r"of \[-8\] and of \[8\] would both be written to the folder"),
        ('sweep."data.name"=["digits", "Digits"]', r"of 'digits' and of 'Digits' would both be written to the folder"),
        ('sweep."data.name"=["a/b", "a b"]', r"of 'a/b' and of 'a b' would both be written to the folder 'name-a-b'"),
    ],
)
def test_two_values_with_one_folder_are_refused_at_planning(setting: str, said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        variants(digits(setting))


def test_values_that_differ_have_folders_of_their_own() -> None:
    found = variants(digits("sweep.grid.sparsities=[[0.5], [0.5, 0.8], [0.58]]"))
    assert [variant.folder for variant in found] == ["sparsities-0.5", "sparsities-0.5-0.8", "sparsities-0.58"]
