"""The forward Monte Carlo doses of a plan, each with random numbers of its own."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Literal

from mrlinac import transport
from mrlinac.dose.dose import Dose
from mrlinac.machine.delivery import Delivery
from mrlinac.recipe.case import Case
from mrlinac.recipe.made_from import stream_seed
from mrlinac.recipe.spec import PlanSpec
from mrlinac.recipe.stages import Stages

FINAL, CORRECTION = "final dose", "correction dose"


@dataclass(frozen=True)
class ForwardDoses:
    """Doses of the rounds and the final dose of a plan.

    Each has a stream of its own, so that the noise of one is not planned into the next. A plan without correction rounds
    has one forward dose, which is its final one.

    Attributes
    ----------
    spec : PlanSpec
    case : Case
    stages : Stages
    threads : int or None
    device : {"cpu", "gpu"}
    numbers : iterator of int
        Of the rounds.
    """

    spec: PlanSpec
    case: Case
    stages: Stages
    threads: int | None = None
    device: Literal["cpu", "gpu"] = "cpu"
    numbers: Iterator[int] = field(default_factory=itertools.count, repr=False, compare=False)

    def round(self, delivery: Delivery) -> Dose:
        """Dose of one fraction for the next round.

        Parameters
        ----------
        delivery : Delivery

        Returns
        -------
        Dose
        """
        numerics, number = self.spec.numerics, next(self.numbers)
        seed = stream_seed(numerics.seed, "round", number)
        if numerics.correction_rounds:
            return self._of(delivery, numerics.correction_rel_sigma, seed, CORRECTION)
        return self._of(delivery, numerics.final_rel_sigma, seed, FINAL)

    def final(self, delivery: Delivery) -> Dose | None:
        """Dose of one fraction that the plan is judged on; None where the round's own dose is.

        Parameters
        ----------
        delivery : Delivery

        Returns
        -------
        Dose or None
        """
        numerics = self.spec.numerics
        if not numerics.correction_rounds:
            return None
        return self._of(delivery, numerics.final_rel_sigma, stream_seed(numerics.seed, "final"), FINAL)

    def _of(self, delivery: Delivery, rel_sigma: float, seed: int, stage: str) -> Dose:
        with self.stages.stage(stage) as tell:
            return transport.dose(
                self.case.medium,
                delivery,
                self.spec.machine,
                field_xyz_T=self.case.field_xyz_T,
                target_rel_sigma=rel_sigma,
                seed=seed,
                threads=self.threads,
                device=self.device,
                progress=tell,
            )
