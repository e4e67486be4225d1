"""Linear mode connectivity: the line between two networks, the barrier on it, and REPAIR, merging."""

from reticket.connectivity.barriers import BarrierCurve, barrier
from reticket.connectivity.interpolation import interpolate
from reticket.connectivity.merging import merge, merge_partly
from reticket.connectivity.repairing import Repairer, repair
from reticket.connectivity.soups import soup

__all__ = ["BarrierCurve", "Repairer", "barrier", "interpolate", "merge", "merge_partly", "repair", "soup"]
