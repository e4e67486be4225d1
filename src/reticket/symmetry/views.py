"""Where the units of a group can be told apart: the sites that show it on its own, or beside groups that are known."""

from collections.abc import Collection, Iterable
from dataclasses import dataclass

from reticket.symmetry.sites import Site
from reticket.symmetry.structure import Group
from reticket.symmetry.symmetry import Symmetry


@dataclass(frozen=True)
class Views:
    """Where one group is seen, and along which others.

    Args:
        along: names of the groups and fixed parents whose positions are told apart, outermost first.
        sites: where the group stands beside these and no other.
    """

    along: tuple[str, ...]
    sites: tuple[Site, ...]


def showing(sites: Iterable[Site]) -> dict[str, list[Site]]:
    """Return the sites that show each group."""
    found: dict[str, list[Site]] = {}
    for site in sites:
        for name in site.groups:
            found.setdefault(name, []).append(site)
    return found


def stands_alone(sym: Symmetry, group: Group, site: Site) -> bool:
    """Whether a group stands beside its parents at a site, and beside no other group."""
    return set(site.companions(group.name)) == {frozenset(free_parents(sym, group))}


def direct_views(sym: Symmetry) -> dict[str, Views]:
    """Return for every group the sites where it stands beside its parents and no other group.

    Where two free groups meet in one activation, the samples of one are in an order that the other decides.
    """
    found, shown = {}, showing(sym.sites)
    for group in sym.groups.values():
        fitting = [site for site in shown.get(group.name, ()) if stands_alone(sym, group, site)]
        if fitting:
            found[group.name] = Views(group.parents, tuple(fitting))
    return found


def conditional_views(sym: Symmetry, matched: Collection[str]) -> dict[str, Views]:
    """Return, for the groups that are not matched, sites where only matched groups stand beside them."""
    found, shown = {}, showing(sym.sites)
    for group in sym.groups.values():
        for site in shown.get(group.name, ()) if group.name not in matched else ():
            along = _along(sym, site, group, matched)
            if along is not None:
                found[group.name] = Views(along, (site,))
                break
    return found


def _along(sym: Symmetry, site: Site, group: Group, matched: Collection[str]) -> tuple[str, ...] | None:
    beside = site.companions(group.name)
    if len(beside) != 1 or not beside[0] <= set(matched):
        return None
    others = [name for name in site.groups if name in beside[0] and name not in group.parents]
    along = (*group.parents, *others)
    once = all(len(site.companions(name)) == 1 for name in others)
    return along if once and all(set(sym.groups[name].parents) <= set(along) for name in others) else None


def reached_by(sym: Symmetry, direct: Collection[str]) -> frozenset[str]:
    """Return the groups of which something is seen, on their own or of what depends on them."""
    found = set[str]()
    for name in direct:
        above: str | None = name
        while above is not None and above not in found:
            found.add(above)
            above = parent_of(sym, sym.groups[above])
    return frozenset(found)


def free_parents(sym: Symmetry, group: Group) -> tuple[str, ...]:
    """Return the groups that a group depends on, outermost first; fixed parents are left out."""
    return tuple(name for name in group.parents if name in sym.groups)


def parent_of(sym: Symmetry, group: Group) -> str | None:
    """Return the group right above, None for a root and for a group over two that do not depend on each other."""
    above = free_parents(sym, group)
    return above[-1] if above and free_parents(sym, sym.groups[above[-1]]) == above[:-1] else None
