"""The checks of an experiment, one in each module: settings, tasks, runner, cost, part of the results, finding.

A module that stands here is found; nothing names it. See `reticket.tasks.check`.
"""
