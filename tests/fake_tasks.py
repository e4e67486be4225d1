"""Small runners for the tests of the experiment machinery, importable by name in every worker process."""

import os
import signal
import sys
import time
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import torch

from reticket.errors import TrainingError
from reticket.experiment import Context, Output, Result, Task
from reticket.rng import generator_for

KINDS = ("draw", "mix", "walk", "forgetful", "diverge", "wrong", "leave", "nothing", "die", "orphan", "look", "slow")
RUNNERS = {kind: f"fake_tasks:{kind}" for kind in KINDS}


def _log(context: Context, task: Task) -> None:
    """Leave one line for each time a task is computed, where a test asked for that."""
    if "log" in context.settings:
        with Path(context.settings["log"]).open("a") as file:
            file.write(f"{task.key} {os.getpid()}\n")


def draw(task: Task, inputs: Mapping[str, Result], context: Context) -> Output:
    """A random matrix decided by the seed."""
    _log(context, task)
    time.sleep(task.spec.get("seconds", 0.0))
    x = torch.randn(32, 32, generator=generator_for(task.spec["seed"], "draw"))
    return Output({"mean": x.mean().item(), "seed": task.spec["seed"]}, {"x": x})


def mix(task: Task, inputs: Mapping[str, Result], context: Context) -> Output:
    """The product of all inputs, scaled."""
    _log(context, task)
    time.sleep(task.spec.get("seconds", 0.0))
    x = torch.eye(32)
    for result in inputs.values():
        x = x @ result.tensors["x"]
    x = x * task.spec["scale"] / x.norm()
    return Output({"norm": x.norm().item(), "from": list(inputs)}, {"x": x, "rows": x.sum(1)})


def walk(task: Task, inputs: Mapping[str, Result], context: Context) -> Output:
    """A trajectory of `at` steps: starts from the latest earlier point, and keeps a checkpoint after each step."""
    _log(context, task)
    at, x = 0, torch.zeros(4, dtype=torch.float64)
    for earlier, result in context.earlier:
        if earlier.spec["at"] > at:
            at, x = earlier.spec["at"], result.tensors["x"].clone()
    checkpoint = context.scratch / "checkpoint.txt"
    if checkpoint.exists():
        step, *numbers = checkpoint.read_text().split()
        if int(step) > at:
            at, x = int(step), torch.tensor([float.fromhex(number) for number in numbers], dtype=torch.float64)
    began = at
    context.tell(f"goes on from step {at}")
    context.on_metrics(at, {"loss": 0.5, "lr": 0.1 * at})
    while at < task.spec["at"]:
        time.sleep(task.spec.get("seconds", 0.0))
        x = x * 0.9 + torch.randn(4, generator=generator_for(task.spec["seed"], at), dtype=torch.float64)
        at += 1
        half_written = checkpoint.with_suffix(f".{os.getpid()}")
        half_written.write_text(" ".join([str(at), *(float(number).hex() for number in x)]))
        half_written.rename(checkpoint)
        context.progress(at / task.spec["at"], f"step {at}")
    if "log" in context.settings:
        with Path(context.settings["log"]).open("a") as file:
            file.write(f"began {began}\n")
    return Output({"at": at}, {"x": x})


def interrupt(task: Task, inputs: Mapping[str, Result], context: Context) -> Output:
    """A trajectory during which its process is sent a signal at some of its steps; some keep no checkpoint."""
    if task.spec.get("forgets"):
        (context.scratch / "checkpoint.txt").unlink(missing_ok=True)

    def report(fraction: float, text: str) -> None:
        context.report(fraction, text)
        if text.removeprefix("step ") in map(str, task.spec["signals"]):
            os.kill(os.getpid(), task.spec["number"])

    return walk(task, inputs, replace(context, report=report))


def forgetful(task: Task, inputs: Mapping[str, Result], context: Context) -> Output:
    """A broken trajectory: its result tells how often it was interrupted."""
    _log(context, task)
    starts = context.scratch / "starts.txt"
    with starts.open("a") as file:
        file.write("started\n")
    context.tell("started")
    time.sleep(task.spec["seconds"])
    return Output({"starts": len(starts.read_text().splitlines())})


def nothing(task: Task, inputs: Mapping[str, Result], context: Context) -> None:
    """A runner that forgets to return its output."""


def diverge(task: Task, inputs: Mapping[str, Result], context: Context) -> Output:
    """A training run whose loss is not finite."""
    raise TrainingError("loss is nan at step 3; lower the learning rate")


def wrong(task: Task, inputs: Mapping[str, Result], context: Context) -> Output:
    """A bug in a runner."""
    raise ZeroDivisionError("one by nought")


def leave(task: Task, inputs: Mapping[str, Result], context: Context) -> Output:
    """Code that ends the program, as a script does."""
    sys.exit(task.spec["code"])


def die(task: Task, inputs: Mapping[str, Result], context: Context) -> Output:
    """Kills its own process: always, or only the first time where a file remembers that."""
    memory = task.spec.get("once")
    if memory is None or not Path(memory).exists():
        if memory is not None:
            Path(memory).write_text("")
        os.kill(os.getpid(), signal.SIGKILL)
    return Output({"survived": True})


def orphan(task: Task, inputs: Mapping[str, Result], context: Context) -> Output:
    """Leaves a process behind that holds what this one had open, and kills its own: always, or only the first time."""
    memory = task.spec.get("once")
    if memory is None or not Path(memory).exists():
        helper = os.fork()
        if not helper:
            signal.pause()
        with Path(task.spec["helpers"]).open("a") as file:
            file.write(f"{helper}\n")
        if memory is not None:
            Path(memory).write_text("")
        os.kill(os.getpid(), signal.SIGKILL)
    return Output({"survived": True})


def look(task: Task, inputs: Mapping[str, Result], context: Context) -> Output:
    """What a runner sees of its surroundings."""
    return Output(
        {
            "torch_threads": torch.get_num_threads(),
            "omp": os.environ.get("OMP_NUM_THREADS"),
            "threads": context.threads,
            "device": context.device,
            "settings": dict(context.settings),
        }
    )


def slow(task: Task, inputs: Mapping[str, Result], context: Context) -> Output:
    """Takes its time and says so often."""
    _log(context, task)
    steps = 200
    for step in range(steps):
        time.sleep(task.spec["seconds"] / steps)
        context.progress(step / steps, f"step {step}")
    return Output({})
