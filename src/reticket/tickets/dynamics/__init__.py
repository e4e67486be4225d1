"""Dynamic sparse training: masks that change while a network is trained."""

from reticket.tickets.dynamics.exchange import rigl, set_
from reticket.tickets.dynamics.fan_in import srigl
from reticket.tickets.dynamics.gradual import gradual
from reticket.tickets.dynamics.registry import DYNAMICS, Dynamics, MaskMoment, dynamics, on_cpu
from reticket.tickets.dynamics.updates import Updates

__all__ = ["DYNAMICS", "Dynamics", "MaskMoment", "Updates", "dynamics", "gradual", "on_cpu", "rigl", "set_", "srigl"]
