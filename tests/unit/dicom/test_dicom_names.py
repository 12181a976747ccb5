"""The alias table: consistent, and it knows the spellings of clinics."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mrlinac.dicom.names import folded, name_table, naming


def test_table_is_consistent() -> None:
    table = name_table()
    names = [structure.name for structure in table.structure]
    assert len(names) == len(set(names))
    assert "TG-263" in table.source
    for structure in table.structure:
        assert naming(structure.name).name == structure.name
        assert naming(structure.name).matched == "exact"
        assert len(structure.name) <= 16  # TG-263's limit, so that every planning system takes it
        for alias in structure.aliases:
            assert naming(alias).name == structure.name
        assert all(0 <= channel <= 255 for channel in structure.color)


@pytest.mark.parametrize(
    ("clinic", "name", "role"),
    [
        ("BODY", "External", "external"),
        ("Außenkontur", "External", "external"),
        ("lunge li", "Lung_L", "oar"),
        ("Poumon Droit", "Lung_R", "oar"),
        ("LUNG_R", "Lung_R", "oar"),
        ("lungs - gtv", "Lungs-GTV", "oar"),
        ("Œsophage", "Esophagus", "oar"),
        ("OESOPHAGUS", "Esophagus", "oar"),
        ("Moelle épinière", "SpinalCord", "oar"),
        ("midollo_spinale", "SpinalCord", "oar"),
        ("Przełyk", "Esophagus", "oar"),
        ("左肺", "Lung_L", "oar"),
        ("Сердце", "Heart", "oar"),
        ("Tumor_c40", "GTVp", "target"),
        ("LN_c40", "GTVn", "target"),
        ("Carina_c40", "Carina", "oar"),
        ("Heart_average", "Heart", "oar"),
        ("iGTV", "IGTV", "target"),
        ("Couch Outer", "CouchSurface", "support"),
        ("rods", "Metal", "metal"),
    ],
)
def test_clinic_spellings(clinic: str, name: str, role: str) -> None:
    found = naming(clinic)
    assert (found.name, found.role) == (name, role)


@pytest.mark.parametrize(
    "clinic", ["PTV_66", "PTV66", "PTV 60 Gy", "PTVn1", "CTV_6000", "PTV_High", "GTV_xy", "zPTV"]
)
def test_target_families_keep_their_spelling(clinic: str) -> None:
    found = naming(clinic, "ORGAN")
    assert (found.name, found.role, found.matched) == (clinic, "target", "pattern")


@pytest.mark.parametrize(
    "clinic", ["PTV ring", "PTV-GTV", "CTV+5mm", "NotPTV", "Heart PRV", "Lung_L-PTV", "Lung_c4d"]
)
def test_helpers_are_not_mistaken(clinic: str) -> None:
    assert naming(clinic, "AVOIDANCE").name == clinic
    assert naming(clinic, "AVOIDANCE").role == "oar"
    assert naming(clinic).role == "other"


@pytest.mark.parametrize(
    ("interpreted", "role"),
    [
        ("PTV", "target"),
        ("ORGAN", "oar"),
        ("SUPPORT", "support"),
        ("BOLUS", "other"),
        ("", "other"),
    ],
)
def test_unknown_names_take_the_role_of_their_type(interpreted: str, role: str) -> None:
    found = naming("Xyzzy", interpreted)
    assert (found.name, found.role) == ("Xyzzy", role)


def test_what_is_typed_external_is_the_external() -> None:
    found = naming("Contour 1", "EXTERNAL")
    assert (found.name, found.role, found.matched) == ("External", "external", "type")
    assert naming("Contour 1", "EXTERNAL", {"contour 1": "Shell"}).name == "Shell"


def test_overrides_go_first() -> None:
    assert naming("Heart", overrides={"HEART": "Liver"}).name == "Liver"
    assert naming("My thing", overrides={"my_thing": "MyThing"}).name == "MyThing"


@settings(max_examples=50, deadline=None)
@given(st.text(max_size=30))
def test_any_text_has_a_name(text: str) -> None:
    found = naming(text)
    assert found.name == text or found.matched != "none"
    assert folded(folded(text)) == folded(text)
