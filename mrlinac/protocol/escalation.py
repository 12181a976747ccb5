"""How a prescription may grow until an organ's limit: the schema, and the steps it grows in."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Annotated, Any, Literal

from pydantic import Field, model_validator

from mrlinac.protocol.kinds import Positive
from mrlinac.spec import Spec


class Escalation(Spec):
    """The way to an isotoxic prescription; its floor is the protocol's own prescription.

    ``by = "dose"`` keeps the number of fractions and raises the dose in steps of ``step_Gy``; ``by = "fractions"``
    keeps the dose of a fraction and adds fractions. ``slip_percent`` is what the plan gives up of the highest dose the
    limits allow, to be a good plan there as well.

    Attributes
    ----------
    by : {"dose", "fractions"}
        Raise the dose in the same number of fractions, or add fractions.
    cap_Gy : float
        Highest prescription.
    step_Gy : float or None
        Step of the dose; only with ``by = "dose"``.
    slip_percent : float
        Share of the highest prescription that the plan gives up.
    """

    by: Literal["dose", "fractions"]
    cap_Gy: Positive
    step_Gy: Positive | None = None
    slip_percent: Annotated[float, Field(ge=0, le=10)]
    source: str
    floor: tuple[float, int] | None = Field(
        default=None, exclude=True
    )  # set by Protocol.at: what the prescription was

    @model_validator(mode="before")
    @classmethod
    def _no_floor(cls, values: Any) -> Any:
        if isinstance(values, Mapping) and values.get("floor") is not None:
            raise ValueError("floor is no key of a file: the floor is the protocol's own [prescription]")
        return values

    @model_validator(mode="after")
    def _stepped(self) -> Escalation:
        if (self.by == "dose") != (self.step_Gy is not None):
            raise ValueError('step_Gy belongs to by = "dose", where the number of fractions stays')
        return self

    def rounded_down(self, dose_Gy: float, floor_Gy: float, fractions: int) -> tuple[float, int]:
        """The largest dose and number of fractions not above a dose and the cap; below the floor too, if it must.

        Parameters
        ----------
        dose_Gy : float
        floor_Gy, fractions
            The protocol's own prescription.
        """
        wanted = min(dose_Gy, self.cap_Gy) * (1 + 1e-9)
        if self.by == "dose":
            step = float(self.step_Gy or 1)
            return round(math.floor(wanted / step) * step, 6), fractions
        one_Gy = floor_Gy / fractions
        count = max(1, math.floor(wanted / one_Gy))
        return round(count * one_Gy, 6), count
