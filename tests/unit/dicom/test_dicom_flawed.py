"""Exports with a flaw that need not keep the patient from being used, or that only a person's word can mend."""

import copy
from pathlib import Path

import numpy as np
import pytest
from nasty import Export, body, dose, hu, save, series, shift, square, structure_set
from nasty import registration as reg
from pydicom.dataset import Dataset
from pydicom.sequence import Sequence as Items

from mrlinac.anatomy.patient import Patient
from mrlinac.dicom import import_folder, read_patient
from mrlinac.dicom.problems import MOST_LISTED, Findings
from mrlinac.errors import DataError
from mrlinac.recipe import evaluation_inputs as inputs


def with_body(export: Export, **options: object) -> Export:
    """The export with an outline in every plane and a target."""
    rois = {"External": body(), "CTV": [(z, square(6)) for z in (-4, 0, 4)]}
    export.others.append(structure_set(rois, export, **options))
    return export


def volume_cc(patient: Patient, name: str) -> float:
    roi = patient.rois[name]
    return (
        len(roi.contours) * roi.slice_spacing_mm * float(np.prod(np.ptp(roi.contours[0].points_xy_mm, axis=0))) / 1000
    )


def refusal(folder: Path, **options: object) -> str:
    with pytest.raises(DataError) as caught:
        read_patient(folder, **options)
    return str(caught.value)


# --- frames of reference --------------------------------------------------------------------------------------------


def test_a_frame_for_every_slice_is_said_once_and_taken_on_a_persons_word(tmp_path: Path) -> None:
    export = with_body(series())
    for number, ds in enumerate(export.images):
        ds.FrameOfReferenceUID = f"1.7.{number}"
    export.write(tmp_path)
    text = refusal(tmp_path)
    assert text.count("\n") == 1
    assert "6 frames of reference among 6 slices: each states one of its own" in text
    assert "--same-frame, or same_frame = true in patient.toml" in text
    patient = read_patient(tmp_path, same_frame=True)
    assert volume_cc(patient, "CTV") == pytest.approx(12 * 12 * 12 / 1000)
    assert any("6 frames of reference" in text for text in patient.notes.of("decide"))


def test_the_word_stands_in_patient_toml(tmp_path: Path) -> None:
    with_body(series(), frame="1.9.99").write(tmp_path)
    (tmp_path / "patient.toml").write_text("same_frame = true\n")
    assert set(read_patient(tmp_path).rois) == {"External", "CTV"}


def test_an_image_without_a_frame_needs_a_persons_word(tmp_path: Path) -> None:
    with_body(series().set(FrameOfReferenceUID=None)).write(tmp_path)
    assert "--same-frame" in refusal(tmp_path)
    assert set(read_patient(tmp_path, same_frame=True).rois) == {"External", "CTV"}


def test_a_set_in_another_frame_says_that_it_names_the_slices(tmp_path: Path) -> None:
    with_body(series(), frame="1.9.99").write(tmp_path)
    text = refusal(tmp_path)
    assert "It names this image's series and 6 of its slices: it was drawn on it" in text
    assert "--same-frame" in text
    patient = read_patient(tmp_path, same_frame=True)
    assert volume_cc(patient, "External") == pytest.approx(36 * 36 * 24 / 1000)
    assert any("states another frame of reference than the image" in text for text in patient.notes.of("decide"))


def test_a_set_without_any_frame_and_reference_is_taken_on_a_persons_word(tmp_path: Path) -> None:
    export = with_body(series())
    (ds,) = export.others
    del ds.FrameOfReferenceUID, ds.ReferencedFrameOfReferenceSequence
    for item in ds.StructureSetROISequence:
        del item.ReferencedFrameOfReferenceUID
    export.write(tmp_path)
    assert "--same-frame" in refusal(tmp_path)
    patient = read_patient(tmp_path, same_frame=True)
    assert set(patient.rois) == {"External", "CTV"}
    assert any("states no frame of reference" in text for text in patient.notes.of("decide"))


def test_a_registration_goes_before_a_persons_word(tmp_path: Path) -> None:
    export = with_body(series(), frame="1.9.99")
    export.others.append(reg("1.9.99", "1.9.1", shift(x=5)))
    patient = read_patient(export.write(tmp_path), same_frame=True)
    assert patient.rois["CTV"].contours[0].points_xy_mm.mean(axis=0) == pytest.approx([5, 0])


def test_registrations_that_contradict_each_other_elsewhere_do_not_matter(tmp_path: Path) -> None:
    export = with_body(series())
    export.others += [reg("1.9.99", "1.9.1", shift(x=5)), reg("1.9.99", "1.9.1", shift(x=9))]
    export.others[-1].SOPInstanceUID = "1.9.61"
    assert set(read_patient(export.write(tmp_path)).rois) == {"External", "CTV"}


def test_a_set_without_frame_is_evaluated_on_a_persons_word(tmp_path: Path) -> None:
    ds = structure_set({"CTV": [(z, square(3)) for z in (-4, 0, 4)]})
    del ds.FrameOfReferenceUID, ds.ReferencedFrameOfReferenceSequence
    for item in ds.StructureSetROISequence:
        del item.ReferencedFrameOfReferenceUID
    save(ds, tmp_path / "s.dcm")
    with pytest.raises(DataError, match=r"the structures state none.*--same-frame"):
        inputs.read_subject(tmp_path / "s.dcm", "1.9.1")
    rois, _, notes = inputs.read_subject(tmp_path / "s.dcm", "1.9.1", same_frame=True)
    assert list(rois) == ["CTV"]
    assert any("that was asked for" in text for text in notes.of("decide"))


def test_doses_of_two_frames_are_compared_on_a_persons_word(tmp_path: Path) -> None:
    for number in (1, 2):
        ds = dose()
        ds.FrameOfReferenceUID = f"1.7.{number}"
        save(ds, tmp_path / f"{number}.dcm")
    files = {"a": [tmp_path / "1.dcm"], "b": [tmp_path / "2.dcm"]}
    with pytest.raises(DataError, match="--same-frame"):
        inputs.read_doses(files, fractions=None, course=None)
    doses, _, _, notes = inputs.read_doses(files, fractions=None, course=None, same_frame=True)
    assert set(doses) == {"a", "b"}
    assert any("you say so" in text for text in notes.of("decide"))


# --- pixels and slices ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("modality", ["CT", "MR"])
@pytest.mark.parametrize("shown", ["MONOCHROME1", None])
def test_how_an_image_is_shown_does_not_change_its_values(tmp_path: Path, modality: str, shown: str | None) -> None:
    export = series(modality=modality).set(PhotometricInterpretation=shown).write(tmp_path)
    patient = read_patient(export, structures=False)
    grid = patient.image.grid
    z, y, x = np.meshgrid(grid.z_mm, grid.y_mm, grid.x_mm, indexing="ij")
    assert np.max(np.abs(patient.image.values - hu(x, y, z))) <= 0.5001
    told = [text for text in patient.notes.texts() if "Photometric Interpretation (0028,0004)" in text]
    assert len(told) == 1


def two_phases(**tags: str) -> Export:
    """Two volumes of 6 slices at the same places in one series, with a tag each of its own."""
    export = series()
    export.images += series(add=10).images
    for number, ds in enumerate(export.images):
        ds.SOPInstanceUID = f"1.9.2.{number}"
        for keyword, value in tags.items():
            setattr(ds, keyword, f"{value} {number // 6}")
    return export


def test_two_volumes_in_one_series_are_refused_in_one_sentence(tmp_path: Path) -> None:
    with_body(two_phases(ImageComments="phase")).write(tmp_path)
    text = refusal(tmp_path)
    assert text.count("\n") == 1
    assert "6 of 6 places of the image series hold 2 images each: several volumes in one series" in text
    assert "into a folder of its own" in text
    assert "Image Comments (0020,4000) tell(s) them apart" in text
    assert "phase 0" not in text


def test_nothing_is_said_of_pixels_that_nobody_compared(tmp_path: Path) -> None:
    report = import_folder(with_body(two_phases()).write(tmp_path))
    assert "equal pixels" not in str(report)
    assert "6 of 6 places hold more than one image." in str(report)


def test_the_same_volume_twice_is_read_once(tmp_path: Path) -> None:
    export = series()
    export.images += series().images
    for number, ds in enumerate(export.images):
        ds.SOPInstanceUID = f"1.9.2.{number}"
    patient = read_patient(with_body(export).write(tmp_path))
    assert len(patient.image.grid.z_mm) == 6
    assert any(
        "6 slice(s) present twice under different UIDs with equal pixels" in t for t in patient.notes.of("done")
    )


def test_slices_that_cannot_be_placed_are_one_problem(tmp_path: Path) -> None:
    with_body(series().set(PixelSpacing=None)).write(tmp_path)
    text = refusal(tmp_path)
    assert "Pixel Spacing (0028,0030): missing" in text
    assert "usable slice" not in text


# --- floods ---------------------------------------------------------------------------------------------------------


def test_names_and_numbers_make_no_other_kind_of_problem() -> None:
    findings = Findings()
    for number in range(30):
        findings.problem(
            f"{number} mm from slice{number}x, elsewhere", "Mend it", file=f"f{number}", than=f"slice{number}x"
        )
        findings.problem(f"contour of 'name {number}'", "Draw it")
    listed = findings.listed()
    assert len(listed) == 2 * (MOST_LISTED + 1)
    assert listed[MOST_LISTED].startswith(f"... and {30 - MOST_LISTED} more of this kind")
    assert findings.count == 60


def test_problems_taken_over_are_counted_with_those_of_their_kind() -> None:
    one, other = Findings(), Findings()
    for findings in (one, other):
        for number in range(MOST_LISTED):
            findings.problem("missing", "Mend it", file=f"f{number}", keyword="Rows")
    one.absorb_problems(other)
    assert one.count == 2 * MOST_LISTED
    assert one.listed()[-1].startswith(f"... and {MOST_LISTED} more of this kind: Rows")


# --- what leaves the image ------------------------------------------------------------------------------------------


def test_a_structure_that_leaves_the_image_at_the_side_is_said_with_its_share(tmp_path: Path) -> None:
    export = series()  # x from -34.5 to 73.5 mm, y from -22 to 44 mm
    rois = {"External": body(), "CTV": [(z, square(10, x_mm=70)) for z in (-4, 0)], "Liver": [(0, square(4))]}
    export.others.append(structure_set(rois, export))
    warnings = read_patient(export.write(tmp_path)).notes.of("warning")
    # 6.5 of 20 mm are drawn beyond 73.5 mm.
    (told,) = (text for text in warnings if text.startswith("CTV"))
    assert "leaves it with 32.5% of its area (2 slices, z -4 … 0 mm): the field of view cuts it." in told
    assert not any("Liver" in text for text in warnings)


# --- densities ------------------------------------------------------------------------------------------------------


def with_densities(**properties: tuple[str, float]) -> Export:
    """Structures of which the set states a physical property; the last one is a bolus."""
    export = series()
    rois = {"External": body()} | {name: [(z, square(5)) for z in (-4, 0, 4)] for name in properties}
    ds = structure_set(rois, export, types={list(rois)[-1]: "BOLUS"})
    for item, (kind, value) in zip(ds.RTROIObservationsSequence[1:], properties.values(), strict=True):
        one = Dataset()
        one.ROIPhysicalProperty, one.ROIPhysicalPropertyValue = kind, value
        item.ROIPhysicalPropertiesSequence = Items([one])
    export.others.append(ds)
    return export


def test_stated_densities_are_said_and_not_used(tmp_path: Path) -> None:
    export = with_densities(Contrast=("REL_MASS_DENSITY", 1.0), Gel=("REL_ELEC_DENSITY", 1.1)).write(tmp_path)
    patient = read_patient(export)
    assert patient.decisions is None
    (told,) = (text for text in patient.notes.of("warning") if "had overridden" in text)
    assert "'Contrast' mass density relative to water 1" in told
    assert "'Gel' electron density relative to water 1.1" in told
    assert any("(Contrast, Gel): --densities" in text for text in patient.notes.of("decide"))
    assert any(text.startswith("Bolus: Gel.") for text in patient.notes.of("decide"))


def test_densities_are_taken_over_when_a_person_says_so(tmp_path: Path) -> None:
    export = with_densities(
        Contrast=("REL_MASS_DENSITY", 1.0),
        Bone=("REL_ELEC_DENSITY", 1.5),
        Clip=("REL_MASS_DENSITY", 7.9),
        Mix=("ELEM_FRACTION", 1),
    )
    patient = read_patient(export.write(tmp_path), densities=True)
    assert patient.decisions is not None
    found = patient.decisions.density_overrides
    assert set(found) == {"Contrast", "Bone"}
    assert (found["Contrast"].density_g_cm3, found["Contrast"].material) == (1.0, "water")
    # Bone has about 5 % fewer electrons a gram than water, so that its mass density is higher than its electron density.
    assert 1.55 < found["Bone"].density_g_cm3 < 1.62
    assert any(
        "2 structure(s) state no density that can be taken over" in text for text in patient.notes.of("decide")
    )


def test_observations_that_disagree_on_a_density_are_said_and_none_is_taken(tmp_path: Path) -> None:
    export = with_densities(Contrast=("REL_MASS_DENSITY", 1.0), Gel=("REL_MASS_DENSITY", 1.1))
    ds = export.others[-1]
    other, same = (copy.deepcopy(item) for item in ds.RTROIObservationsSequence[1:3])
    other.ROIPhysicalPropertiesSequence[0].ROIPhysicalPropertyValue = 1.5
    ds.RTROIObservationsSequence = Items([*ds.RTROIObservationsSequence, other, same])
    patient = read_patient(export.write(tmp_path), densities=True)
    assert patient.decisions is not None
    assert set(patient.decisions.density_overrides) == {"Gel"}
    (told,) = (text for text in patient.notes.of("warning") if "different values" in text)
    assert "'Contrast'" in told
    assert "1 and 1.5" in told


def test_what_patient_toml_says_goes_before_a_stated_density(tmp_path: Path) -> None:
    folder = with_densities(Contrast=("REL_MASS_DENSITY", 1.0)).write(tmp_path)
    (folder / "patient.toml").write_text('[density_overrides.Contrast]\ndensity_g_cm3 = 1.2\nmaterial = "water"\n')
    decisions = read_patient(folder, densities=True).decisions
    assert decisions is not None
    assert decisions.density_overrides["Contrast"].density_g_cm3 == 1.2
