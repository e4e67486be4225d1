"""An experiment made smaller as a whole: fewer epochs, fewer images, and what that does to everything counted in them.

What is measured on the clock of dense training keeps its share of it. Every change is written into `Config.scale`,
which stands in `config.toml` and `results.json`, so that no scaled number can pass for one of the whole experiment.
"""

from collections.abc import Callable
from typing import Any

from reticket.errors import ConfigError
from reticket.tasks.config import Config, parse_config
from reticket.tasks.declared import declared
from reticket.tasks.work import Sizes
from reticket.training import parse_position, steps_per_epoch

SCALED = ("dense.epochs", "prune.epochs", "prune.rewind", "grid.rewinds", "grid.match_at", "matching.a_at", "data.")


def scaled(config: Config, sizes: Sizes, *, epochs: int | None = None, subset: int | None = None) -> Config:
    """Return `config` with fewer epochs and images, and with `Config.scale` saying so.

    With f = `epochs` / T, the epochs of a pruning round become f times as many (at least 1), and warm-up, milestones,
    rewind points and positions of matching the step at the same share of the run; what is after step 0 stays after it,
    and positions that fall on one step become one.

    Args:
        config: the whole experiment.
        sizes: of its data set.
        epochs: of dense training; T when None.
        subset: training images to keep, class-balanced, and test images at most; all when None.

    Raises:
        ConfigError: for a number that makes no smaller experiment, or when the sweep is over what would be scaled.
    """
    if epochs is None and subset is None:
        return config
    swept = next((key for key in config.sweep if key.startswith(SCALED)), None)
    if swept:
        raise ConfigError(f"--epochs and --subset cannot scale a sweep of {swept}; give smaller values with --set")
    if epochs is not None and not 1 <= epochs <= config.dense.epochs:
        raise ConfigError(f"--epochs {epochs}: expected 1 to {config.dense.epochs}, the experiment's own dense epochs")
    if subset is not None and subset < 2:
        raise ConfigError(f"--subset {subset}: expected at least 2 training images")
    train = config.data.train_size or sizes.train
    test = config.data.test_size or sizes.test
    few_train, few_test = (size if subset is None else min(size, subset) for size in (train, test))
    if few_test < test:
        few_test = min(few_test, sizes.balanced or few_test)
    clock = _Clock(config, epochs or config.dense.epochs, train, few_train)
    values = _on_clock(config, clock)
    values["data"] |= {"train_size": few_train} if few_train < train else {}
    values["data"] |= {"test_size": few_test} if few_test < test else {}
    after = {
        "epochs": (config.dense.epochs, clock.epochs),
        "prune_epochs": (config.prune.epochs, values["prune"]["epochs"]),
        "train": (train, few_train),
        "test": (test, few_test),
    }
    known = {name: (config.scale[name][0] if name in config.scale else then, n) for name, (then, n) in after.items()}
    values["scale"] = {name: both for name, both in known.items() if both[0] != both[1]}
    return parse_config(values, "scaled experiment")


def scale_text(before: Config, after: Config) -> str:
    """Return one sentence on what `scaled` changed, or nothing."""
    words = {
        "epochs": "dense epochs",
        "prune_epochs": "epochs of a round",
        "train": "training images",
        "test": "test images",
    }
    parts = [f"{then:,} {words[name]} to {now:,}" for name, (then, now) in after.scale.items()]
    if before.grid.rewinds != after.grid.rewinds:
        parts.append(f"rewind points {', '.join(before.grid.rewinds)} to {', '.join(after.grid.rewinds)}")
    if before.grid.match_at != after.grid.match_at:
        parts.append(f"matching at {', '.join(before.grid.match_at)} to {', '.join(after.grid.match_at)}")
    return f"scaled down: {'; '.join(parts)}" if parts else ""


class _Clock:
    """The step that a position of the whole experiment becomes in the scaled one."""

    def __init__(self, config: Config, epochs: int, train: int, few_train: int) -> None:
        self.epochs = epochs
        self.share = epochs / config.dense.epochs
        self.before = steps_per_epoch(train, config.dense.batch_size)
        self.after = steps_per_epoch(few_train, config.dense.batch_size)
        self.end = epochs * self.after
        self._whole = config.dense.epochs * self.before

    def epoch(self, epoch: int | float) -> int | float:
        """Return a point in epochs at the same share of the run, on a whole step."""
        return _whole(round(epoch * self.share * self.after) / self.after)

    def position(self, text: str, last: int) -> str:
        """Return a position ("20ep", "300it") at the same share of the run, at step `last` at the latest."""
        step = parse_position(text, self.before)
        if step:
            step = min(max(1, round(step / self._whole * self.end)), last)
        return f"{step // self.after}ep" if step % self.after == 0 else f"{step}it"

    def rewind(self, text: str) -> str:
        """Return a rewind point, which lies before the end."""
        return self.position(text, self.end - 1)

    def place(self, text: str) -> str:
        """Return a position of matching, the end included, or a consensus of several."""
        steps = [part if part in ("end", "same") else self.position(part, self.end) for part in text.split("+")]
        return "+".join(dict.fromkeys("end" if step == f"{self.epochs}ep" else step for step in steps))


def _on_clock(config: Config, clock: _Clock) -> dict[str, Any]:
    """Return the configuration's values with everything that is measured in epochs on the scaled clock."""
    values = config.model_dump()
    if clock.share == 1 and clock.before == clock.after:
        return values

    def once(texts: tuple[str, ...], change: Callable[[str], str]) -> list[str]:
        return list(dict.fromkeys(change(text) for text in texts))

    dense, prune, grid, checks = (values[name] for name in ("dense", "prune", "grid", "checks"))
    dense["epochs"] = clock.epochs
    if clock.share != 1:
        dense["warmup_epochs"] = clock.epoch(config.dense.warmup_epochs)
        dense["milestones"] = list(dict.fromkeys(clock.epoch(milestone) for milestone in config.dense.milestones))
        prune["epochs"] = max(1, round(config.prune.epochs * clock.share))
    prune["rewind"] = clock.rewind(config.prune.rewind)
    grid["rewinds"] = once(config.grid.rewinds, clock.rewind)
    grid["match_at"] = once(config.grid.match_at, clock.place)
    values["matching"]["a_at"] = clock.place(config.matching.a_at)
    for name in (name for check in declared() for name in check.rewinds):
        if checks[name] is not None:
            checks[name] = clock.rewind(checks[name])
    return values


def _whole(value: float) -> int | float:
    return int(value) if value == int(value) else value
