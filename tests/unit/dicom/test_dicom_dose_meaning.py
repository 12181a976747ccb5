"""What a dose stands for by its Dose Summation Type (PS3.3 C.8.8.3), alone and added up; what a plan says of its beams."""

from pathlib import Path

import numpy as np
import pytest
from nasty import Items, dose, of_plan, plan, save
from pydicom.dataset import Dataset

from mrlinac.dicom import plans_in, read_dose_object
from mrlinac.dicom.read.dose_meaning import MEANINGS
from mrlinac.dicom.read.plan_facts import facts_of
from mrlinac.errors import DataError
from mrlinac.notes import Notes
from mrlinac.recipe.evaluation_inputs import read_doses

TWO_GROUPS = ((25, {1: 100.0, 2: 120.0}), (5, {3: 80.0}))
"""A plan of 25 fractions of two beams and 5 of another."""


def evaluated(folder: Path, doses: list[Dataset], *plans: Dataset) -> tuple[int | None, Notes, np.ndarray]:
    """Fractions, notes and values of the sum of some doses, beside plans."""
    paths = []
    for number, ds in enumerate(doses):
        ds.SOPInstanceUID = f"1.9.70.{number}"
        paths.append(folder / f"d{number}.dcm")
        save(ds, paths[-1])
    for number, ds in enumerate(plans):
        save(ds, folder / f"p{number}.dcm")
    read, count, _, notes = read_doses({"dose": paths}, fractions=None, course=None)
    return count, notes, read["dose"].dose_Gy


def test_every_defined_term_is_known() -> None:
    assert set(MEANINGS) == {
        "PLAN", "MULTI_PLAN", "PLAN_OVERVIEW", "FRACTION", "BEAM", "BRACHY", "FRACTION_SESSION", "BEAM_SESSION",
        "BRACHY_SESSION", "CONTROL_POINT", "RECORD",
    }  # fmt: skip


@pytest.mark.parametrize(
    ("kind", "group", "beams", "expected"),
    [
        ("PLAN", None, (), 30),
        ("FRACTION", 1, (), 25),
        ("FRACTION", 2, (), 5),
        ("BEAM", 1, (1, 2), 25),
        ("BEAM", 2, (3,), 5),
        ("FRACTION_SESSION", 1, (), 1),
        ("BEAM_SESSION", 1, (1,), 1),
        ("BRACHY_SESSION", 1, (), 1),
        ("CONTROL_POINT", 1, (1,), 1),
        ("RECORD", None, (), None),
    ],
)
def test_fractions_of_one_dose(
    tmp_path: Path, kind: str, group: int | None, beams: tuple, expected: int | None
) -> None:
    count, _, _ = evaluated(tmp_path, [of_plan(dose(), kind, "1.9.80", group=group, beams=beams)], plan(*TWO_GROUPS))
    assert count == expected


def test_a_dose_of_several_plans_has_all_their_fractions(tmp_path: Path) -> None:
    plans = plan((25, {1: 100.0})), plan((8, {1: 90.0}), uid="1.9.81")
    count, _, _ = evaluated(tmp_path, [of_plan(dose(), "MULTI_PLAN", "1.9.80", "1.9.81")], *plans)
    assert count == 33


def test_a_plan_that_is_not_there_leaves_the_fractions_unknown(tmp_path: Path) -> None:
    count, notes, _ = evaluated(tmp_path, [of_plan(dose(), "MULTI_PLAN", "1.9.80", "1.9.81")], plan(*TWO_GROUPS))
    assert count is None
    assert any("No file says" in text for text in notes.texts())
    assert any("of 2 plans, and 1 of their RTPLANs are not beside it" in text for text in notes.of("warning"))


def test_beams_of_one_plan_add_up_to_it(tmp_path: Path) -> None:
    doses = [of_plan(dose(), "BEAM", "1.9.80", group=g, beams=(n,)) for g, n in ((1, 1), (1, 2), (2, 3))]
    count, notes, values = evaluated(tmp_path, doses, plan(*TWO_GROUPS))
    assert count == 30
    assert "dose: The dose is the whole plan's: all 2 fraction group(s) and 3 treatment beam(s)." in notes.of("done")
    alone = read_doses({"one": [tmp_path / "d0.dcm"]}, fractions=None, course=None)[0]
    assert values == pytest.approx(3 * alone["one"].dose_Gy, rel=1e-6)


def test_some_beams_of_a_plan_are_not_the_plan(tmp_path: Path) -> None:
    doses = [of_plan(dose(), "BEAM", "1.9.80", group=1, beams=(n,)) for n in (1, 2)]
    both = plan((25, {1: 100.0, 2: 120.0, 4: 50.0, 9: None}), deliveries={1: "TREATMENT", 4: "TREATMENT", 9: "SETUP"})
    _, notes, _ = evaluated(tmp_path, doses, both)
    (told,) = notes.of("warning")
    assert "2 of 3 treatment beams (treatment beam 4 missing)" in told


def test_a_beam_without_its_plan_is_said(tmp_path: Path) -> None:
    count, notes, _ = evaluated(tmp_path, [of_plan(dose(), "BEAM", "1.9.80", group=1, beams=(1,))])
    assert count is None
    assert any("not of a plan, and the RTPLAN that it names is not beside the dose" in t for t in notes.of("warning"))


def test_all_beams_of_a_session_are_one_fraction(tmp_path: Path) -> None:
    doses = [of_plan(dose(), "BEAM_SESSION", "1.9.80", group=1, beams=(n,)) for n in (1, 2)]
    count, notes, _ = evaluated(tmp_path, doses, plan(*TWO_GROUPS))
    assert count == 1
    assert any("the whole session's: all 2 treatment beam(s)" in text for text in notes.of("done"))


def test_two_sessions_are_two_fractions(tmp_path: Path) -> None:
    doses = [of_plan(dose(), "FRACTION_SESSION", "1.9.80", group=1) for _ in range(2)]
    assert evaluated(tmp_path, doses, plan(*TWO_GROUPS))[0] == 2


def test_doses_of_two_plans_add_their_fractions(tmp_path: Path) -> None:
    doses = [of_plan(dose(), "PLAN", "1.9.80"), of_plan(dose(), "PLAN", "1.9.81")]
    assert evaluated(tmp_path, doses, plan(*TWO_GROUPS), plan((7, {1: 90.0}), uid="1.9.81"))[0] == 37


@pytest.mark.parametrize(
    "pair",
    [
        (("PLAN", None, ()), ("BEAM", 1, (1,))),
        (("PLAN", None, ()), ("PLAN", None, ())),
        (("PLAN", None, ()), ("FRACTION", 1, ())),
        (("PLAN", None, ()), ("MULTI_PLAN", None, ())),
        (("FRACTION", 1, ()), ("BEAM", 1, (2,))),
        (("BEAM", 1, (1, 2)), ("BEAM", 1, (2,))),
        (("FRACTION_SESSION", 1, ()), ("BEAM_SESSION", 1, (2,))),
    ],
)
def test_what_would_count_twice_is_not_added(tmp_path: Path, pair: tuple) -> None:
    doses = [of_plan(dose(), kind, "1.9.80", group=group, beams=beams) for kind, group, beams in pair]
    with pytest.raises(DataError, match=f"a {pair[0][0]} and a {pair[1][0]} dose of one plan are not added up"):
        evaluated(tmp_path, doses, plan(*TWO_GROUPS))


def test_a_session_and_a_course_are_not_added(tmp_path: Path) -> None:
    doses = [of_plan(dose(), "PLAN", "1.9.80"), of_plan(dose(), "FRACTION_SESSION", "1.9.81", group=1)]
    with pytest.raises(DataError, match="one session"):
        evaluated(tmp_path, doses)


def test_one_file_twice_is_not_added(tmp_path: Path) -> None:
    save(of_plan(dose(), "BEAM", "1.9.80"), tmp_path / "d.dcm")
    with pytest.raises(DataError, match="given twice"):
        read_doses({"dose": [tmp_path / "d.dcm"] * 2}, fractions=None, course=None)


def test_groups_and_beams_that_share_nothing_are_added(tmp_path: Path) -> None:
    doses = [of_plan(dose(), "FRACTION", "1.9.80", group=1), of_plan(dose(), "BEAM", "1.9.80", group=2, beams=(3,))]
    count, notes, _ = evaluated(tmp_path, doses, plan(*TWO_GROUPS))
    assert count == 30
    assert any("the whole plan's" in text for text in notes.of("done"))


def test_a_fraction_group_that_is_not_named_is_one_of_several(tmp_path: Path) -> None:
    """Which of two it is nobody says: neither 25, nor 5, nor the whole plan's 30; of one there is no doubt."""
    count, notes, _ = evaluated(tmp_path, [of_plan(dose(), "FRACTION", "1.9.80")], plan(*TWO_GROUPS))
    assert count is None
    assert any("which part of the plan it is of is not said" in text for text in notes.of("warning"))
    (tmp_path / "one").mkdir()
    count, notes, _ = evaluated(tmp_path / "one", [of_plan(dose(), "FRACTION", "1.9.80")], plan(TWO_GROUPS[0]))
    assert count == 25
    assert not any("not said" in text for text in notes.texts())


@pytest.mark.parametrize("kind", ["", "TOTAL"])
def test_a_term_that_nobody_defined_is_said(tmp_path: Path, kind: str) -> None:
    _, notes, _ = evaluated(tmp_path, [of_plan(dose(), kind)])
    assert any("Dose Summation Type (3004,000A)" in text for text in notes.of("decide"))


def test_a_number_of_fractions_against_the_file(tmp_path: Path) -> None:
    save(of_plan(dose(), "FRACTION_SESSION", "1.9.80"), tmp_path / "d.dcm")
    with pytest.raises(DataError, match=r"is FRACTION_SESSION, which is 1 fraction, but 30 was stated"):
        read_dose_object(tmp_path / "d.dcm", fractions=30)
    save(of_plan(dose(), "FRACTION", "1.9.80"), tmp_path / "d.dcm")
    assert read_dose_object(tmp_path / "d.dcm", fractions=30).fractions == 30


# --- plans ----------------------------------------------------------------------------------------------------------


def test_treatment_beams_are_told_from_the_others() -> None:
    metersets = {1: 200.0, 2: 50.5, 3: None, 4: 3.0, 5: 1.0}
    deliveries = {1: "TREATMENT", 2: "CONTINUATION", 3: "SETUP", 4: "OPEN_PORTFILM", 5: "SETUP"}
    facts = facts_of(plan((30, metersets), deliveries=deliveries))
    assert facts.treatment_beams() == {1, 2}
    assert facts.meterset(facts.groups[0]) == 250.5
    assert str(facts).startswith(
        "2 treatment beam(s) (2 dynamic), 250.5 MU a fraction, 1 beam(s) of type OPEN_PORTFILM, 1 with a meterset that is"
        " not counted, 2 setup beam(s), 1 with a meterset that is not counted, fractions 30"
    )


def test_a_beam_that_does_not_say_treats_and_groups_keep_their_own_meterset() -> None:
    facts = facts_of(plan(*TWO_GROUPS, deliveries={}))
    assert facts.treatment_beams((1,)) == {1, 2}
    assert "220.0 and 80.0 MU a fraction" in str(facts)
    assert "fractions 25 + 5" in str(facts)
    assert (facts.fractions(), facts.fractions((2,))) == (30, 5)


def test_a_plan_of_brachytherapy() -> None:
    ds, setup, channel, source = plan((4, {}), setups=1), Dataset(), Dataset(), Dataset()
    del ds.BeamSequence
    setup.ApplicationSetupType, setup.ApplicationSetupNumber, channel.ChannelNumber = "FLETCHER_SUIT", 1, 1
    setup.ChannelSequence = Items([channel, channel, channel])
    source.SourceIsotopeName = "Ir-192"
    ds.ApplicationSetupSequence, ds.SourceSequence = Items([setup]), Items([source])
    ds.BrachyTreatmentTechnique, ds.BrachyTreatmentType = "INTRACAVITARY", "HDR"
    told = str(facts_of(ds))
    assert told.startswith(
        "brachytherapy: 1 application setup(s) (1 fletcher_suit), HDR, Ir-192, 3 channel(s), fractions 4"
    )
    assert "beam" not in told
    assert "MU" not in told


def test_the_plans_of_a_folder(tmp_path: Path) -> None:
    save(plan((25, {1: 100.0})), tmp_path / "p.dcm")
    found = plans_in(tmp_path)
    assert list(found) == ["1.9.80"]
    assert found["1.9.80"].fractions() == 25
