"""Masks in patterns: what is kept follows the pattern, is the best that does, and stays so through a transfer."""

import itertools
from collections.abc import Mapping
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

import reticket as rt
from reticket.cli.aligning import transfer_file
from reticket.errors import ConfigError, MaskError
from reticket.rng import generator_for
from reticket.tasks.presets import load_config
from reticket.tickets import Gradual, MethodInputs, Pruning, Ticket, get_method, iterative_magnitude_pruning
from reticket.tickets.patterns import follows

PATTERNS = {"2:4": 0.5, "1:4": 0.25, "4x2": 0.3, "1x4": 0.1, "fan-in": 0.2}  # with a density that each can have


def network(seed: int = 0) -> nn.Module:
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        return nn.Sequential(
            nn.Conv2d(4, 8, 3),
            nn.BatchNorm2d(8),
            nn.ReLU(),
            nn.Flatten(),
            nn.Linear(32, 16),
            nn.ReLU(),
            nn.Linear(16, 12),
        )


def kept_of(weights: Mapping[str, Tensor], mask: rt.Mask) -> float:
    return sum(float(weights[name].abs()[kept].sum()) for name, kept in mask.items())


@pytest.mark.parametrize("scope", ["global", "layer", "erk"])
@pytest.mark.parametrize(("pattern", "density"), PATTERNS.items())
def test_a_mask_has_the_pattern_that_was_asked_for(
    pattern: str, density: float, scope: rt.tickets.ranking.Scope
) -> None:
    mask = rt.prune(network(), density, pattern=pattern, scope=scope)
    assert follows(mask, pattern)
    assert mask.density == pytest.approx(density, abs=0.02)
    assert not follows(rt.prune(network(), density, scope=scope), pattern)


def best_by_hand(scores: Tensor, allowed: list[Tensor]) -> Tensor:
    return max(allowed, key=lambda kept: float(scores[kept].sum()))


def test_no_other_mask_of_the_pattern_keeps_more() -> None:
    """Against every mask of a small weight that has the pattern."""
    weight = torch.randn(2, 4, generator=generator_for("pattern"))
    every = [torch.tensor(bits, dtype=torch.bool).view(2, 4) for bits in itertools.product((False, True), repeat=8)]
    for pattern, density in {"2:4": 0.5, "1:2": 0.5, "2x1": 0.5, "1x2": 0.5, "2x2": 0.5, "fan-in": 0.5}.items():
        of_pattern = [kept for kept in every if int(kept.sum()) == 4 and follows(rt.Mask({"w": kept}), pattern)]
        assert len(of_pattern) >= 2
        found = rt.prune({"w": weight}, density, names=["w"], pattern=pattern)["w"]
        assert torch.equal(found, best_by_hand(weight.abs(), of_pattern)), pattern


def test_kernels_of_a_convolution_follow_at_every_position_and_a_fan_in_counts_them() -> None:
    weight = torch.randn(4, 8, 3, 3, generator=generator_for("kernel"))
    two = rt.prune({"w": weight}, 0.5, names=["w"], pattern="2:4")["w"]
    assert bool((two.view(4, 2, 4, 3, 3).sum(dim=2) == 2).all())
    fan_in = rt.prune({"w": weight}, 0.125, names=["w"], pattern="fan-in")["w"]
    assert fan_in.flatten(1).sum(dim=1).tolist() == [9, 9, 9, 9]


def test_weights_that_stand_inputs_first() -> None:
    layer = nn.ConvTranspose2d(8, 3, 2)
    mask = rt.prune(layer, 0.5, pattern="2:4")
    assert bool((mask["weight"].view(2, 4, 3, 2, 2).sum(dim=1) == 2).all())
    assert follows(mask, "2:4", {"weight": True})


@pytest.mark.parametrize(("pattern", "density"), {"2:4": 0.5, "4x2": 0.3, "fan-in": 0.2}.items())
def test_rounds_come_to_the_pattern_within_one_another(pattern: str, density: float) -> None:
    net, seen = network(), []

    def retrain(weights: Mapping[str, Tensor], mask: rt.Mask, step: object) -> dict[str, Tensor]:
        seen.append(mask)
        generator = generator_for("retrain", len(seen))
        return dict(
            mask.apply_to({name: w + 0.1 * torch.randn(w.shape, generator=generator) for name, w in weights.items()})
        )

    names = rt.prunable(net)
    with torch.no_grad():
        weights = {name: net.state_dict()[name] for name in names}
    found = iterative_magnitude_pruning(weights, density, retrain, names=names, rate=0.3, pattern=pattern)
    assert follows(found[density].mask, pattern)
    assert all(
        bool((before[name] | ~after[name]).all()) for before, after in itertools.pairwise(seen) for name in names
    )
    assert seen[0].density > seen[-1].density


def test_a_training_comes_to_the_pattern() -> None:
    net = network()
    optimizer = torch.optim.SGD(net.parameters(), lr=0.1)
    with rt.sparsify(net, optimizer, Gradual(0.5, end=4), pattern="2:4") as pruner:
        for _ in range(5):
            optimizer.zero_grad()
            net(torch.randn(2, 4, 4, 4)).square().mean().backward()
            optimizer.step()
            pruner.step()
    assert follows(pruner.mask, "2:4")


def test_a_training_that_goes_past_the_pattern_is_refused() -> None:
    net = network()
    optimizer = torch.optim.SGD(net.parameters(), lr=0.1)
    with (
        rt.sparsify(net, optimizer, lambda done: 0.3 if done else None, pattern="2:4") as pruner,
        pytest.raises(MaskError, match=r"pattern 2:4 keeps 0\.5 of the weights and no fewer, but density 0\.3 was"),
    ):
        pruner.step()


def test_a_fan_in_is_one_at_least() -> None:
    assert rt.prune(nn.Linear(8, 4), 0.05, pattern="fan-in").kept == 4


@pytest.mark.parametrize(("pattern", "density"), PATTERNS.items())
@pytest.mark.parametrize("name", ["permuted", "signed", "random-permutation"])
def test_a_pattern_survives_a_transfer_in_the_frame_of_the_mask(name: str, pattern: str, density: float) -> None:
    """B's weights come to A's units, so the mask stays bit for bit; in B's frame only a fan-in survives."""
    a, b = network(1), network(2)
    sym = rt.discover(a, torch.randn(2, 4, 4, 4))
    mask = rt.prune(a, density, pattern=pattern)
    alignment = rt.random_alignment(sym, generator=generator_for("alignment"))
    inputs = {"ticket": Ticket.of(a, mask), "rewound_b": b.state_dict()}
    inputs |= {"random_alignment" if name == "random-permutation" else "alignment": alignment}
    starts = {frame: get_method(name)(MethodInputs(**inputs, frame=frame)) for frame in ("mask", "init")}
    assert starts["mask"].mask == mask
    assert follows(starts["mask"].mask, pattern)
    assert follows(starts["init"].mask, pattern) is (pattern == "fan-in")


def test_the_command_says_where_a_pattern_is_lost(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    a = network(1)
    sym = rt.discover(a, torch.randn(2, 4, 4, 4))
    for name, al in (
        ("moved", rt.random_alignment(sym, generator_for("alignment"))),
        ("same", rt.identity_alignment(sym)),
    ):
        al.save(tmp_path / name)
        Ticket.of(a, rt.prune(a, 0.5, pattern="2:4"), {"pattern": "2:4"}).save(tmp_path / "ticket.safetensors")
        transfer_file(tmp_path / "ticket.safetensors", tmp_path / name, tmp_path / "out.safetensors")
        said = capsys.readouterr().err
        assert ("in the pattern 2:4, which the moved mask has no more" in said) is (name == "moved")


def test_blocks_of_an_alignment_keep_what_stands_in_blocks() -> None:
    a, b = network(1), network(2)
    sym = rt.discover(a, torch.randn(2, 4, 4, 4))
    names = ["6.weight"]  # whose inputs are one group
    mask = rt.prune(a, 0.5, pattern="2:4", names=names)
    assert follows(rt.transfer(mask, rt.match(a, b, sym, method="weight", blocks=4)), "2:4")
    assert not follows(rt.transfer(mask, rt.match(a, b, sym, method="weight")), "2:4")


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"density": 0.1, "pattern": "2:4"}, "pattern 2:4 keeps 0.5 of the weights, but density 0.1 was asked for"),
        ({"density": 2 / 3, "pattern": "2:3"}, "'0.weight' has 4 inputs, no multiple of 3; leave it out of names"),
        ({"density": 0.5, "pattern": "3x1"}, "'0.weight' has 8 outputs, which blocks of 3 do not cover"),
        ({"density": 0.5, "pattern": "fanin"}, "unknown pattern 'fanin', did you mean 'fan-in'.; give N:M as 2:4"),
        ({"density": 0.5, "pattern": "0x4"}, "pattern '0x4' has blocks of no weight"),
        ({"density": 0.5, "pattern": "4:4"}, "pattern '4:4' keeps 4 of 4 weights; give N:M with 0 < N < M"),
        ({"density": 0.2, "pattern": "fan-in", "max_sparsity": 0.9}, "both say what a layer keeps; leave one out"),
    ],
)
def test_a_pattern_that_cannot_be_is_refused(options: dict[str, object], words: str) -> None:
    with pytest.raises(MaskError, match=words):
        rt.prune(network(), **options)  # pyright: ignore[reportArgumentType]


def test_an_earlier_mask_that_leaves_no_room_is_refused() -> None:
    with pytest.raises(
        MaskError, match=r"`within` keeps too little of '0.weight' for pattern 2:4; prune it by the same"
    ):
        rt.prune(network(), 0.5, pattern="2:4", within=rt.prune(network(), 0.6))


def test_an_experiment_names_its_pattern_and_old_keys_stay() -> None:
    assert "pattern" not in Pruning().decisive()
    assert Pruning(pattern="fan-in").decisive()["pattern"] == "fan-in"
    _, config = load_config("digits", ["prune.pattern=2:4", "grid.sparsities=[0.5]"])
    assert config.prune.pattern == "2:4"
    with pytest.raises(ConfigError, match=r"grid.sparsities: pattern 2:4 keeps 0.5 of the weights, but density 0.1"):
        load_config("digits", ["prune.pattern=2:4", "grid.sparsities=[0.9]"])
    with pytest.raises(ConfigError, match="unknown pattern '2by4'"):
        load_config("digits", ["prune.pattern=2by4"])
