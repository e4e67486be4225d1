"""Every seat has room for a second member: those of `docs/extending.md`, written into a package as they stand there."""

import os
import re
import signal
import socket
import subprocess
import sys
import tomllib
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F
from torch.testing import assert_close

import reticket as rt
from reticket.cli import main
from reticket.cli.listing import listing
from reticket.data.registry import DATASETS
from reticket.errors import ConfigError
from reticket.experiment import EXECUTORS, LOGGERS, STORES, LoggedTraining, MissingResult, Store, Task, named_store
from reticket.experiment.task import closure
from reticket.lookup import imported
from reticket.matching import MATCHERS
from reticket.models.registry import MODELS
from reticket.tasks.planning import plan_experiment
from reticket.tasks.presets import load_config
from reticket.tasks.recipes import recipe_in
from reticket.tasks.tensors import mask_in
from reticket.tickets import CRITERIA
from reticket.tickets.dynamics import DYNAMICS
from reticket.tickets.methods import METHODS
from reticket.training import AUGMENTATIONS, OPTIMISERS, TrainingRun, TrainResult, TrainState
from reticket.training.batches import batches_by
from reticket.training.snapshot import state_of
from reticket.training.state import read_checkpoint

PAGE = (Path(__file__).parents[2] / "docs" / "extending.md").read_text("utf-8")
MODULES = dict(re.findall(r"^`(mine/\w+\.py)`.*?^```python\n(.*?)^```", PAGE, re.MULTILINE | re.DOTALL))
(ANNOUNCED,) = re.findall(r"^```toml\n(.*?)^```", PAGE, re.MULTILINE | re.DOTALL)
GROUPS: Mapping[str, Mapping[str, str]] = tomllib.loads(ANNOUNCED)["project"]["entry-points"]
REGISTRIES = (
    MATCHERS,
    METHODS,
    DYNAMICS,
    CRITERIA,
    OPTIMISERS,
    AUGMENTATIONS,
    EXECUTORS,
    STORES,
    LOGGERS,
    DATASETS,
    MODELS,
)
EXPERIMENT = """
[data]
name = "clouds"
params = { size = 200 }
[model]
name = "narrow"
[dense]
epochs = 6
batch_size = 20
lr = 0.02
optimizer = "own-adamw"
optimizer_options = { eps = 1e-6 }
[sparse]
lr = 0.02
[prune]
epochs = 1
lr = 0.01
[matching]
method = "by-bias"
[grid]
sparsities = [0.5]
methods = ["imp", "permuted", "own-largest", "permuted + swap(count=2)"]
[checks]
barriers = false
overlap = false
diversity_members = 0
"""


@pytest.fixture(scope="module", autouse=True)
def package(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """Install the modules of the page as a distribution, announced as the page says."""
    folder = tmp_path_factory.mktemp("installed")
    (folder / "mine").mkdir()
    for path, code in {"mine/__init__.py": "", **MODULES}.items():
        (folder / path).write_text(code)
    info = folder / "mine-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: mine\nVersion: 1.0\n")
    lines: list[str] = []
    for group, members in GROUPS.items():
        lines += [f"[{group}]", *(f"{name} = {module}" for name, module in members.items())]
    (info / "entry_points.txt").write_text("\n".join(lines))
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(folder))
        for registry in REGISTRIES:
            patch.setattr(registry, "_members", dict(registry._members))
        yield folder
    for name in [name for name in sys.modules if name.partition(".")[0] == "mine"]:
        del sys.modules[name]


def of_page(name: str):
    return imported(f"mine.{name}", "example", ConfigError)


def test_the_page_has_an_example_for_each_seat_and_each_is_listed(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    assert sorted(re.findall(r"^## An? (.*)$", PAGE, re.MULTILINE)) == [
        "augmentation", "check", "criterion", "data set", "executor", "logger", "matcher", "method", "model",
        "optimiser", "store",
    ]  # fmt: skip
    assert len(MODULES) == len(re.findall(r"^```python", PAGE, re.MULTILINE)) == 11
    for group, members in GROUPS.items():
        for name in members:
            assert listing(group.removeprefix("reticket."))[name].endswith(".")
    monkeypatch.setattr("sys.argv", ["reticket", "list", "optimisers"])
    with pytest.raises(SystemExit) as ended:
        main()
    assert ended.value.code == 0
    assert "Adam with decoupled weight decay" in capsys.readouterr().out


def test_the_matcher_finds_what_was_shuffled() -> None:
    b = rt.build_model("narrow")
    sym = rt.discover(b, torch.randn(2, 2, generator=rt.generator_for("x")))
    shuffle = rt.random_alignment(sym, rt.generator_for("shuffle"))
    a = rt.build_model("narrow")
    rt.load_into(a, shuffle.inverse().apply(b.state_dict()))
    for falling in (False, True):
        found = rt.match(a, b, sym, method="by-bias", falling=falling)
        assert torch.equal(found.permutations["0.weight"].index, shuffle.permutations["0.weight"].index)
    assert not torch.equal(shuffle.permutations["0.weight"].index, torch.arange(8))


def test_the_criterion_weighs_by_the_norm_of_the_inputs() -> None:
    model = torch.nn.Sequential(torch.nn.Linear(3, 4), torch.nn.ReLU(), torch.nn.Linear(4, 2))
    batches = [(torch.randn(5, 3, generator=rt.generator_for(i)) * torch.tensor([9.0, 1, 1]), None) for i in range(2)]
    mask = rt.prune(model, 0.4, "wanda", scope="layer", batches=batches)
    norm = torch.cat([x for x, _ in batches]).norm(dim=0)
    scores = (model.get_parameter("0.weight").detach().abs() * norm).reshape(-1)
    assert torch.equal(mask["0.weight"].reshape(-1), scores >= scores.sort(descending=True).values[4])
    assert mask != rt.prune(model, 0.4, scope="layer")
    assert not model[0]._forward_hooks


def data() -> rt.Dataset:
    return rt.load_dataset("clouds")


RECIPE = {"epochs": 6, "batch_size": 25, "lr": 0.02, "weight_decay": 0.1, "optimizer": "own-adamw"}
MASK = {"0.weight": torch.arange(16).view(8, 2) % 3 > 0}


def trained(*callbacks: rt.Callback, mask: Mapping[str, Tensor] | None = MASK, **more) -> TrainResult:
    return rt.train(rt.build_model("narrow"), data(), rt.Recipe(**RECIPE), mask=mask, callbacks=callbacks, **more)


def test_the_optimiser_is_torchs_adamw() -> None:
    """Five steps on all inputs at once, in float64."""
    clouds, model = data(), rt.build_model("narrow").double()
    recipe = rt.Recipe(5, 100, 0.05, weight_decay=0.1, schedule="constant", optimizer="own-adamw")
    found = rt.train(model, clouds, recipe).weights
    oracle = torch.optim.AdamW(model.parameters(), lr=0.05, weight_decay=0.1)
    for _ in range(5):
        oracle.zero_grad()
        F.cross_entropy(model(clouds.train_x.double() / 2), clouds.train_y).backward()
        oracle.step()
    assert_close(dict(found), {name: p.detach() for name, p in model.state_dict().items()}, rtol=1e-9, atol=1e-12)


def test_the_augmentation_adds_noise_of_its_size() -> None:
    clouds, label = data(), ("noise",)
    plain, noisy = (
        batches_by(
            rt.Recipe(2, 25, 0.1, **options), clouds, label, dtype=torch.float32, device=torch.device("cpu")
        ).epoch(0)
        for options in ({}, {"augment": "noise", "augment_options": {"size": 0.3}})
    )
    added = torch.cat([y[0] - x[0] for x, y in zip(plain, noisy, strict=True)]) * clouds.std[0]
    assert abs(float(added.mean())) < 0.05
    assert abs(float(added.std()) - 0.3) < 0.04


class Watching(rt.Callback):
    """Sees that masked weights, and what the optimiser remembers of them, are 0 after every step."""

    def __init__(self) -> None:
        self.steps = 0

    def after_step(self, run: TrainingRun) -> None:
        self.steps += 1
        for vector in (run.parameters.weights, run.optimiser.state["mean"], run.optimiser.state["square"]):
            views = run.parameters.views(vector)
            assert all(not views[name][~kept].any() for name, kept in run.mask.items())


class Masks(rt.Callback):
    """Begins to mask at a step, when the optimiser remembers gradients of what is masked."""

    def after_step(self, run: TrainingRun) -> None:
        if run.step == 9:
            run.set_mask(MASK)


@pytest.mark.parametrize("callbacks", [[], [Masks()]], ids=["always", "later"])
def test_masked_weights_stay_0(callbacks: list[rt.Callback]) -> None:
    watching = Watching()
    result = trained(*callbacks, watching, mask=None if callbacks else MASK)
    assert watching.steps == 24
    assert result.mask.keys() == MASK.keys()
    assert not result.weights["0.weight"][~MASK["0.weight"]].any()
    assert result.weights["0.weight"][MASK["0.weight"]].all()
    assert rt.evaluate(rt.build_model("narrow"), data(), weights=result.weights).accuracy > 90


def same_bits(a: TrainState, b: TrainState) -> None:
    (of_a, of_b) = (state.tensors() for state in (a, b))
    assert of_a.keys() == of_b.keys()
    assert all(torch.equal(of_a[name], of_b[name]) for name in of_a)


@pytest.mark.parametrize("mask", [None, MASK], ids=["dense", "sparse"])
def test_cut_and_continued_it_gives_the_same_bits(mask: Mapping[str, Tensor] | None) -> None:
    whole = trained(mask=mask).state
    part = trained(mask=mask, span=rt.Span(stop=7)).state
    state = TrainState.from_tensors(part.tensors(), part.metadata())
    same_bits(trained(mask=mask, resume=rt.Resume(state=state)).state, whole)
    forgotten = replace(state, optimizer={name: torch.zeros_like(t) for name, t in state.optimizer.items()})
    with pytest.raises(AssertionError):  # the state needs what the optimiser remembers
        same_bits(trained(mask=mask, resume=rt.Resume(state=forgotten)).state, whole)
    with pytest.raises(ConfigError, match=r"the state's tensors do not fit this model \('mean' has no tensor there"):
        trained(mask=mask, resume=rt.Resume(state=replace(state, optimizer={})))


KILLED = """
import os, signal, sys
import torch
import reticket as rt
torch.set_num_threads(1)
class Dies(rt.Callback):
    def after_step(self, run):
        if run.step == 11:
            os.kill(os.getpid(), signal.SIGKILL)
mask = {"0.weight": torch.arange(16).view(8, 2) % 3 > 0}
recipe = rt.Recipe(epochs=6, batch_size=25, lr=0.02, weight_decay=0.1, optimizer="own-adamw")
resume = rt.Resume(sys.argv[1], 0.0)
rt.train(rt.build_model("narrow"), rt.load_dataset("clouds"), recipe, mask=mask, callbacks=[Dies()], resume=resume)
"""


@pytest.mark.slow
def test_killed_and_started_again_it_gives_the_same_bits(package: Path, tmp_path: Path) -> None:
    """The other process finds model, data and optimiser by their entry points; its last checkpoint is of step 10."""
    path = os.pathsep.join([str(package), *filter(None, sys.path)])
    file, env = tmp_path / "run.safetensors", {**os.environ, "PYTHONPATH": path}
    assert subprocess.run([sys.executable, "-c", KILLED, str(file)], env=env).returncode == -signal.SIGKILL
    watching = Watching()
    same_bits(trained(watching, resume=rt.Resume(file, 0.0)).state, trained().state)
    assert watching.steps == 14


TOGETHER = """
import sys
import torch
import reticket as rt
from reticket.ranks import joined
from reticket.training.state import write_checkpoint
from pathlib import Path
torch.set_num_threads(1)
mask = {"0.weight": torch.arange(16).view(8, 2) % 3 > 0}
recipe = rt.Recipe(epochs=6, batch_size=25, lr=0.02, weight_decay=0.1, optimizer="own-adamw")
with joined("cpu") as (ranks, device):
    result = rt.train(rt.build_model("narrow"), rt.load_dataset("clouds"), recipe, mask=mask,
                      resume=rt.Resume(sys.argv[1], 1e9), device=rt.Placement(device, ranks))
    write_checkpoint(Path(f"{sys.argv[1]}.{ranks.rank}"), result.state, "together")
"""


@pytest.mark.slow
def test_two_processes_go_on_from_what_one_has_begun(package: Path, tmp_path: Path) -> None:
    """The second one has the optimiser's state from the first, whose checkpoint it does not read."""
    file = tmp_path / "run"
    trained(resume=rt.Resume(file, 0.0), span=rt.Span(stop=7))
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    path = os.pathsep.join([str(package), *filter(None, sys.path)])
    env = {**os.environ, "PYTHONPATH": path, "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port), "WORLD_SIZE": "2"}
    ran = [
        subprocess.Popen([sys.executable, "-c", TOGETHER, str(file)], env={**env, "RANK": rank, "LOCAL_RANK": rank})
        for rank in ("0", "1")
    ]
    assert [process.wait(120) for process in ran] == [0, 0]
    states = [read_checkpoint(tmp_path / f"run.{rank}", "together") for rank in (0, 1)]
    first, second = (state.tensors() for state in states if state is not None)
    for part in ("weights", "optimizer"):
        names = [name for name in first if name.startswith(part)]
        assert all(torch.equal(first[name], second[name]) for name in names)
        assert_close(
            {n: first[n] for n in names}, {n: trained().state.tensors()[n] for n in names}, rtol=1e-4, atol=1e-6
        )


def test_recorded_steps_warm_up_without_a_trace_in_its_state() -> None:
    def recorder(work: Callable[[], None], undo: Callable[[], None]) -> Callable[[], None]:
        work()
        undo()
        return work

    states = []
    for record in (None, recorder):
        order = ("train", 0)
        run = TrainingRun(
            rt.build_model("narrow"), data(), rt.Recipe(**RECIPE), rng_label=order, mask=MASK, record=record
        )
        run.go(24)
        states.append(state_of(run).tensors())
    assert float(states[1]["optimizer/steps"]) == 24
    names = [name for name in states[0] if name.startswith(("weights", "optimizer"))]
    assert_close({n: states[1][n] for n in names}, {n: states[0][n] for n in names}, rtol=1e-4, atol=1e-6)


def test_a_recipe_refuses_what_is_no_optimiser_or_no_option_of_it() -> None:
    with pytest.raises(
        ConfigError,
        match=r"^unknown optimiser 'own-adamv', did you mean 'own-adamw'\?; known are .*sgd.*, own-adamw, or name a",
    ):
        rt.Recipe(1, 10, 0.1, optimizer="own-adamv")
    with pytest.raises(ConfigError, match=r"^optimiser 'own-adamw' has no option 'epz', did you mean 'eps'\?"):
        rt.Recipe(1, 10, 0.1, optimizer="own-adamw", optimizer_options={"epz": 1e-6})
    with pytest.raises(
        ConfigError, match=r"^option 'eps' of optimiser 'own-adamw' is 'small': input should be a valid numb"
    ):
        rt.Recipe(1, 10, 0.1, optimizer="own-adamw", optimizer_options={"eps": "small"})
    with pytest.raises(ConfigError, match=r"^optimiser 'sgd' has no option 'eps'; it has none$"):
        rt.Recipe(1, 10, 0.1, optimizer_options={"eps": 1e-6})
    assert rt.Recipe(1, 10, 0.1, optimizer="sgd", optimizer_options={}).decisive() == rt.Recipe(1, 10, 0.1).decisive()
    with pytest.raises(ConfigError, match=r"dense: unknown optimiser 'own-adamv', did you mean 'own-adamw'\?"):
        load_config("digits", ["dense.optimizer=own-adamv"])


def logged(task: Task) -> LoggedTraining:
    return LoggedTraining(Path(), "all", task.name, task.kind, task.key)


def test_one_experiment_with_all_of_them(tmp_path: Path) -> None:
    (tmp_path / "all.toml").write_text(EXPERIMENT)
    results = rt.run(
        tmp_path / "all.toml",
        out=tmp_path / "out",
        store="memory:all",
        execution=rt.ExecutionConfig(executor="one-by-one", loggers="plain"),
    )
    assert results.complete
    assert "6 epochs of own-adamw" in (results.folder / "report.html").read_text("utf-8")
    assert not (tmp_path / "out" / "store").exists()
    assert results.mask(method="permuted", sparsity=0.5).kept == 16, "the weights are in the store that was given"
    store: Any = named_store("memory:all")
    (planned,) = plan_experiment(load_config(tmp_path / "all.toml")[1])
    tasks = [task for task in closure(planned.blueprint.targets, resumes=True) if task.key in store.results]
    for task in tasks:
        if recipe := task.spec.get("recipe"):
            assert recipe["optimizer_options"] == {"fast": 0.9, "slow": 0.999, "eps": 1e-6}
            assert len(recipe["optimizer_code"]) == 64
            assert recipe_in(task.spec).optimizer == "own-adamw"
    rows = {row.method: row for row in results.rows if row.metric == "accuracy"}
    assert rows.keys() == {"imp", "permuted", "own-largest", "permuted+swap(count=2)"}
    assert all(sum(one or 0 for one in row.values) > 85 for row in rows.values()), rows
    masks = {name: mask_in(store.get(row.keys[0])) for name, row in rows.items()}
    own, moved, swapped = masks["own-largest"], masks["permuted"], masks["permuted+swap(count=2)"]
    assert own is not None
    assert moved is not None
    assert swapped is not None
    assert swapped != moved
    assert results.mask(method="permuted+swap( count = 2 )", sparsity=0.5) == swapped
    assert {n: int(kept.sum()) for n, kept in own.items()} == {n: int(kept.sum()) for n, kept in moved.items()}
    assert {n: int(kept.sum()) for n, kept in own.items()} == {n: int(kept.sum()) for n, kept in swapped.items()}
    assert own.kept == 16
    logs = {path.name: path.read_text().splitlines() for path in (tmp_path / "out" / "logs").iterdir()}
    assert logs.keys() == {logged(task).file_name + ".txt" for task in tasks if "recipe" in task.spec}
    for task in tasks:
        if "recipe" in task.spec:
            *epochs, end = logs[f"{logged(task).file_name}.txt"]
            assert all(re.fullmatch(r"\d+ loss \S+ lr \S+", line) for line in epochs)
            values = store.get(task.key).values
            assert end.split()[1:] == ["accuracy", f"{values['accuracy']:.4g}", "test_loss", f"{values['loss']:.4g}"]


def test_the_store_is_one_and_the_logger_hears_of_a_training(tmp_path: Path) -> None:
    store = of_page("memory_store:MemoryStore")("one")
    assert isinstance(store, Store)
    with pytest.raises(MissingResult, match="no result abc is in memory"):
        store.get("abc")
    training = LoggedTraining(tmp_path, "clouds", "a training", "dense", "0" * 64)
    log = LOGGERS["plain"].build(training)
    result = trained(rt.LogMetrics(log))
    log.close()
    lines = (tmp_path / "a-training-00000000.txt").read_text().splitlines()
    assert len(lines) == 6
    assert lines[-1].startswith(f"24 loss {result.history[-1].loss:.4g} lr ")
