"""What a dose stands for, by its Dose Summation Type (PS3.3 C.8.8.3), and what several doses add up to."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal

from pydicom.dataset import Dataset

from mrlinac.dicom.problems import integer, text
from mrlinac.dicom.read.plan_facts import PlanFacts
from mrlinac.notes import Note, Severity

Span = Literal["course", "session", "delivered"]
Part = Literal["plan", "group", "beam", "setup", "control points"]

MEANINGS: Mapping[str, tuple[Span, Part]] = {
    "PLAN": ("course", "plan"),
    "MULTI_PLAN": ("course", "plan"),
    "PLAN_OVERVIEW": ("course", "plan"),
    "FRACTION": ("course", "group"),
    "BEAM": ("course", "beam"),
    "BRACHY": ("course", "setup"),
    "FRACTION_SESSION": ("session", "group"),
    "BEAM_SESSION": ("session", "beam"),
    "BRACHY_SESSION": ("session", "setup"),
    "CONTROL_POINT": ("session", "control points"),
    "RECORD": ("delivered", "plan"),
}
"""Over what a dose is summed (all fractions, one, those delivered) and of what: the standard's defined terms."""


@dataclass(frozen=True)
class PlanPart:
    """The part of a plan that a dose says it is of; what is empty is not said.

    Attributes
    ----------
    uid : str
        SOP Instance UID of the plan.
    groups, beams, setups : frozenset of int
        Numbers of fraction groups, beams and application setups.
    points : mapping of int to (int, int)
        First and last control point by beam number.
    """

    uid: str
    groups: frozenset[int] = frozenset()
    beams: frozenset[int] = frozenset()
    setups: frozenset[int] = frozenset()
    points: Mapping[int, tuple[int, int]] = field(default_factory=dict)


@dataclass(frozen=True)
class Meaning:
    """What one dose file says it stands for.

    Attributes
    ----------
    summation : str
        Dose Summation Type.
    parts : tuple of PlanPart
    fractions : int or None
        None: the file does not say.
    sop_uid : str
        SOP Instance UID of the dose.
    """

    summation: str
    parts: tuple[PlanPart, ...]
    fractions: int | None
    sop_uid: str = ""

    @property
    def span(self) -> Span | None:
        """Over what it is summed; None for a term that the standard does not define."""
        return MEANINGS[self.summation][0] if self.summation in MEANINGS else None

    @property
    def part(self) -> Part | None:
        """Of what it is."""
        return MEANINGS[self.summation][1] if self.summation in MEANINGS else None


@dataclass(frozen=True)
class Added:
    """What several doses stand for together.

    Attributes
    ----------
    fractions : int or None
        None: not stated.
    notes : tuple of Note
    problems : tuple of str
        What forbids adding them.
    """

    fractions: int | None
    notes: tuple[Note, ...]
    problems: tuple[str, ...]


def parts_of(ds: Dataset) -> tuple[PlanPart, ...]:
    """The plans that a dose refers to, and which parts of them."""
    return tuple(_part(item) for item in ds.get("ReferencedRTPlanSequence") or [])


def _part(item: Dataset) -> PlanPart:
    groups, beams, setups = set(), set(), set()
    points: dict[int, tuple[int, int]] = {}
    for group in item.get("ReferencedFractionGroupSequence") or []:
        groups.add(integer(group, "ReferencedFractionGroupNumber"))
        for beam in group.get("ReferencedBeamSequence") or []:
            number = integer(beam, "ReferencedBeamNumber")
            beams.add(number)
            for span in beam.get("ReferencedControlPointSequence") or []:
                start = integer(span, "ReferencedStartControlPointIndex")
                stop = integer(span, "ReferencedStopControlPointIndex")
                if number is not None and start is not None and stop is not None:
                    points[number] = (start, stop)
        for setup in group.get("ReferencedBrachyApplicationSetupSequence") or []:
            setups.add(integer(setup, "ReferencedBrachyApplicationSetupNumber"))
    known = [frozenset(n for n in numbers_named if n is not None) for numbers_named in (groups, beams, setups)]
    return PlanPart(text(item, "ReferencedSOPInstanceUID"), known[0], known[1], known[2], points)


def stated_fractions(ds: Dataset) -> int | None:
    """Fractions that the dose file itself states: one of a session, those included of an overview of plans."""
    kind = text(ds, "DoseSummationType").upper()
    if kind in MEANINGS and MEANINGS[kind][0] == "session":
        return 1
    counts = [integer(item, "NumberOfFractionsIncluded") for item in ds.get("PlanOverviewSequence") or []]
    if not counts or any(count is None for count in counts):
        return None
    return sum(count for count in counts if count is not None)


def added(meanings: Sequence[Meaning], plans: Mapping[str, PlanFacts]) -> Added:
    """What doses stand for together.

    Parameters
    ----------
    meanings : sequence of Meaning
        Of the doses that are added up; one too.
    plans : mapping from SOP Instance UID to PlanFacts
        The RTPLANs that are at hand.

    Returns
    -------
    Added
    """
    problems = list(dict.fromkeys([*_mixed(meanings), *_twice(meanings)]))
    notes = [*_unclear(meanings), *_missing(meanings, plans)]
    return Added(_fractions(meanings, plans), tuple(notes), tuple(problems))


def _mixed(meanings: Sequence[Meaning]) -> list[str]:
    """Doses of one session among doses of the course."""
    kinds = {
        span: sorted({meaning.summation for meaning in meanings if meaning.span == span})
        for span in ("session", "course")
    }
    if not all(kinds.values()):
        return []
    return [
        f"doses of one session ({', '.join(kinds['session'])}) and of all fractions ({', '.join(kinds['course'])}) are not"
        " added up. Give doses that all stand for the course, or all for a session"
    ]


def _twice(meanings: Sequence[Meaning]) -> list[str]:
    """Doses that hold the same part of one plan: their sum would count it twice."""
    problems = []
    for this, other in itertools.combinations(meanings, 2):
        if this.sop_uid and this.sop_uid == other.sop_uid:
            problems.append("the same dose (SOP Instance UID) is given twice. Give it once")
            continue
        if any(_overlap(this, a, other, b) for a in this.parts for b in other.parts if a.uid and a.uid == b.uid):
            first, second = sorted((this, other), key=lambda m: list(MEANINGS).index(m.summation))
            what = _what_is_shared(first, second)
            problems.append(
                f"a {first.summation} and a {second.summation} dose of one plan are not added up: {what} would count"
                " twice. Give the plan's dose alone, or all its parts without it"
            )
    return problems


def _what_is_shared(first: Meaning, second: Meaning) -> str:
    if first.part == second.part == "plan":
        return "the plan"
    if second.part in ("beam", "control points"):
        return "the beam"
    return "the application setup" if second.part == "setup" else "the fraction group"


def _overlap(first: Meaning, a: PlanPart, other: Meaning, b: PlanPart) -> bool:
    """Whether two doses of one plan share a part of it, as far as they say."""
    kinds = {first.part, other.part}
    if None in kinds:
        return False
    if "plan" in kinds:
        return True
    if a.groups and b.groups and not a.groups & b.groups:
        return False
    if "group" in kinds:
        # Two sessions of one fraction group are two fractions; a session and a beam of it share that beam.
        return not (first.summation == other.summation == "FRACTION_SESSION")
    if kinds == {"control points"}:
        return any(_spans_overlap(a.points.get(n), b.points.get(n)) for n in a.beams & b.beams)
    return bool(a.setups & b.setups if kinds == {"setup"} else a.beams & b.beams)


def _spans_overlap(first: tuple[int, int] | None, other: tuple[int, int] | None) -> bool:
    return first is None or other is None or (first[0] < other[1] and other[0] < first[1]) or first == other


def _unclear(meanings: Sequence[Meaning]) -> list[Note]:
    notes: list[Note] = []
    for kind in sorted({meaning.summation for meaning in meanings if meaning.span is None}):
        is_ = f"is {kind}, which the standard does not define" if kind else "is missing"
        notes.append(
            Note("decide", f"Dose Summation Type (3004,000A) {is_}: what the dose stands for is for you to say.")
        )
    if any(meaning.span == "delivered" for meaning in meanings):
        notes.append(
            Note(
                "decide",
                "The dose is of a treatment record (RECORD): what was delivered, of fractions not counted here.",
            )
        )
    if any(meaning.span == "session" for meaning in meanings):
        kinds = ", ".join(sorted({meaning.summation for meaning in meanings if meaning.span == "session"}))
        notes.append(Note("info", f"{kinds} is the dose of one session, not of the course: one fraction."))
    unsaid = {meaning.summation for meaning in meanings if not any(part.uid for part in meaning.parts)}
    whole = sorted(kind for kind in unsaid if kind in MEANINGS and MEANINGS[kind][1] == "plan")
    if len(meanings) > 1 and whole and {meaning.part for meaning in meanings} - {"plan", None}:
        says = f"A dose is {', '.join(whole)} and does not say of which plan"
        notes.append(Note("warning", f"{says}: what of the others is a part of it counts twice."))
    return notes


def _missing(meanings: Sequence[Meaning], plans: Mapping[str, PlanFacts]) -> list[Note]:
    """Whether the parts of each plan that were given are the whole of it."""
    of_parts = [meaning for meaning in meanings if meaning.part not in ("plan", None)]
    notes: list[Note] = [told for meaning in meanings if (told := _plans_absent(meaning, plans))]
    unsaid = [meaning for meaning in of_parts if not any(part.uid for part in meaning.parts)]
    for uid in dict.fromkeys(part.uid for meaning in of_parts for part in meaning.parts if part.uid):
        parts = [(meaning, part) for meaning in of_parts for part in meaning.parts if part.uid == uid]
        if told := _of_plan(parts, plans.get(uid)):
            notes.append(told)
    if unsaid:
        notes.append(_not_known(unsaid, "they name no plan" if len(unsaid) > 1 else "it names no plan"))
    return notes


def _plans_absent(meaning: Meaning, plans: Mapping[str, PlanFacts]) -> Note | None:
    """Of a dose of several plans: how many of their RTPLANs are not at hand, where only they tell the fractions."""
    uids = list(dict.fromkeys(part.uid for part in meaning.parts if part.uid))
    absent = [uid for uid in uids if uid not in plans]
    if meaning.part != "plan" or meaning.fractions is not None or len(uids) < 2 or not absent:
        return None
    return Note(
        "warning",
        f"The dose is of {len(uids)} plans, and {len(absent)} of their RTPLANs are not beside it: the fractions of the "
        "course are not known. Add those files, or give the fractions.",
    )


def _of_plan(parts: Sequence[tuple[Meaning, PlanPart]], facts: PlanFacts | None) -> Note | None:
    """What is there and what is missing of one plan, of which there are parts only."""
    doses = [meaning for meaning, _ in parts]
    if facts is None:
        return _not_known(doses, "the RTPLAN that it names is not beside the dose")
    if any(meaning.part == "control points" for meaning in doses):
        return Note("warning", "The dose is of control points of a beam, not of a plan: add up the others.")
    of_several = len(facts.groups) > 1
    if any(
        not {"beam": part.beams, "setup": part.setups, "group": part.groups or not of_several}.get(
            str(meaning.part), True
        )
        for meaning, part in parts
    ):
        return _not_known(doses, "which part of the plan it is of is not said")
    everything = frozenset(group.number for group in facts.groups if group.number is not None)
    groups = _named(parts, lambda part: part.groups)
    whole = _named(
        [(meaning, part) for meaning, part in parts if meaning.part == "group"],
        lambda part: part.groups or everything,
    )
    beams = _named([(meaning, part) for meaning, part in parts if meaning.part == "beam"], lambda part: part.beams)
    setups = _named([(meaning, part) for meaning, part in parts if meaning.part == "setup"], lambda part: part.setups)
    what_of = "session" if doses[0].span == "session" else "plan"
    # A session is of one fraction group; the others have their own.
    wanted = [] if what_of == "session" else [("fraction group", groups or everything, everything)]
    if beams or setups:
        of = groups - whole
        wanted += [("treatment beam", beams, facts.treatment_beams(of))]
        wanted += [("application setup", setups, facts.setups(of))]
    if lacking := [_lack(what, have, all_) for what, have, all_ in wanted if all_ - have]:
        return Note(
            "warning", f"The dose is not the whole {what_of}'s: it has {'; '.join(lacking)}. Add up the others."
        )
    counted = [
        f"{len(all_)} {what}(s)" for what, have, all_ in wanted if have and len(all_) > (what == "fraction group")
    ]
    return Note("done", f"The dose is the whole {what_of}'s: all {' and '.join(counted)}.") if counted else None


def _named(parts: Sequence[tuple[Meaning, PlanPart]], of: Callable[[PlanPart], frozenset[int]]) -> frozenset[int]:
    """Numbers that any of the doses names."""
    return frozenset(number for _, part in parts for number in of(part))


def _lack(what: str, have: frozenset[int], all_: frozenset[int]) -> str:
    lacking = ", ".join(str(n) for n in sorted(all_ - have))
    return f"{len(all_ & have)} of {len(all_)} {what}s ({what} {lacking} missing)"


def _not_known(doses: Sequence[Meaning], why: str) -> Note:
    kinds = {"beam": "beam(s)", "setup": "application setup(s)", "group": "fraction group(s)"}
    parts = sorted({kinds.get(str(meaning.part), str(meaning.part)) for meaning in doses})
    severity: Severity = "warning"
    return Note(
        severity,
        f"The dose is of {' and '.join(parts)}, not of a plan, and {why}: whether that is all of the plan is for you to"
        " check. Add up the others, if there are.",
    )


def _fractions(meanings: Sequence[Meaning], plans: Mapping[str, PlanFacts]) -> int | None:
    """Fractions of the sum: of all plans together; parts of one plan are given in the same fractions."""
    total = 0
    groups_of: dict[str, set[int]] = {}
    whole: set[str] = set()
    sessions: dict[tuple[str, ...], int] = {}
    for meaning in meanings:
        uids = tuple(part.uid for part in meaning.parts if part.uid)
        if meaning.span == "session" and meaning.part != "group":
            sessions[uids] = 1  # beams of one session are given in one fraction
        elif meaning.fractions is not None:
            total += meaning.fractions
        elif not uids or meaning.span == "delivered":
            return None
        else:
            for part in meaning.parts:
                facts = plans.get(part.uid)
                if meaning.part == "group" and not part.groups and facts is not None and len(facts.groups) > 1:
                    return None  # which of them it is of is not said
                groups_of.setdefault(part.uid, set()).update(part.groups)
                if meaning.part == "plan" or not part.groups:
                    whole.add(part.uid)
    for uid, groups in groups_of.items():
        count = plans[uid].fractions(() if uid in whole else groups) if uid in plans else None
        if count is None:
            return None
        total += count
    return total + sum(sessions.values())
