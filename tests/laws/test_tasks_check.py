"""A check from outside the package: one class, and everything else finds it."""

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, ClassVar

import pytest
import torch
from pydantic import Field

import reticket as rt
from reticket.errors import ConfigError
from reticket.experiment import Context, Output, Result, Task
from reticket.figures.exhibit import Exhibit
from reticket.figures.table import column, measured
from reticket.records import Measured, Record, Stat
from reticket.tasks import declared
from reticket.tasks.cells import Runs
from reticket.tasks.check import Check, checks, register, settings_in
from reticket.tasks.declared import CheckSettings
from reticket.tasks.forecast import work_of
from reticket.tasks.planning import plan_experiment
from reticket.tasks.presets import load_config
from reticket.tasks.results import Results
from reticket.tasks.stored import Stored, stat_of
from reticket.tasks.tensors import WEIGHTS, stripped
from reticket.tasks.work import Sizes, Work

TINY = Path(__file__).parents[1] / "e2e" / "tiny.toml"
SHORT = ("grid.seeds=2", "sparsities=[0.4]", 'methods=["dense"]', "checks.barriers=false", "overlap=false",
         "diversity_members=0", "checks.norm_power=1")  # fmt: skip


class NormSettings(CheckSettings):
    """Which norm."""

    norm_power: int | None = Field(default=None, ge=1, description="p of the norm; null for none")


class Norm(Record):
    """Norm of all weights of dense networks."""

    network: str = Field(description="A or B")
    norm: Measured = Field(default=Stat(), description="p-norm of all weights")


def run_norm(task: Task, inputs: Mapping[str, Result], context: Context) -> Output:
    """Compute the norm of a network."""
    weights = torch.cat([one.flatten() for one in stripped(inputs["network"].tensors, WEIGHTS).values()])
    return Output({"norm": float(weights.norm(task.spec["power"]))})


class Norms(Check):
    """The norm of dense A and dense B."""

    name = "norms"
    settings = NormSettings
    sections: ClassVar = {"norms": Norm}
    runners: ClassVar = {"norm": run_norm}
    title = "Norms of the weights"
    about = "Weight decay keeps them small."
    columns: ClassVar = {"norms": (column("network", "network"), measured("norm", "norm", 3))}

    def tasks(self, plan: Runs) -> Mapping[str, tuple[Task, ...]]:
        power = settings_in(plan, NormSettings).norm_power
        if power is None:
            return {}
        return {
            side: tuple(
                Task("norm", 1, {"power": power}, {"network": plan.networks.dense(side, seed)}, label=f"norm of {side}")
                for seed in plan.config.grid.seeds
            )
            for side in ("A", "B")
        }

    def work(self, task: Task, sizes: Sizes) -> Work:
        return Work(seconds=0.5)

    def results(self, found: Stored, tasks: Mapping[str, tuple[Task, ...]]) -> Mapping[str, Any]:
        rows = {side: [r.values["norm"] for r in found.present(mine)] for side, mine in tasks.items()}
        return {"norms": [Norm(network=side, norm=stat_of(values)) for side, values in rows.items()]}

    def exhibit(self, results: Results) -> Exhibit | None:
        rows = results.of(Norm)
        return Exhibit(None, (f"A's norm is {rows[0].norm.mean:.1f}.",), "Over seeds.") if rows else None


@pytest.fixture
def registered(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    checks()  # the package's own
    monkeypatch.setattr(declared.CHECKS, "_members", dict(declared.CHECKS._members))
    register(Norms)
    yield
    declared.declared.cache_clear()


@pytest.mark.usefixtures("registered")
def test_a_new_check_is_configured_planned_run_written_and_shown(tmp_path: Path) -> None:
    report, summary = rt.run(TINY, out=tmp_path, settings=SHORT)
    assert not summary.failed
    values = json.loads((tmp_path / "results.json").read_text())
    (planned,) = plan_experiment(load_config(TINY, SHORT)[1])
    store = tmp_path / "store" / "results"
    for row, side in zip(values["norms"], ("A", "B"), strict=True):
        keys = [planned.blueprint.networks.dense(side, seed).key for seed in (0, 1)]
        tensors = [torch.cat([one.flatten() for one in weights_in(store / key[:2] / key)]) for key in keys]
        assert row["network"] == side
        assert row["norm"]["values"] == pytest.approx([float(one.abs().sum()) for one in tensors], rel=1e-5)
    text = report.read_text("utf-8")
    assert "Norms of the weights" in text
    assert f"A's norm is {values['norms'][0]['norm']['mean']:.1f}." in text.replace("&#39;", "'")
    assert (tmp_path / "tables" / "norms.csv").read_text().startswith("network,norm_mean,norm_sd\nA,")
    assert [one.network for one in rt.Results.load(tmp_path).of(Norm)] == ["A", "B"]
    assert "norm_power = 1" in (tmp_path / "config.toml").read_text()


def weights_in(folder: Path) -> list[torch.Tensor]:
    from safetensors.torch import load_file

    return [one for name, one in load_file(folder / "tensors.safetensors").items() if name.startswith(WEIGHTS)]


@pytest.mark.usefixtures("registered")
def test_its_work_is_in_the_forecast_and_its_settings_are_checked() -> None:
    (planned,) = plan_experiment(load_config(TINY, SHORT)[1])
    task = planned.blueprint.of("norms")["B"][1]
    assert task in planned.blueprint.targets
    assert work_of(task, None, Sizes(300, 500)) == Work(seconds=0.5)
    with pytest.raises(ConfigError, match=r"'checks\.norm_power' is 0: input should be greater than or equal to 1"):
        load_config(TINY, ["norm_power=0"])
    with pytest.raises(ConfigError, match=r"--set norm_powr: unknown key, did you mean 'checks\.norm_power'\?"):
        load_config(TINY, ["norm_powr=2"])


def test_without_it_nothing_of_it_is_known() -> None:
    with pytest.raises(ConfigError, match=r"--set norm_power: unknown key; known: checks\.alphas"):
        load_config(TINY, ["norm_power=2"])


def test_two_checks_share_no_name_no_setting_and_no_section() -> None:
    checks()
    taken = type("Barriers", (Check,), {"name": "barriers", "__module__": "elsewhere"})
    with pytest.raises(ConfigError, match="check 'barriers' is registered already; choose another name"):
        register(taken)
    settings = type("Own", (CheckSettings,), {"__annotations__": {"alphas": int}, "alphas": 3})
    with pytest.raises(ConfigError, match=r"checks\.alphas is a setting of two checks, .*; name one after its check"):
        register(type("Own", (Check,), {"name": "own", "settings": settings}))
    with pytest.raises(ConfigError, match=r"'overlap' of results\.json is a section of two checks"):
        register(type("Own", (Check,), {"name": "own", "sections": {"overlap": Norm}}))


@pytest.mark.parametrize("check", checks(), ids=lambda check: check.name)
def test_every_check_is_documented(check: Check) -> None:
    assert len((type(check).__doc__ or "").strip()) > 20
    assert check.title
    assert check.about.endswith((".", "?"))
    assert set(check.columns) <= set(check.sections)
    assert all((record.__doc__ or "").strip() for record in check.sections.values())
    fields = check.settings.model_fields
    assert all(len(field.description or "") > 5 for field in fields.values())
    assert set(check.rewinds) <= set(fields)
