"""What ``benchmarks.moe`` makes of every seed: the variants, the sizes, and how each is trained and asked."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any, Literal

from moe.settings import ComposeSettings, ExpertSettings, GenerateSettings, RouterSettings
from selection.rules import PAPER, Rule

BASE, ALL, RANDOM, SENSIBILITY, RATIONALITY = "base", "all data", "random subset", "sensibility set", "rationality set"
BOTH, WEIGHTED = "both sets", "weighted by score"
AVERAGED, MIXTURE, TRAINED = "experts averaged", "MoE, {} router", "MoE, {} router, trained"
ROUTERS = ("random", "informed")


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """The same for every seed. ``limit`` and ``most_held_out`` are dialogues per seed, None for all that there are.

    With ``equal_steps`` a smaller set is repeated until it has as many dialogues as all data; one more variant draws
    as many of all data, each with a chance by its scores.
    """

    expert: ExpertSettings
    router: RouterSettings
    compose: ComposeSettings
    generate: GenerateSettings
    threshold: float = 5
    both_low: Literal["keep", "discard"] = "keep"
    equal_steps: bool = False
    limit: int | None = None
    most_held_out: int | None = None

    @property
    def rule(self) -> Rule:
        """What assigns dialogues to sets."""
        return PAPER.discarding() if self.both_low == "discard" else PAPER

    @property
    def trained(self) -> list[str]:
        """The variants that learn a set."""
        both, weighted = [BOTH] * (self.both_low == "discard"), [WEIGHTED] * self.equal_steps
        return [ALL, RANDOM, SENSIBILITY, RATIONALITY, *both, *weighted]

    @property
    def variants(self) -> list[str]:
        """All variants, in the order in which they are made."""
        mixtures = [name.format(router) for name in (MIXTURE, TRAINED) for router in ROUTERS]
        return [BASE, *self.trained, AVERAGED, *mixtures]


def scratch_plan() -> Plan:
    """Return how the small Llama from scratch is trained and asked."""
    learnt: dict[str, Any] = {"batch_size": 16, "max_length": 192, "held_out": 0, "checkpointing": False}
    return Plan(
        expert=ExpertSettings(base="", learning_rate=2e-3, epochs=2, **learnt),
        router=RouterSettings(learning_rate=3e-3, **learnt),
        compose=ComposeSettings(max_length=192),
        generate=GenerateSettings(max_new_tokens=40, max_length=232, batch_size=64),
    )


def lora_plan(base: str) -> Plan:
    """Return how a real base is trained and asked."""
    learnt: dict[str, Any] = {"batch_size": 8, "max_length": 128, "held_out": 0, "checkpointing": False}
    return Plan(
        expert=ExpertSettings(base=base, learning_rate=3e-4, **learnt),
        router=RouterSettings(**learnt),
        compose=ComposeSettings(max_length=128),
        generate=GenerateSettings(max_new_tokens=40, max_length=168, batch_size=32),
    )


def with_options(
    plan: Plan, learning_rate: float | None, epochs: int | None, max_length: int | None, max_new_tokens: int | None
) -> Plan:
    """Return a plan with those settings changed that are not None."""
    length = max_length or plan.expert.max_length
    new = max_new_tokens or plan.generate.max_new_tokens
    expert = replace(
        plan.expert,
        learning_rate=learning_rate or plan.expert.learning_rate,
        epochs=epochs or plan.expert.epochs,
        max_length=length,
    )
    return replace(
        plan,
        expert=expert,
        router=replace(plan.router, max_length=length),
        compose=replace(plan.compose, max_length=length),
        generate=replace(plan.generate, max_new_tokens=new, max_length=length + new),
    )
