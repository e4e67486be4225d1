"""Wrong calls, as a user makes them: run by `test_arguments` in a process of its own, in which no types are checked."""

import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import nn

import reticket
from reticket.errors import ReticketError

rt: Any = reticket  # so that no type checker minds


def net() -> nn.Module:
    return nn.Sequential(nn.Linear(6, 8), nn.ReLU(), nn.Linear(8, 4))


x, y = torch.randn(40, 6), torch.zeros(40, dtype=torch.int64)
a, b = net(), net()
sa: Any = a.state_dict()
sym = rt.discover(a, x[:2])
al, mask = rt.random_alignment(sym, 0), rt.prune_magnitude(a, 0.5)
data, recipe = rt.Dataset("d", x, y, x, y, tuple("abcd"), (0.0,), (1.0,)), rt.Recipe(1, 8, 0.1)
opt = torch.optim.SGD(a.parameters(), lr=0.1)


def unchanged(weights: Any, *_: object) -> Any:
    return weights


CALLS: dict[str, Callable[[], object]] = {
    "match path": lambda: rt.match("a.pt", b, sym, [x]),
    "match Path": lambda: rt.match(a, Path("b.pt"), sym, [x]),
    "match weights alone": lambda: rt.match(sa, sa, sym, [x]),
    "match method not called": lambda: rt.match(a, b.state_dict, sym, [x]),
    "match class": lambda: rt.match(nn.Linear, b, sym, [x]),
    "merge how": lambda: rt.merge(a, [a, b], [al, al], [x], how="least-square"),
    "match fixed": lambda: rt.match(a, b, sym, [x], fixed=3),
    "match fixed unit": lambda: rt.match(a, b, sym, [x], fixed={"0.weight": 3}),
    "match blocks": lambda: rt.match(a, b, sym, [x], blocks="4"),
    "match leave_out": lambda: rt.match(a, b, sym, [x], leave_out="few"),
    "match seen": lambda: rt.match(a, b, sym, [x], seen=True),
    "match seen class": lambda: rt.match(a, b, sym, [x], seen=rt.Activations),
    "activations": lambda: rt.Activations(a),
    "matching_memory": lambda: rt.matching_memory(sa, sym, x),
    "assess order": lambda: rt.assess(a, b, al, [x, x]),
    "assess ticket": lambda: rt.assess(al, a, b, [x, x], mask=al),
    "assess earlier": lambda: rt.assess(al, a, b, [x, x], earlier=a),
    "frame between": lambda: rt.match_many([a, b], sym, method="weight").between(0, 2),
    "merge alignments": lambda: rt.merge(a, [a, b], None, [x]),
    "merge_partly least": lambda: rt.merge_partly(a, [a, b], [al, al], [x], least="x"),
    "merge_partly least nan": lambda: rt.merge_partly(a, [a, b], [al, al], [x], least=float("nan")),
    "transfer order": lambda: rt.transfer(al, mask, b),
    "transfer weights": lambda: rt.transfer(sa, al, b),
    "transfer to": lambda: rt.transfer(mask, al, 5),
    "apply left out": lambda: rt.match(a, b, sym, method="weight", leave_out=0.5).apply(mask),
    "match sym": lambda: rt.match(a, b, [x]),
    "match none": lambda: rt.match(a, None, sym, [x]),
    "match batches": lambda: rt.match(a, b, sym, 3),
    "match checkpoint": lambda: rt.match(a, {"state_dict": sa, "epoch": 3}, sym, [x]),
    "match progress": lambda: rt.match(a, b, sym, [x], progress="yes"),
    "barrier model": lambda: rt.barrier(sa, sa, sa, [(x, y)]),
    "barrier str": lambda: rt.barrier(a, a, "b.pt", [(x, y)]),
    "barrier batches": lambda: rt.barrier(a, a, b, None),
    "barrier batch number": lambda: rt.barrier(a, a, b, 5),
    "barrier loss": lambda: rt.barrier(a, a, b, [(x, y)], loss=3),
    "barrier lossname": lambda: rt.barrier(a, a, b, [(x, y)], loss="clasification"),
    "barrier metric": lambda: rt.barrier(a, a, b, [(x, y)], loss="own", metric="acuracy"),
    "barrier option": lambda: rt.barrier(a, a, b, [(x, y)], repair_batch=[x]),
    "barrier progress": lambda: rt.barrier(a, a, b, [(x, y)], progress=3),
    "barrier alphas": lambda: rt.barrier(a, a, b, [(x, y)], 0.5),
    "repair model": lambda: rt.repair(sa, (a, b), 0.5, [x]),
    "repair ends": lambda: rt.repair(a, (a, "b.pt"), 0.5, [x]),
    "repair one end": lambda: rt.repair(a, a, 0.5, [x]),
    "repair batches": lambda: rt.repair(a, (a, b), 0.5, None),
    "interpolate": lambda: rt.interpolate(a, "b.pt", 0.5),
    "interpolate alpha": lambda: rt.interpolate(a, b, "half"),
    "interpolate several": lambda: rt.interpolate([a, 3], [0.5, 0.5]),
    "evaluate": lambda: rt.evaluate(sa, [(x, y)]),
    "evaluate weights": lambda: rt.evaluate(a, [(x, y)], weights="w.pt"),
    "evaluate data": lambda: rt.evaluate(a, 5),
    "diversity": lambda: rt.diversity(["a.pt", a], [(x, y)]),
    "diversity weights": lambda: rt.diversity([sa, sa], [(x, y)]),
    "diversity one": lambda: rt.diversity(a, [(x, y)]),
    "prune": lambda: rt.prune_magnitude("a.pt", 0.5),
    "prune weights": lambda: rt.prune_magnitude(sa, 0.5),
    "prune optimizer": lambda: rt.prune_magnitude(opt, 0.5),
    "prunable": lambda: rt.prunable(sa),
    "random_mask": lambda: rt.random_mask("a.pt", 0.5, 0),
    "random_mask gen": lambda: rt.random_mask(a, 0.5, "zero"),
    "random_mask gen2": lambda: rt.random_mask(a, 0.5, None),
    "erk": lambda: rt.erk_mask(a, 0.5, 1.5),
    "random_alignment": lambda: rt.random_alignment(sym, "zero"),
    "random_alignment sym": lambda: rt.random_alignment(a, 0),
    "imp": lambda: rt.iterative_magnitude_pruning("a.pt", [0.5], unchanged, names="0.weight"),
    "imp names": lambda: rt.iterative_magnitude_pruning(sa, [0.5], unchanged),
    "imp target": lambda: rt.iterative_magnitude_pruning(a, "half", unchanged),
    "imp progress": lambda: rt.iterative_magnitude_pruning(a, [0.5], unchanged, progress="yes"),
    "apply": lambda: al.apply("a.pt"),
    "apply tensor": lambda: al.apply(x),
    "apply fn": lambda: al.apply(a.state_dict),
    "apply optimizer": lambda: al.apply(opt),
    "load_into": lambda: rt.load_into(sa, a),
    "load_into2": lambda: rt.load_into(a, "a.pt"),
    "mask apply": lambda: mask.apply_to("a.pt"),
    "mask": lambda: rt.Mask(a),
    "mask floats": lambda: rt.Mask({"w": [True]}),
    "ticket": lambda: rt.Ticket.of("a.pt", mask),
    "ticket mask": lambda: rt.Ticket(a),
    "ticket mask dict": lambda: rt.Ticket.of(a, {"0.weight": mask["0.weight"]}),
    "sparse mask": lambda: rt.sparse(a, {"0.weight": mask["0.weight"]}, opt).__enter__(),
    "sparse model": lambda: rt.sparse(sa, mask, opt).__enter__(),
    "sparse opt": lambda: rt.sparse(a, mask, a.parameters()).__enter__(),
    "discover": lambda: rt.discover(sa, x),
    "discover path": lambda: rt.discover("a.pt", x),
    "discover progress": lambda: rt.discover(a, x[:2], progress="yes"),
    "verify": lambda: rt.verify(a, sym, x),
    "verify2": lambda: rt.verify(sym, sa, x),
    "save": lambda: mask.save(3),
    "load": lambda: rt.Mask.load(a),
    "alload": lambda: rt.Alignment.load(None),
    "symsave": lambda: sym.save(3),
    "train model": lambda: rt.train(sa, data, recipe),
    "train data": lambda: rt.train(a, (x, y), recipe),
    "train recipe": lambda: rt.train(a, data, {"epochs": 1}),
    "train label": lambda: rt.train(a, data, recipe, rng_label="run"),
    "train mask": lambda: rt.train(a, data, recipe, mask=[mask]),
    "train span": lambda: rt.train(a, data, recipe, span=5),
    "train resume": lambda: rt.train(a, data, recipe, resume="run.pt"),
    "train callback": lambda: rt.train(a, data, recipe, callbacks=print),
    "train callbacks": lambda: rt.train(a, data, recipe, callbacks=[print]),
    "train device": lambda: rt.train(a, data, recipe, device="gpu"),
    "evaluate split": lambda: rt.evaluate(a, data, "val"),
    "evaluate device": lambda: rt.evaluate(a, data, device="gpu"),
    "recipe text": lambda: rt.Recipe(epochs="3", batch_size=8, lr=0.1),
    "recipe fraction": lambda: rt.Recipe(epochs=3, batch_size=8, lr=0.1, accumulate=1.5),
    "recipe none": lambda: rt.Recipe(epochs=3, batch_size=8, lr=0.1, momentum=None),
    "recipe milestones": lambda: rt.Recipe(epochs=3, batch_size=8, lr=0.1, milestones="12"),
    "recipe class": lambda: rt.Recipe(epochs=3, batch_size=8, lr=0.1, optimizer=torch.optim.Adam),
    "recipe options": lambda: rt.Recipe(epochs=3, batch_size=8, lr=0.1, optimizer_options=[1]),
    "recipe augment": lambda: rt.Recipe(epochs=3, batch_size=8, lr=0.1, augment=3),
    "recipe function": lambda: rt.Recipe(epochs=3, batch_size=8, lr=lambda step: 0.1),
}


def said(call: Callable[[], object]) -> list[str]:
    """Return the class of the error that a call ends with, and what it says."""
    try:
        call()
    except ReticketError as error:
        return ["ReticketError", str(error)]
    except Exception as error:
        return [type(error).__name__, str(error)]
    return ["nothing", ""]


if __name__ == "__main__":
    json.dump({name: said(call) for name, call in CALLS.items()}, sys.stdout)
