"""The matcher of an experiment: checked, options and all, when it is planned; and what of it decides a result."""

from collections.abc import Mapping
from typing import Any

from reticket.errors import ConfigError, InputError
from reticket.experiment import Result
from reticket.matching import MATCHERS, Matcher, memory_options
from reticket.models.code import code_outside
from reticket.tasks.config import OLDEST_OPTIONS, MatchingConfig, StartConfig
from reticket.tasks.inputs import alignment_of, required_mask, thawed
from reticket.tasks.tensors import WEIGHTS, stripped

AT_HAND = ("batches", "start")  # what an experiment can give a matcher wherever networks are matched
TICKETS = frozenset(("masks_a", "rewound_b"))  # what it can give where the ticket is known that the alignment will move


def check_matching(config: MatchingConfig) -> None:
    """Refuse a matcher that an experiment cannot use, or options that it does not have.

    Raises:
        ConfigError: in one sentence.
    """
    chosen = _checked(config, "matching")
    if config.start is not None and "start" not in chosen.uses:
        raise ConfigError(f"matching.start: matcher '{config.method}' does not begin from an alignment; leave it out")
    if config.start is None and "start" in chosen.needs:
        raise ConfigError(
            f"matching.start is missing: matcher '{config.method}' begins from an alignment; say which matcher finds "
            'it, as start = { method = "activation" }'
        )
    if config.start is not None and "start" in _checked(config.start, "matching.start").needs:
        raise ConfigError(f"matching.start: matcher '{config.start.method}' needs a start itself; name another")


def looks_at_tickets(config: MatchingConfig) -> bool:
    """Whether the matcher looks at A's mask or at B's weights where it will train sparse."""
    return not TICKETS.isdisjoint(MATCHERS.named(config.method).uses)


def matcher_spec(config: MatchingConfig, chosen: MatchingConfig | StartConfig) -> dict[str, Any]:
    """Return what decides a matching besides the networks: the matcher, its options with their defaults, the inputs.

    The oldest options stand beside the table of the others, and `unmatched` is left out at its default, so that results
    which are older than the table keep their keys.

    Args:
        config: of the experiment; says on which inputs.
        chosen: the matcher: that of the experiment, or the one whose alignment it begins from.
    """
    matcher = MATCHERS.named(chosen.method)
    options = matcher.settings(chosen.options)
    spec: dict[str, Any] = {"method": chosen.method}
    spec |= {name: options.pop(name) for name in OLDEST_OPTIONS if name in options}
    if options.get("unmatched") == "weight":
        del options["unmatched"]
    if options:
        spec["options"] = options
    if code := code_outside(matcher.function):
        spec["code"] = code
    if "batches" in matcher.uses:
        spec |= {"samples": config.samples, "batch_size": config.batch_size}
    return spec


def matcher_options(spec: Mapping[str, Any]) -> dict[str, Any]:
    """Return the options in what `matcher_spec` made."""
    return {name: spec[name] for name in OLDEST_OPTIONS if name in spec} | dict(spec.get("options", {}))


def trained_on(spec: Mapping[str, Any]) -> int:
    """Return on how many examples a matching does steps of training, by what `matcher_spec` made."""
    trained = MATCHERS.named(spec["method"]).trained
    return 0 if trained is None else trained(spec["batch_size"], **matcher_options(spec))


def given_to_matcher(spec: Mapping[str, Any], inputs: Mapping[str, Result], device: str) -> dict[str, Any]:
    """Return what a matching is given besides networks and batches: its options, a start, and what it asks of tickets.

    Args:
        spec: what `matcher_spec` made.
        inputs: of the task that matches.
        device: where the networks are.
    """
    found = memory_options(spec["method"], device) | thawed(matcher_options(spec))
    found["start"] = alignment_of(inputs, "start") if "start" in inputs else None
    if "ticket" in inputs:
        uses = MATCHERS.named(spec["method"]).uses
        known = {
            "masks_a": required_mask(inputs["ticket"]),
            "rewound_b": stripped(inputs["rewound_b"].tensors, WEIGHTS),
        }
        found |= {name: value for name, value in known.items() if name in uses}
    return found


def _checked(config: MatchingConfig | StartConfig, where: str) -> Matcher:
    try:
        matcher = MATCHERS.named(config.method)
        matcher.settings(config.options)
    except InputError as problem:
        raise ConfigError(f"{where}: {problem}") from None
    if missing := [need for need in matcher.needs if need not in AT_HAND]:
        raise ConfigError(
            f"{where}: matcher '{config.method}' needs {missing[0]}, which an experiment has not where networks are "
            "matched; call it from Python with rt.match"
        )
    return matcher
