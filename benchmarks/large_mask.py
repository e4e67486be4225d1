"""A mask of 70 billion weights moved through an alignment, tensor by tensor: seconds, and the most memory it takes.

`python -m benchmarks.large_mask` writes results/large-mask.json. The mask has the tensors of a transformer of 80 layers
(8,192 wide, 28,672 within, 32,000 tokens), its bits are drawn at random, half of them set; the alignment permutes the
residual stream and the inner units of every layer. Shards and what they become take 18 GB of disk, and are removed.
`peak_move_gb` is of the move; `peak_gb` counts the look at what came out too, for which a shard is read whole.
"""

import argparse
import resource
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import numpy as np
import torch

from benchmarks.kept import Kept, Row
from benchmarks.scale import GB, apart
from reticket.cli.aligning import transfer_to_shards
from reticket.symmetry import Alignment, Symmetry, random_alignment
from reticket.tickets import storage
from reticket.tickets.mask import Mask
from reticket.tickets.sharded import INDEX_NAME, save_shards

WIDTH, INNER, KEYS, TOKENS = 8192, 28672, 1024, 32000
ATTENTION = {
    "self_attn.q_proj": ((WIDTH, WIDTH), (None, "residual")),
    "self_attn.k_proj": ((KEYS, WIDTH), (None, "residual")),
    "self_attn.v_proj": ((KEYS, WIDTH), (None, "residual")),
    "self_attn.o_proj": ((WIDTH, WIDTH), ("residual", None)),
}
ENDS = ("model.embed_tokens.weight", "lm_head.weight")


def main() -> None:
    """Measure what is not in the file yet."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.large_mask", description=__doc__)
    parser.add_argument("--layers", type=int, default=80)
    parser.add_argument("--folder", type=Path, default=None, help="where shards go; the system's when left out")
    parser.add_argument("--out", type=Path, default=Path(__file__).parent / "results" / "large-mask.json")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory(dir=arguments.folder) as folder:
        Kept(arguments.out).row(
            f"{arguments.layers} layers", lambda: {**apart(make, arguments.layers, folder), **apart(move, folder)}
        )


@dataclass(frozen=True)
class Drawn:
    """A part of a mask whose bits are drawn as they are packed.

    Args:
        shapes: of its tensors, by name.
        seed: of the bits.
    """

    shapes: dict[str, tuple[int, ...]]
    seed: int

    def save(self, path: Path) -> None:
        """Write it as a mask is written."""
        draw = np.random.default_rng(self.seed)
        packed = {
            f"mask:{name}": draw.integers(0, 256, rows * columns // 8, np.uint8)
            for name, (rows, columns) in self.shapes.items()
        }
        storage.write(path, "mask", packed, {"shapes": {name: list(shape) for name, shape in self.shapes.items()}})


def layer(number: int) -> dict[str, tuple[tuple[int, int], tuple[str | None, str | None]]]:
    """Return shape and groups of the weights of a layer, by name."""
    own = f"inner.{number}"
    inside = {
        "mlp.gate_proj": ((INNER, WIDTH), (own, "residual")),
        "mlp.up_proj": ((INNER, WIDTH), (own, "residual")),
        "mlp.down_proj": ((WIDTH, INNER), ("residual", own)),
    }
    return {f"model.layers.{number}.{name}.weight": one for name, one in (ATTENTION | inside).items()}


def make(layers: int, folder: str) -> Row:
    """Write the alignment and the shards, one a layer and one for both ends."""
    ends = dict.fromkeys(ENDS, ((TOKENS, WIDTH), (None, "residual")))
    parts = [ends, *(layer(number) for number in range(layers))]
    axes = {name: groups for part in parts for name, (_, groups) in part.items()}
    shapes = {name: torch.empty(shape, device="meta") for part in parts for name, (shape, _) in part.items()}
    random_alignment(Symmetry.from_axes(axes, shapes), 0).save(f"{folder}/al.safetensors")

    def drawn() -> Iterator[Mask]:
        for number, part in enumerate(parts):
            yield cast("Mask", Drawn({name: shape for name, (shape, _) in part.items()}, number))

    save_shards(drawn(), f"{folder}/mask")
    return {"shards_gb": round(sum(file.stat().st_size for file in Path(folder, "mask").iterdir()) / GB, 2)}


def move(folder: str) -> dict[str, Any]:
    """Move the mask as `reticket transfer` does, and look at some tensors of what came out."""
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 / GB
    began = time.perf_counter()
    counted = transfer_to_shards(Path(folder, "mask", INDEX_NAME), Path(folder, "al.safetensors"), Path(folder, "out"))
    seconds = time.perf_counter() - began
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 / GB
    return {
        "weights": counted.numel,
        "density": counted.density,
        "move_seconds": round(seconds, 1),
        "largest_tensor_gb": round(TOKENS * WIDTH / GB, 3),  # one byte a flag
        "peak_before_gb": round(before, 3),
        "peak_move_gb": round(peak, 3),
        "right": _is_right(Path(folder)),
    }


def _is_right(folder: Path) -> bool:
    """Return whether the last layer's first weights are what moving that shard alone gives."""
    shard = sorted((folder / "mask").glob("*.safetensors"))[-1].name
    found, alone = Alignment.load(folder / "al.safetensors"), Mask.load(folder / "mask" / shard)
    moved = Mask.load(folder / "out" / shard)
    name = next(iter(alone))
    return torch.equal(found.tensor(name, alone[name]), moved[name])


if __name__ == "__main__":
    main()
