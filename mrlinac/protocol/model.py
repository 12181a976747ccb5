"""A protocol: what a plan shall reach, as data with its sources."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Field, model_validator

from mrlinac import inherit, spec
from mrlinac.anatomy.rules import StructureRule
from mrlinac.dose import metrics
from mrlinac.errors import SpecError, did_you_mean
from mrlinac.protocol import kinds
from mrlinac.protocol.biology import AnyModel
from mrlinac.protocol.escalation import Escalation
from mrlinac.protocol.kinds import AnyLimitKind, AnyObjectiveKind, FluenceSmoothness, Positive
from mrlinac.spec import Spec

NotNegative = Annotated[float, Field(ge=0)]

SAME_FRACTION_Gy = 0.21
"""Fraction sizes closer than this count as the same fractionation: 1.8 and 2 Gy are both "conventional"."""


class Prescription(Spec):
    """The dose asked for.

    ``rule = "median"``: D50 of the target equals the dose (ICRU 83).

    Attributes
    ----------
    dose_Gy : float
        Of the course.
    fractions : int
        Of the course.
    target : str
        Structure that the prescription refers to.
    rule : {"median"}
        See above.
    source : str
    """

    dose_Gy: Positive
    fractions: Annotated[int, Field(ge=1)]
    target: str
    rule: Literal["median"]
    source: str

    @property
    def fraction_Gy(self) -> float:
        """Dose of one fraction."""
        return self.dose_Gy / self.fractions


class Fractionated(Spec):
    """A dose that holds for a fractionation: a fraction size, a number of fractions, or, as EQD2, any by its α/β.

    Attributes
    ----------
    fraction_Gy : float or None
        Fraction size for which the limit holds.
    fractions : int or None
        Number of fractions for which the limit holds.
    alpha_beta_Gy : float or None
        α/β by which the limit is converted through EQD2.
    """

    fraction_Gy: Positive | None = None
    fractions: Annotated[int, Field(ge=1)] | None = None
    alpha_beta_Gy: Positive | None = None

    def problem(self, prescription: Prescription) -> str | None:
        """Why the limit cannot be used with a prescription; None where it can."""
        if self.fraction_Gy is not None and self.fractions is not None:
            return "names two fractionations; give fraction_Gy or fractions"
        if self.fraction_Gy is None and self.fractions is None and self.alpha_beta_Gy is None:
            return "names neither its fractionation (fraction_Gy or fractions) nor its α/β (alpha_beta_Gy)"
        if self.alpha_beta_Gy is None and not self.holds_as_is(prescription):
            if self.fractions is not None:
                return f"holds in {self.fractions} fractions, not in {prescription.fractions}"
            return (
                f"holds at {self.fraction_Gy:g} Gy per fraction, not at {prescription.fraction_Gy:.3g} Gy; "
                "alpha_beta_Gy would allow a conversion through EQD2"
            )
        return None

    def holds_as_is(self, prescription: Prescription) -> bool:
        """Whether the limit's fractionation is the prescription's."""
        if self.fractions is not None:
            return self.fractions == prescription.fractions
        limit_fraction_Gy = 2.0 if self.fraction_Gy is None else self.fraction_Gy
        return abs(limit_fraction_Gy - prescription.fraction_Gy) < SAME_FRACTION_Gy

    def for_prescription(self, dose_Gy: float, prescription: Prescription) -> float:
        """A limit's dose, converted where the fractionation differs.

        Withers 1983 (Cancer 51:91): D (d + α/β) is kept; with D' spread over n fractions, D' (D'/n + α/β) equals
        it. A limit without ``fraction_Gy`` is EQD2, that is 2 Gy per fraction.
        """
        if reason := self.problem(prescription):
            raise SpecError(f"the limit {reason}")
        if self.holds_as_is(prescription):
            return dose_Gy
        ratio, n = float(self.alpha_beta_Gy or 0), prescription.fractions
        limit_fraction_Gy = dose_Gy / self.fractions if self.fractions is not None else self.fraction_Gy or 2.0
        effect = dose_Gy * (limit_fraction_Gy + ratio)
        return 0.5 * n * (((ratio**2) + 4 * effect / n) ** 0.5 - ratio)


def _refused(values: Any, what: str, instead: Mapping[str, str]) -> None:
    """Say what to use in place of a kind that does not stand in this table."""
    kind = values.get("kind", values.get("of")) if isinstance(values, Mapping) else None
    kind = kind.get("kind") if isinstance(kind, Mapping) else getattr(kind, "kind", kind)
    if isinstance(kind, str) and kind in instead:
        raise ValueError(f"{kind} cannot be {what}: it {instead[kind]}")


def _gathered(values: Any, own: set[str]) -> Any:
    """Put the keys that belong to the kind into the table ``of``; a file writes them flat.

    Where there is a table too, as after ``--set protocol.objectives.0.of.dose_Gy=20``, it goes before them.
    """
    if not isinstance(values, Mapping):
        return values
    flat = {key: value for key, value in values.items() if key not in own and key != "of"}
    table = values.get("of", {})
    if not isinstance(table, Mapping):
        return values
    return {key: value for key, value in values.items() if key in own} | {"of": {**flat, **table}}


class Objective(Spec):
    """A kind with a weight; the plan minimises the weighted sum (a concave kind is raised).

    With several priorities each sum is minimised in turn, the ones before it held at what they reached plus
    ``slip_percent`` (the largest of their objectives).

    Attributes
    ----------
    of : kind
        What is minimised.
    key : str
        Its name in the file.
    weight : float
        In the weighted sum.
    priority : int
        Objectives of a lower number go first.
    slip_percent : float
        How much of what a priority reached may be given up for those after it.
    source : str
    """

    of: AnyObjectiveKind
    key: str = ""  # its name in the file
    weight: Positive
    priority: Annotated[int, Field(ge=1)] = 1
    slip_percent: NotNegative = 0.0
    source: str

    @model_validator(mode="before")
    @classmethod
    def _flat(cls, values: Any) -> Any:
        _refused(values, "an objective", kinds.NOT_AN_OBJECTIVE)
        return _gathered(values, {"key", "weight", "priority", "slip_percent", "source"})

    @property
    def name(self) -> str:
        """Readable, for tables."""
        return describe(self.of)


_LIMITS = ("at_most_Gy", "at_least_Gy", "at_most_percent", "at_least_percent")


class Constraint(Fractionated):
    """A kind in Gy with a hard limit.

    ``at_floor_Gy``: where a prescription escalates, the limit that still holds at its floor (IDEAL-CRT prescribes to one
    mean lung dose and turns patients away by another). A limit on a point of a DVH, or on a mean, is a goal by itself,
    unless ``goal = false``; ``near`` is that goal's, in the unit of the limit.

    Attributes
    ----------
    of : kind
        What is limited.
    key : str
        Its name in the file.
    at_most_Gy : float or None
        Upper limit, of the course.
    at_least_Gy : float or None
        Lower limit, of the course.
    at_most_percent : float or None
        Upper limit, of the prescription.
    at_least_percent : float or None
        Lower limit, of the prescription.
    at_floor_Gy : float or None
        Limit that holds at the floor of an escalation.
    near : float
        Band beyond the limit that counts as near, of the goal.
    goal : bool
        Whether the limit is a goal, too.
    source : str
    optional : bool
        The structure may be missing.
    """

    of: AnyLimitKind
    key: str = ""  # its name in the file
    at_most_Gy: Positive | None = None
    at_least_Gy: Positive | None = None
    at_most_percent: Positive | None = None
    at_least_percent: Positive | None = None
    at_floor_Gy: Positive | None = None
    near: NotNegative = 0.0
    goal: bool = True
    source: str
    optional: bool = False

    @model_validator(mode="before")
    @classmethod
    def _flat(cls, values: Any) -> Any:
        _refused(values, "a limit", kinds.NOT_A_LIMIT)
        own = {
            *_LIMITS,
            "key",
            "at_floor_Gy",
            "near",
            "goal",
            "source",
            "fraction_Gy",
            "fractions",
            "alpha_beta_Gy",
            "optional",
        }
        if isinstance(values, Mapping) and values.get("kind") == "mean_eqd2":
            own.discard("alpha_beta_Gy")  # it belongs to the kind, whose value is EQD2 already
        return _gathered(values, own)

    @model_validator(mode="after")
    def _convex(self) -> Constraint:
        if sum(getattr(self, key) is not None for key in _LIMITS) != 1:
            raise ValueError(f"give exactly one of {', '.join(_LIMITS)} (per cent are of the prescription)")
        if self.of.curvature == "none" and not self.upper and getattr(self.of, "volume_percent", None) is None:
            raise ValueError(f"a lower limit on {self.of.kind} needs volume_percent")
        if self.at_floor_Gy is not None and not self.upper:
            raise ValueError("at_floor_Gy belongs to an upper limit")
        if isinstance(self.of, kinds.MeanEQD2) and (self.relative or not self.upper):
            raise ValueError("mean_eqd2 takes at_most_Gy, in EQD2")
        if self.upper and self.of.curvature == "concave":
            raise ValueError(f"an upper limit on {self.of.kind} is not convex; use upper_tail")
        if not self.upper and self.of.curvature == "convex":
            raise ValueError(f"a lower limit on {self.of.kind} is not convex; use lower_tail")
        return self

    def problem(self, prescription: Prescription) -> str | None:
        """Why the limit cannot be used with a prescription; EQD2 and per cent can be with any.

        Parameters
        ----------
        prescription : Prescription

        Returns
        -------
        str or None
        """
        if isinstance(self.of, kinds.SquaredKind) and not (self.relative and self.of.dose_Gy is None):
            unnamed = self.fraction_Gy is None and self.fractions is None
            if (reason := super().problem(prescription)) and not unnamed:
                return reason
            if unnamed or not self.holds_as_is(prescription):
                return "is of a squared kind, which is not converted: name fractions or fraction_Gy as prescribed"
            return None
        if self.relative or isinstance(self.of, kinds.MeanEQD2):
            return None
        return super().problem(prescription)

    @property
    def upper(self) -> bool:
        """Whether the limit is a ceiling."""
        return self.at_most_Gy is not None or self.at_most_percent is not None

    @property
    def as_goal(self) -> Goal | None:
        """The same limit as a goal on the finished dose; None where no metric of a DVH says it."""
        of, percent = self.of, "[%]" if self.relative else ""
        if isinstance(of, kinds.MeanDose):
            metric = f"mean{percent}"
        elif isinstance(of, kinds.UpperTail | kinds.DoseAtVolume):
            metric = f"D{of.volume_percent:g}%" if of.volume_cc is None else f"D{of.volume_cc:g}cc"
            metric += percent
        else:
            return None
        if not self.goal:
            return None
        return Goal(
            structure=of.structure, metric=metric, near=self.near, as_constraint=True, by_limit=True,
            source=self.source, optional=self.optional,
        )  # fmt: skip

    @property
    def relative(self) -> bool:
        """Whether the limit is relative to the prescription, and so needs no fractionation."""
        return self.at_most_percent is not None or self.at_least_percent is not None

    @property
    def name(self) -> str:
        """Readable, for tables and messages."""
        return describe(self.of)

    def limit_Gy(self, prescription: Prescription) -> float:
        """The limit of the course.

        Parameters
        ----------
        prescription : Prescription

        Returns
        -------
        float
        """
        percent = self.at_most_percent or self.at_least_percent
        if percent is not None:
            return percent / 100 * prescription.dose_Gy
        if isinstance(self.of, kinds.MeanEQD2):
            return float(self.at_most_Gy or 0)
        return self.for_prescription(float(self.at_most_Gy or self.at_least_Gy or 0), prescription)


class Goal(Fractionated):
    """A metric judged on the final forward dose.

    Without a limit it is reported only. ``near`` is the band beyond the limit that counts as near, in the metric's
    unit. ``at_floor``: a condition of escalation, judged at the floor dose, wherever the prescription ends; who fails it
    there is ineligible. ``as_constraint``: the limit is that of the protocol's hard constraint on the same quantity:
    who changes the one changes the other. ``by_limit``: made from a limit, and made anew with it.

    Attributes
    ----------
    key : str
        Structure and metric.
    structure : str
    metric : str
        What is read off the DVH, as ``D98%``, ``V20Gy[%]``, ``mean``.
    at_most : float or None
        Upper limit, in the metric's unit.
    at_least : float or None
        Lower limit, in the metric's unit.
    near : float
        Band beyond the limit that counts as near.
    at_floor : bool
        A condition of escalation, judged at the floor.
    as_constraint : bool
        The limit is that of the hard constraint on the same quantity.
    by_limit : bool
        It was made from a constraint.
    source : str
    optional : bool
        The structure may be missing.
    """

    key: str = ""  # structure and metric
    structure: str
    metric: str
    at_most: NotNegative | None = None
    at_least: NotNegative | None = None
    near: NotNegative = 0.0
    at_floor: bool = False
    as_constraint: bool = False
    by_limit: bool = False
    source: str
    optional: bool = False

    @model_validator(mode="before")
    @classmethod
    def _named(cls, values: Any) -> Any:
        """In a file a goal is named by its structure and metric: ``[goals."Cord D0.1cc"]``."""
        if not isinstance(values, Mapping):
            return values
        if "structure" in values and "metric" in values:
            return {**values, "key": f"{values['structure']} {values['metric']}"}
        structure, _, metric = str(values.get("key", "")).rpartition(" ")
        return values if not structure else {"structure": structure, "metric": metric, **values}

    @model_validator(mode="after")
    def _judged(self) -> Goal:
        if self.at_most is not None and self.at_least is not None:
            raise ValueError("give at_most or at_least, not both")
        own = self.at_most is not None or self.at_least is not None
        if self.as_constraint and (own or self.at_floor):
            raise ValueError(
                "as_constraint = true takes the limit of a constraint: give it or a limit of its own, not both"
            )
        try:
            metrics.parse(self.metric)
        except SpecError as error:
            raise ValueError(str(error)) from None
        return self

    @property
    def judged(self) -> bool:
        """Whether the goal has a limit, of its own or a constraint's."""
        return self.as_constraint or self.at_most is not None or self.at_least is not None

    @property
    def names_absolute_dose(self) -> bool:
        """Whether a limit in absolute dose is part of the goal, so that it must name its fractionation."""
        wanted = metrics.parse(self.metric)
        judged = self.at_most is not None or self.at_least is not None
        return judged and (wanted.unit == "Gy" or wanted.level_unit == "Gy")


class Protocol(Spec):
    """Prescription, structures, objectives, constraints, goals, models.

    Attributes
    ----------
    name : str
    title : str
    citation : str
        Of the trial or guideline.
    prescription : Prescription
        The dose asked for.
    structures : dict of StructureRule
        How structures are derived, by name.
    objectives : tuple of Objective
        Tables by name in a file.
    constraints : tuple of Constraint
        Hard limits; tables by name in a file.
    goals : tuple of Goal
        Tables by structure and metric in a file.
    models : dict of model
        Complication and control models, by name.
    escalation : Escalation or None
        How an isotoxic prescription is found.
    structure_order : tuple of str
        In which goals are listed; structures not named follow.
    """

    name: str
    title: str
    citation: str
    prescription: Prescription
    structures: dict[str, StructureRule] = Field(default_factory=dict)
    objectives: tuple[Objective, ...]
    constraints: tuple[Constraint, ...] = ()
    goals: tuple[Goal, ...] = ()
    models: dict[str, AnyModel] = Field(default_factory=dict)
    escalation: Escalation | None = None
    structure_order: tuple[str, ...] = ()  # in which goals are listed; structures not named follow

    @model_validator(mode="before")
    @classmethod
    def _lists(cls, values: Any) -> Any:
        return listed(values) if isinstance(values, Mapping) else values

    @model_validator(mode="after")
    def _goals_of_limits(self) -> Protocol:
        """Each limit is a goal, too, where neither a goal nor another limit stands on the same quantity."""
        own = [goal for goal in self.goals if not goal.by_limit]
        stated = {goal.key for goal in own}
        more = [
            goal
            for c in self.constraints
            if (goal := c.as_goal) and goal.key not in stated and len(self._same_quantity(goal)) == 1
        ]
        order = {name: place for place, name in enumerate(self.structure_order)}
        place = {name: len(order) + k for k, name in enumerate(dict.fromkeys(g.structure for g in (*own, *more)))}
        goals = sorted((*own, *more), key=lambda g: (order.get(g.structure, place[g.structure]), not g.judged))
        object.__setattr__(self, "goals", tuple(goals) if self.structure_order else (*own, *more))
        return self

    @model_validator(mode="after")
    def _fractionation(self) -> Protocol:
        problems = [f"{c.name}: {reason}" for c in self.constraints if (reason := c.problem(self.prescription))]
        if self.escalation is not None:
            problems += self._escalation_problems(self.escalation)
        for goal in self.goals:
            if goal.as_constraint and len(constraints := self._same_quantity(goal)) > 1:
                problems.append(
                    f"goal {goal.structure} {goal.metric}: as_constraint, but {len(constraints)} constraints limit it"
                )
            if goal.names_absolute_dose and (reason := goal.problem(self.prescription)):
                problems.append(f"goal {goal.structure} {goal.metric}: {reason}")
        if problems:
            raise ValueError("; ".join(problems))
        return self

    def _escalation_problems(self, escalation: Escalation) -> list[str]:
        """A limit must mean the same at every dose between floor and cap."""
        floor_Gy = self.prescription.dose_Gy
        problems = []
        if escalation.cap_Gy <= floor_Gy:
            problems.append(f"escalation: cap_Gy {escalation.cap_Gy:g} is not above the floor, {floor_Gy:g} Gy")
        for c in self.constraints:
            if isinstance(c.of, kinds.SquaredKind):
                organ = isinstance(c.of, kinds.SquaredOverdose) and c.of.dose_Gy is not None and not c.relative
                if not organ and not (c.of.dose_percent is not None and c.relative):
                    problems.append(
                        f"{c.name}: where a prescription escalates, level and limit are both per cent of it, or (only of "
                        "squared_overdose) both in Gy"
                    )
            if c.relative or isinstance(c.of, kinds.MeanEQD2):
                continue
            if escalation.by == "dose" and c.fractions is None:
                problems.append(f"{c.name}: where the dose escalates a limit names the number of fractions")
            if escalation.by == "fractions" and (c.fractions is not None or not c.holds_as_is(self.prescription)):
                problems.append(f"{c.name}: where fractions are added a limit names the dose of a fraction")
        return problems

    def _same_quantity(self, goal: Goal) -> list[Constraint]:
        """Constraints on what a goal looks at."""
        wanted = metrics.parse(goal.metric)
        return [c for c in self.constraints if c.of.structure == goal.structure and _is_of(wanted, c.of)]

    def limit_of(self, goal: Goal) -> tuple[Literal["<=", ">=", ""], float | None]:
        """Direction and limit of a goal in the metric's unit, for the course; empty and None where it is only reported.

        A goal that repeats a constraint which was taken out, or moved to another quantity, is only reported.

        Parameters
        ----------
        goal : Goal

        Returns
        -------
        direction : {"<=", ">=", ""}
        limit : float or None
        """
        rx, wanted = self.prescription, metrics.parse(goal.metric)
        if goal.as_constraint:
            constraints = self._same_quantity(goal)
            if not constraints:
                return "", None
            constraint = constraints[0]
            limit, percent = constraint.limit_Gy(rx), constraint.at_most_percent or constraint.at_least_percent
            if wanted.unit == "%":
                limit = 100 * limit / rx.dose_Gy if percent is None else percent
            return "<=" if constraint.upper else ">=", limit
        own = goal.at_most if goal.at_most is not None else goal.at_least
        if own is None:
            return "", None
        return (
            "<=" if goal.at_most is not None else ">=",
            goal.for_prescription(own, rx) if wanted.unit == "Gy" else own,
        )

    def at(self, dose_Gy: float, fractions: float) -> Protocol:
        """The protocol at another prescription, for instance one that escalation found.

        Parameters
        ----------
        dose_Gy : float
        fractions : float

        Returns
        -------
        Protocol
        """
        before = self.prescription
        rx = before.model_copy(update={"dose_Gy": dose_Gy, "fractions": fractions})
        escalation = self.escalation
        if escalation is not None and escalation.floor is None:
            escalation = escalation.model_copy(update={"floor": (before.dose_Gy, before.fractions)})
        return self.model_copy(update={"prescription": rx, "escalation": escalation})

    def at_floor(self) -> Protocol | None:
        """The protocol at the floor, where an escalation has left it.

        Returns
        -------
        Protocol or None
            None where there is no escalation, or it stayed at the floor.
        """
        floor = None if self.escalation is None else self.escalation.floor
        if floor is None or floor[0] == self.prescription.dose_Gy:
            return None
        return self.at(*floor)

    def needed_structures(self) -> list[str]:
        """Names that objectives, constraints, goals and models speak of and that are not optional, in order.

        Returns
        -------
        list of str
        """
        named = [self.prescription.target]
        named += [o.of.structure for o in self.objectives if not isinstance(o.of, FluenceSmoothness)]
        named += [c.of.structure for c in self.constraints if not c.optional]
        named += [g.structure for g in self.goals if not g.optional]
        named += [m.structure for m in self.models.values() if not m.optional]
        return list(dict.fromkeys(named))

    def problems(self, present: Any) -> list[str]:
        """What stands in the way of using the protocol with these structures (a container of names).

        Parameters
        ----------
        present : container of str
            Names of the structures that are there.

        Returns
        -------
        list of str
        """
        return [
            f"protocol {self.name}: structure '{name}' is needed and missing{did_you_mean(name, present)}"
            for name in self.needed_structures()
            if name not in present
        ]


LISTS = ("objectives", "constraints", "goals")


def listed(values: Mapping[str, Any]) -> dict[str, Any]:
    """A protocol's plain values with its named tables as lists, each item with its ``key``."""
    result = dict(values)
    for name in LISTS:
        table = result.get(name)
        if isinstance(table, Mapping):
            result[name] = [
                {"key": key, **item} if isinstance(item, Mapping) else item for key, item in table.items()
            ]
    return result


def _is_of(wanted: metrics.Metric, of: Spec) -> bool:
    """Whether a metric and a kind of limit are the same number of a DVH, or the kind's mean tail implies the metric."""
    if isinstance(of, kinds.MeanDose):
        return wanted.form == "mean"
    if not isinstance(of, kinds.UpperTail | kinds.DoseAtVolume) or wanted.form != "dose_at":
        return False
    volume = of.volume_cc if wanted.level_unit == "cc" else of.volume_percent
    return volume is not None and abs(volume - wanted.level) < 1e-9


def describe(of: Spec) -> str:
    """A kind in a few words: ``SpinalCord upper_tail 0.1 cc``."""
    if isinstance(of, kinds.DoseKind):
        words = [of.structure, str(getattr(of, "kind", ""))]
        for key, unit in (
            ("dose_Gy", "Gy"),
            ("dose_percent", "%"),
            ("volume_percent", "%"),
            ("volume_cc", "cc"),
            ("exponent", ""),
        ):
            number = getattr(of, key, None)
            if number is not None:
                words.append(f"{number:g} {unit}".strip())
        return " ".join(words)
    return str(getattr(of, "kind", type(of).__name__))


def load(name: str | Path) -> Protocol:
    """Read a protocol by name (``conventional-66in33``) or path.

    Parameters
    ----------
    name : path or str

    Returns
    -------
    Protocol

    Raises
    ------
    SpecError
        No such file, or everything that is wrong with it.
    """
    file = inherit.read("protocols", name)
    return from_values(file.values, str(file.path))


def from_values(values: Mapping[str, Any], where: str = "protocol") -> Protocol:
    """Build a protocol from plain values, for instance after an override.

    Parameters
    ----------
    values : mapping
    where : str
        For messages.

    Returns
    -------
    Protocol

    Raises
    ------
    SpecError
        Everything that is wrong.
    """
    return spec.validate(Protocol, listed(values), where)
