"""Derived structures as tables: what ``[structures.NAME]`` of a protocol may say, and its evaluation.

    [structures.PTV]
    first_of = ["ITV", "CTV"]
    margin_mm = 7
    role = "target"

The steps of one rule run in this order: sources (``from`` or ``first_of``), ``margin_mm``, ``rind_mm`` or ``ring``,
``within``, ``minus``, ``side``, ``trim_ends_mm``.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace
from typing import Annotated, Any, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import (
    BeforeValidator,
    ConfigDict,
    Field,
    SerializerFunctionWrapHandler,
    model_serializer,
    model_validator,
)

from mrlinac import spec
from mrlinac.anatomy import booleans
from mrlinac.anatomy.grid import Grid
from mrlinac.anatomy.margins import Margin, SixMargins, expand
from mrlinac.anatomy.structures import Role, Shell, Structure, StructureSet
from mrlinac.anatomy.trace import without_traces
from mrlinac.errors import DataError, did_you_mean, raise_all
from mrlinac.notes import Note, Notes, Severity

Occupancy = NDArray[np.float32]
Grow = Callable[[Occupancy, Grid, Margin], Occupancy]
"""Grows or shrinks an occupancy by a margin."""
Direction = Literal["anterior", "posterior", "left", "right"]


class Term(spec.Spec):
    """A structure inside a rule, where wanted with a margin of its own; a bare name stands for one without.

    Attributes
    ----------
    structure : str
        Name of a structure.
    margin_mm : float or SixMargins
        Of this structure; negative shrinks.
    optional : bool
        The structure may be missing.
    """

    structure: str
    margin_mm: float | SixMargins = 0.0
    optional: bool = False

    def __str__(self) -> str:
        return self.structure + _margin_text(self.margin_mm)


class Ring(spec.Spec):
    """The shell between two margins about the sources; negative margins lie inside.

    Attributes
    ----------
    inner_mm : float
        Inner edge of the shell, from the surface; negative is inside.
    outer_mm : float
        Outer edge.
    """

    inner_mm: float
    outer_mm: float

    @model_validator(mode="after")
    def _consistent(self) -> Ring:
        if self.outer_mm <= self.inner_mm:
            raise ValueError("outer_mm must be larger than inner_mm")
        return self


class Side(spec.Spec):
    """The part of a structure on one side of the body.

    The cut is made slice by slice: ``share`` is the part of the external's extent in that slice, counted from the
    side that is kept; 0.5 is the body's mid-plane.

    Attributes
    ----------
    towards : str
        The side that is kept.
    share : float
        Part of the external's extent, from that side.
    """

    towards: Direction
    share: Annotated[float, Field(gt=0, lt=1)]


def _terms(value: Any) -> Any:
    """Turn a name, a table or a list of them into a list of tables."""
    items = value if isinstance(value, (list, tuple)) else [value]
    return tuple({"structure": item} if isinstance(item, str) else item for item in items)


def _side(value: Any) -> Any:
    return {"towards": value, "share": 0.5} if isinstance(value, str) else value


Terms = Annotated[tuple[Term, ...], BeforeValidator(_terms)]


class StructureRule(spec.Spec):
    """One derived structure: ``[structures.NAME]``.

    Attributes
    ----------
    from_ : terms (``from`` in a file)
        The union of these.
    first_of : tuple of str
        Instead: the first of these that the patient has; a warning unless it is the first named.
    margin_mm : float or SixMargins
        Exact Euclidean; negative shrinks.
    rind_mm : float
        Keep the shell of this thickness just inside.
    ring : Ring
        Keep a shell outside (or across) the surface.
    within : terms
        Intersect with each.
    minus : terms
        Take each away.
    side : Side
        Keep the part on one side of the body; the name of a direction stands for the body's mid-plane.
    trim_ends_mm : float
        Drop so much of the imaged range at both ends; 0 drops what the grid adds to it.
    role : str
        What kind of structure it is.
    optional : bool
        Leave the structure out, with a note, where sources are missing.
    keep_drawn : bool
        Where the patient has a drawn structure of this name, keep it instead.
    source : str
        Where the rule comes from.
    """

    model_config = ConfigDict(populate_by_name=True)

    from_: Terms = Field(default=(), alias="from")
    first_of: tuple[str, ...] = ()
    margin_mm: float | SixMargins = 0.0
    rind_mm: Annotated[float, Field(gt=0)] | None = None
    ring: Ring | None = None
    within: Terms = ()
    minus: Terms = ()
    side: Annotated[Side | None, BeforeValidator(_side)] = None
    trim_ends_mm: Annotated[float, Field(ge=0)] | None = None
    role: Role = "other"
    optional: bool = False
    keep_drawn: bool = False
    source: str = ""

    @model_validator(mode="after")
    def _consistent(self) -> StructureRule:
        if bool(self.from_) == bool(self.first_of):
            raise ValueError("exactly one of 'from' and 'first_of' must say where the structure comes from")
        if self.rind_mm is not None and self.ring is not None:
            raise ValueError("'rind_mm' and 'ring' exclude each other; make two structures")
        return self

    @model_serializer(mode="wrap")
    def _as_in_a_file(self, handler: SerializerFunctionWrapHandler) -> dict[str, Any]:
        """``from`` is a word of Python's: the field has another name, the file has not."""
        values: dict[str, Any] = handler(self)
        return {"from" if key == "from_" else key: value for key, value in values.items()}

    @property
    def sources(self) -> tuple[str, ...]:
        """Names of all structures that the rule mentions."""
        return (*self.first_of, *(term.structure for term in (*self.from_, *self.within, *self.minus)))


def derive(
    structures: StructureSet,
    rules: Mapping[str, StructureRule],
    *,
    imaged_z_mm: tuple[float, float] | None = None,
    grow: Grow = expand,
) -> tuple[StructureSet, Notes]:
    """Evaluate structure rules in the order in which they depend on one another.

    Parameters
    ----------
    structures : StructureSet
        What was drawn. A rule of the same name replaces it, with a note, unless ``keep_drawn``.
    rules : mapping from name to StructureRule
    imaged_z_mm : tuple of float
        Outer edges of the imaged range; needed where a rule has ``trim_ends_mm``.
    grow : function, optional
        Stands for :func:`mrlinac.anatomy.margins.expand`, for one who keeps what it made.

    Returns
    -------
    StructureSet
        Drawn and derived structures.
    Notes
        One line for each derived structure, and a warning wherever something was left out or stands in.

    Raises
    ------
    DataError
        Lists every cycle and every missing structure, with the nearest names.
    """
    plan = _Plan(structures, rules)
    faults = list(plan.faults)
    trims = [name for name in plan.order if rules[name].trim_ends_mm is not None]
    if trims and imaged_z_mm is None:
        faults.append(f"trim_ends_mm of {', '.join(trims)}: the imaged range is not known; pass imaged_z_mm")
    sides = [name for name in plan.order if rules[name].side is not None]
    if sides and len(structures.of_role("external")) != 1:
        faults.append(f"side of {', '.join(sides)}: needs exactly one structure of role 'external'")
    raise_all(DataError, "the protocol's structure rules cannot be evaluated:", faults)
    work = _Evaluation(structures, imaged_z_mm, grow)
    work.notes.extend(plan.notes)
    for name in plan.order:
        work.add(name, rules[name])
    return work.result, Notes(tuple(work.notes))


def problems(names: Iterable[str], rules: Mapping[str, StructureRule]) -> list[str]:
    """What would stop :func:`derive` for a patient with these structures; empty if nothing."""
    return list(_Plan(list(names), rules).faults)


def made_by_rule(names: Iterable[str], rules: Mapping[str, StructureRule]) -> list[str]:
    """The structures that :func:`derive` makes for a patient with these; what it cannot make is left out."""
    return list(_Plan(list(names), rules).order)


class _Plan:
    """Which rules to evaluate, in which order."""

    def __init__(self, drawn: Iterable[str], rules: Mapping[str, StructureRule]) -> None:
        self.drawn, self.rules = set(drawn), rules
        self.order: list[str] = []
        self.faults: list[str] = []
        self.notes: list[Note] = []
        self.state: dict[str, bool | None] = {}  # None: being visited; True: will exist; False: will not
        for name in rules:
            self._exists(name, ())
        self.faults = list(dict.fromkeys(self.faults))

    def _exists(self, name: str, path: tuple[str, ...]) -> bool:
        rule = self.rules.get(name)
        if rule is None or (rule.keep_drawn and name in self.drawn):
            return name in self.drawn
        if name in path:
            self.faults.append(f"{' → '.join((*path[path.index(name) :], name))}: these rules need one another")
            return True  # said once; do not call it missing as well
        known = self.state.get(name)
        if known is not None:
            return known
        missing = self._missing(rule, (*path, name))
        self.state[name] = not missing
        if not missing:
            self.order.append(name)
        elif rule.optional:
            self.notes.append(Note("warning", f"{name} left out: the patient has no {' and no '.join(missing)}"))
        else:
            self.faults.extend(f"structures.{name}: {self._hint(source)}" for source in missing)
        return self.state[name] is True

    def _missing(self, rule: StructureRule, path: tuple[str, ...]) -> list[str]:
        if rule.first_of:
            sources = [name for name in rule.first_of if self._exists(name, path)]
            missing = [] if sources else [" or ".join(rule.first_of)]
        else:
            missing = [t.structure for t in rule.from_ if not self._exists(t.structure, path) and not t.optional]
            if all(not self._exists(t.structure, path) for t in rule.from_):
                missing = missing or [" or ".join(t.structure for t in rule.from_)]
        more = (*rule.within, *rule.minus)
        return missing + [t.structure for t in more if not self._exists(t.structure, path) and not t.optional]

    def _hint(self, source: str) -> str:
        if source in self.rules:
            return f"needs '{source}', which itself cannot be made"
        known = sorted(self.drawn | set(self.rules))
        hint = did_you_mean(source, known) or f"; known: {', '.join(known)}"
        return f"there is no structure '{source}'{hint}. Draw it, map its name, or set optional = true"


class _Evaluation:
    """The structures so far, margins already computed, and what to tell."""

    def __init__(
        self, structures: StructureSet, imaged_z_mm: tuple[float, float] | None, grow: Grow = expand
    ) -> None:
        self.result, self.imaged_z_mm, self.grow = structures, imaged_z_mm, grow
        self.drawn = frozenset(structures)
        self.notes: list[Note] = []
        self.cache: dict[tuple[str, float | SixMargins], Occupancy] = {}

    @property
    def grid(self) -> Grid:
        return self.result.grid

    def add(self, name: str, rule: StructureRule) -> None:
        """Evaluate one rule and note what became of it."""
        inside, text, shell = self._source(name, rule)
        if rule.ring is not None:
            outer, inner = (self.grow(inside, self.grid, m) for m in (rule.ring.outer_mm, rule.ring.inner_mm))
            inside, shell = booleans.difference(outer, inner, self.grid), Shell(outer, inner)
            text += f", shell from {rule.ring.inner_mm:g} to {rule.ring.outer_mm:g} mm"
        for term in self._present(name, rule.within):
            inside = booleans.intersection(inside, self._of(term), self.grid)
            shell = shell and replace(shell, within=(*shell.within, self._of(term)))
            text += f", within {term}"
        for term in self._present(name, rule.minus):
            inside = booleans.difference(inside, self._of(term), self.grid)
            shell = shell and replace(shell, minus=(*shell.minus, self._of(term)))
            text += f", without {term}"
        if rule.side is not None:
            half = self._half_body(rule.side)
            inside, shell = inside * half, shell and replace(shell, within=(*shell.within, half))
            text += f", {rule.side.towards} {rule.side.share:.0%} of the body"
        if rule.trim_ends_mm is not None:  # none at all leaves the continued ends out
            kept = self._trimmed(rule.trim_ends_mm)
            inside, shell = inside * kept, shell and replace(shell, within=(*shell.within, kept))
            ends = f"without the end {rule.trim_ends_mm:g} mm of" if rule.trim_ends_mm else "within"
            text += f", {ends} the imaged range"
        if name in self.drawn:
            self.notes.append(Note("warning", f"{name}: the drawn structure is replaced by the protocol's rule"))
        inside = without_traces(inside.astype(np.float32))
        self.result = self.result.having(Structure(name, rule.role, inside, shell=shell))
        volume_cc = self.result.volume_cc(name)
        self.notes.append(Note("done", f"{name} = {text}: {volume_cc:.1f} cc"))
        if volume_cc <= 0:
            self.notes.append(Note("warning", f"{name} is empty"))
        if self.imaged_z_mm is not None and rule.trim_ends_mm is None:
            beyond_cc = float((inside * (1.0 - self._trimmed(0.0))).sum(dtype=np.float64)) * self.grid.voxel_cc
            if beyond_cc > 0.001 * volume_cc:
                severity: Severity = "warning" if rule.role == "target" else "info"
                self.notes.append(Note(severity, f"{name}: {beyond_cc:.1f} cc lie beyond the imaged range"))

    def _source(self, name: str, rule: StructureRule) -> tuple[Occupancy, str, Shell | None]:
        """Union of the sources with margin and rind, and the borders of a rind; margins of single ones are remembered."""
        if rule.first_of:
            chosen = next(source for source in rule.first_of if source in self.result)
            if chosen != rule.first_of[0]:
                text = f"{name}: the patient has no {rule.first_of[0]}; {chosen} stands in for it"
                self.notes.append(Note("warning", text))
            terms = [Term(structure=chosen)]
        else:
            terms = self._present(name, rule.from_)
        text = " + ".join(str(term) for term in terms) + _margin_text(rule.margin_mm)
        if len(terms) == 1 and terms[0].margin_mm == 0.0:
            inside = self._of(Term(structure=terms[0].structure, margin_mm=rule.margin_mm))
            if rule.rind_mm is not None and rule.margin_mm == 0.0:
                core = self._of(Term(structure=terms[0].structure, margin_mm=-rule.rind_mm))
                rind = booleans.difference(inside, core, self.grid)
                return rind, f"{text}, outer {rule.rind_mm:g} mm", Shell(inside, core)
            if rule.rind_mm is None and rule.margin_mm == 0.0:
                return inside, text, self.result[terms[0].structure].shell
        else:
            inside = self._of(terms[0])
            for term in terms[1:]:
                inside = booleans.union(inside, self._of(term), self.grid)
            inside = self.grow(inside, self.grid, rule.margin_mm)
        if rule.rind_mm is not None:
            core = self.grow(inside, self.grid, -rule.rind_mm)
            rind = booleans.difference(inside, core, self.grid)
            return rind, f"{text}, outer {rule.rind_mm:g} mm", Shell(inside, core)
        return inside, text, None

    def _present(self, name: str, terms: Iterable[Term]) -> list[Term]:
        present = []
        for term in terms:
            if term.structure in self.result:
                present.append(term)
            else:
                text = f"{name}: the patient has no {term.structure}, which the rule calls optional"
                self.notes.append(Note("warning", text))
        return present

    def _of(self, term: Term) -> Occupancy:
        drawn = self.result[term.structure].occupancy
        if term.margin_mm == 0.0:
            return drawn
        key = (term.structure, term.margin_mm)
        if key not in self.cache:
            self.cache[key] = self.grow(drawn, self.grid, term.margin_mm)
        return self.cache[key]

    def _half_body(self, side: Side) -> Occupancy:
        """Share of each voxel on one side of a cut through the external, slice by slice."""
        external = self.result[self.result.of_role("external")[0]].occupancy
        along_x = side.towards in ("left", "right")
        centres = self.grid.x_mm if along_x else self.grid.y_mm
        step = self.grid.spacing_zyx_mm[2 if along_x else 1]
        profile = external.max(axis=1 if along_x else 2) >= 0.5  # (z, position)
        count = profile.shape[1]
        first = centres[np.argmax(profile, axis=1)] - step / 2
        last = centres[count - 1 - np.argmax(profile[:, ::-1], axis=1)] + step / 2
        low = side.towards in ("anterior", "right")  # towards smaller coordinates in LPS
        cut = first + side.share * (last - first) if low else last - side.share * (last - first)
        below = np.clip((cut[:, None] - (centres - step / 2)) / step, 0.0, 1.0)
        share = np.where(profile.any(axis=1)[:, None], below if low else 1.0 - below, 0.0).astype(np.float32)
        return share[:, None, :] if along_x else share[:, :, None]

    def _trimmed(self, trim_mm: float) -> Occupancy:
        """Share of each layer that lies in the imaged range less its ends."""
        assert self.imaged_z_mm is not None  # derive() has seen to it
        low, high = self.imaged_z_mm[0] + trim_mm, self.imaged_z_mm[1] - trim_mm
        dz = self.grid.spacing_zyx_mm[0]
        common = np.minimum(self.grid.z_mm + dz / 2, high) - np.maximum(self.grid.z_mm - dz / 2, low)
        return np.clip(common / dz, 0.0, 1.0).astype(np.float32)[:, None, None]


def _margin_text(margin: float | SixMargins) -> str:
    if isinstance(margin, SixMargins):
        sign = "−" if margin.inward else "+"
        sides = ("left", "right", "anterior", "posterior", "superior", "inferior")
        return f" {sign} ({', '.join(f'{side} {getattr(margin, side):g}' for side in sides)}) mm"
    return "" if margin == 0 else f" {'+' if margin > 0 else '−'} {abs(margin):g} mm"
