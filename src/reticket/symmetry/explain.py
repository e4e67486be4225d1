"""What `Symmetry.explain` prints: for every axis its groups and their members, or why it is pinned."""

from collections.abc import Sequence

from reticket.errors import SymmetryError
from reticket.lookup import nearest
from reticket.symmetry.names import folded
from reticket.symmetry.reasons import Reason, read_reasons
from reticket.symmetry.structure import Group, Member, Structure
from reticket.symmetry.terms import Atom, Fixed, atoms, describe, leaves


def explained(symmetry: Structure, name: str) -> str:
    """Return the text of `Symmetry.explain`.

    Raises:
        SymmetryError: when neither a tensor nor a group has this name.
    """
    if name in symmetry.layouts:
        return "\n".join(_tensor(symmetry, name))
    if name in symmetry.groups:
        return "\n".join(_group(symmetry, symmetry.groups[name]))
    if name in symmetry.fixed_parents:
        size = symmetry.fixed_parents[name]
        return f"place {name}: {size} positions that do not move\n{_of_fixed_parent(symmetry, name)}"
    known = [*symmetry.layouts, *symmetry.groups]
    raise SymmetryError(
        f"no tensor or group '{name}' in this symmetry{nearest(name, known)}; it has {', '.join(known[:5])}, ..."
    )


def members_text(symmetry: Structure, members: Sequence[Member]) -> list[str]:
    """Return members as `tensor[axis]`, with their numbers where the axis has several parts; equal blocks in one."""
    numbers: dict[tuple[str, int], list[int]] = {}
    for member in members:
        numbers.setdefault((member.tensor, member.axis), []).append(member.atom)
    texts = []
    for (tensor, axis), parts in numbers.items():
        alone = isinstance(symmetry.layouts[tensor][axis], Atom)
        label = "part" if len(parts) == 1 else "parts"
        texts.append((tensor, f"[{axis}]" + ("" if alone else f" {label} {' '.join(map(str, parts))}")))
    return folded(texts)


def _tensor(symmetry: Structure, tensor: str) -> list[str]:
    lines = [f"{tensor} {symmetry.shape(tensor)}"]
    if not symmetry.layouts[tensor]:
        return [*lines, "  a scalar: nothing to permute"]
    moving: dict[int, list[str]] = {}
    fixed: dict[str, list[int]] = {}
    for axis, (term, reason) in enumerate(zip(symmetry.layouts[tensor], symmetry.reasons[tensor], strict=True)):
        if any(True for _ in atoms(term)):
            moving[axis] = _moving(symmetry, tensor, axis, reason)
        else:
            fixed.setdefault(reason or "no reason given", []).append(axis)
    blocks = moving | {axes[0]: _fixed(symmetry, tensor, axes, reason) for reason, axes in fixed.items()}
    return [*lines, *(line for axis in sorted(blocks) for line in blocks[axis])]


def _fixed(symmetry: Structure, tensor: str, axes: list[int], reason: str) -> list[str]:
    sizes = ", ".join(str(symmetry.shape(tensor)[axis]) for axis in axes)
    head = f"  {'axis' if len(axes) == 1 else 'axes'} {', '.join(map(str, axes))}: fixed ({sizes})"
    leaf = (leaf for axis in axes for leaf in leaves(symmetry.layouts[tensor][axis]))
    parents = dict.fromkeys(str(x.key) for x in leaf if isinstance(x, Fixed) and x.key is not None)
    because = [line for why in read_reasons(reason) for line in _because("pinned", why)]
    return [head, *because, *(f"  {_of_fixed_parent(symmetry, parent)}" for parent in parents)]


def _of_fixed_parent(symmetry: Structure, parent: str) -> str:
    """Return who depends on the positions of an axis that does not move."""
    below = [group.name for group in symmetry.groups.values() if parent in group.parents]
    return f"  each position has an order of its own for {', '.join(below)}"


def _moving(symmetry: Structure, tensor: str, axis: int, reason: str) -> list[str]:
    term = symmetry.layouts[tensor][axis]
    lines = [f"  axis {axis}: moves by " + ("group " if isinstance(term, Atom) else "") + describe(term)]
    pinned = any(isinstance(leaf, Fixed) for leaf in leaves(term))
    for why in read_reasons(reason):
        lines += _because("in part pinned", why) if pinned else _because("cut", why)[:1]
    for group in dict.fromkeys(str(atom.key) for atom in atoms(term)):
        members = symmetry.groups[group].members
        others = members_text(symmetry, [m for m in members if (m.tensor, m.axis) != (tensor, axis)])
        lines.append(f"    {group}: with {', '.join(others) if others else 'nothing else'}")
    return lines


def _because(what: str, why: Reason) -> list[str]:
    lines = [f"    {what}: {why.text}" + (f" ({why.where})" if why.where else "")]
    return [*lines, f"    to free it: {why.remedy}"] if why.remedy else lines


def _group(symmetry: Structure, group: Group) -> list[str]:
    copies = f", in an order of its own for each of {group.copies} positions of {' and '.join(group.parents)}"
    size = f"{group.size} units{copies if group.parents else ''}, 10^{group.log10_order:.1f} permutations"
    sites = folded((site.name, "") for site in symmetry.sites if group.name in site.groups)
    return [
        f"group {group.name}: {size}",
        f"  stands in {', '.join(members_text(symmetry, group.members))}",
        f"  is seen at {', '.join(sites)}" if sites else "  is seen at no activation",
    ]
