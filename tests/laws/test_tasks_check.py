"""A check from outside the package: one module, here that of `docs/adding-a-check.md`, and everything else finds it."""

import json
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import pytest
import torch
from safetensors.torch import load_file

import reticket as rt
from reticket.errors import ConfigError
from reticket.records import Stat
from reticket.tasks import declared
from reticket.tasks.check import Check, checks, register
from reticket.tasks.declared import CheckSettings
from reticket.tasks.forecast import work_of
from reticket.tasks.planning import plan_experiment
from reticket.tasks.presets import load_config
from reticket.tasks.tensors import WEIGHTS
from reticket.tasks.work import Sizes, Work

ROOT = Path(__file__).parents[2]
TINY = ROOT / "tests" / "e2e" / "tiny.toml"
SHORT = ("grid.seeds=2", "sparsities=[0.4]", 'methods=["dense"]', "checks.barriers=false", "overlap=false",
         "diversity_members=0", "checks.norm_power=1")  # fmt: skip


@pytest.fixture
def norms(monkeypatch: pytest.MonkeyPatch) -> Iterator[ModuleType]:
    """The example of the page, imported as a module of its own."""
    found = re.search(r"```python\n(.*?)```", (ROOT / "docs" / "adding-a-check.md").read_text("utf-8"), re.DOTALL)
    assert found is not None
    checks()  # the package's own
    monkeypatch.setattr(declared.CHECKS, "_members", dict(declared.CHECKS._members))
    module = ModuleType("norms_of_the_page")
    monkeypatch.setitem(sys.modules, module.__name__, module)
    exec(compile(found[1], "docs/adding-a-check.md", "exec"), module.__dict__)
    yield module
    declared.declared.cache_clear()


def test_a_new_check_is_configured_planned_run_written_and_shown(norms: ModuleType, tmp_path: Path) -> None:
    results = rt.run(TINY, out=tmp_path, settings=SHORT)
    assert not results.failures
    values = json.loads((tmp_path / "results.json").read_text())
    (planned,) = plan_experiment(load_config(TINY, SHORT)[1])
    store = tmp_path / "store" / "results"
    for row, side in zip(values["norms"], ("A", "B"), strict=True):
        keys = [planned.blueprint.networks.dense(side, seed).key for seed in (0, 1)]
        tensors = [torch.cat([one.flatten() for one in weights_in(store / key[:2] / key)]) for key in keys]
        assert row["network"] == side
        assert row["norm"]["values"] == pytest.approx([float(one.abs().sum()) for one in tensors], rel=1e-5)
    text = (tmp_path / "report.html").read_text("utf-8")
    assert "Norms of the weights" in text
    assert f"The norm of A is {values['norms'][0]['norm']['mean']:.1f}." in text
    assert (tmp_path / "tables" / "norms.csv").read_text().startswith("network,norm_mean,norm_sd\nA,")
    assert [one.network for one in results.of(norms.Norm)] == ["A", "B"]
    assert "norm_power = 1" in (tmp_path / "config.toml").read_text()


def weights_in(folder: Path) -> list[torch.Tensor]:
    return [one for name, one in load_file(folder / "tensors.safetensors").items() if name.startswith(WEIGHTS)]


@pytest.mark.usefixtures("norms")
def test_its_work_is_in_the_forecast_and_its_settings_are_checked() -> None:
    (planned,) = plan_experiment(load_config(TINY, SHORT)[1])
    task = planned.blueprint.of("norms")["B"][1]
    assert task in planned.blueprint.targets
    assert work_of(task, None, Sizes(300, 500)) == Work(seconds=0.5)
    with pytest.raises(ConfigError, match=r"'checks\.norm_power' is 0: input should be greater than or equal to 1"):
        load_config(TINY, ["norm_power=0"])
    with pytest.raises(ConfigError, match=r"--set norm_powr: unknown key, did you mean 'checks\.norm_power'\?"):
        load_config(TINY, ["norm_powr=2"])


def test_a_process_that_only_computes_imports_no_matplotlib() -> None:
    code = "import sys; from reticket.tasks.check import checks; checks(); print('matplotlib' in sys.modules)"
    said = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert said.strip() == "False"


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
        register(type("Own", (Check,), {"name": "own", "sections": {"overlap": Stat}}))


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
