"""Models as data: what a table may say, and how they are evaluated on a patient."""

import numpy as np
import pytest

from mrlinac import protocol as protocols
from mrlinac.anatomy.grid import Grid
from mrlinac.anatomy.structures import Structure, StructureSet
from mrlinac.dose.dose import Dose
from mrlinac.errors import DataError, SpecError
from mrlinac.protocol import biology
from mrlinac.provenance import Provenance

RX = {"dose_Gy": 60, "fractions": 30, "target": "T", "rule": "median", "source": "test"}
QUANTEC = {
    "kind": "ntcp_logistic",
    "structure": "O",
    "endpoint": "pneumonitis",
    "intercept": -3.87,
    "slope_per_Gy": 0.126,
    "fraction_Gy": 2.0,
    "source": "a citation",
}


def protocol(models, **prescription):
    objective = {"kind": "mean_dose", "structure": "T", "weight": 1, "source": "test"}
    values = {"name": "p", "title": "p", "citation": "test", "objectives": [objective], "models": models}
    return protocols.from_values(values | {"prescription": RX | prescription})


@pytest.fixture
def structures():
    grid = Grid((1, 1, 4), (10.0, 10.0, 10.0), (0.0, 0.0, 0.0))
    organ, empty = np.zeros((1, 1, 4), np.float32), np.zeros((1, 1, 4), np.float32)
    organ[..., 1:3] = (1, 0.5)
    return StructureSet(
        grid,
        {
            "O": Structure("O", "oar", organ),
            "E": Structure("E", "oar", empty),
            "F": Structure("F", "oar", organ, None, "cut by the field of view"),
        },
    )


def course(structures, fractions=30):
    gray = np.array([60, 26, 8, 0.0], np.float32).reshape(1, 1, 4)
    return Dose(structures.grid, gray, None, fractions, Provenance("x", "test"))


def test_unknown_kind_names_the_known_ones():
    with pytest.raises(SpecError) as refused:
        protocol({"m": QUANTEC | {"kind": "ntcp_magic"}})
    known = str(refused.value).partition("known: ")[2].rstrip(")").split(", ")
    assert known == [kind.model_fields["kind"].default for kind in biology.MODEL_KINDS]
    assert "models.m" in str(refused.value)
    assert "ntcp_magic" in str(refused.value)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"alpha_beta_Gy": 3}, "exactly one of alpha_beta_Gy"),
        ({"fraction_Gy": None}, "exactly one of alpha_beta_Gy"),
        ({"slope_per_Gy": None}, "slope_per_Gy"),
        ({"slope_per_Gy": -0.1}, "greater than 0"),
        ({"source": None}, "source"),
        ({"td50": 30}, "td50"),
    ],
)
def test_bad_tables_are_refused(change, words):
    with pytest.raises(SpecError, match=words):
        protocol({"m": QUANTEC | change})


def test_no_model_has_a_number_of_its_own():
    """Clinical numbers are data: whatever is not optional must be given, and nothing optional is a number."""
    for kind in biology.MODEL_KINDS:
        for name, field in kind.model_fields.items():
            if name not in ("kind", "optional"):
                assert field.is_required() or field.default is None, f"{kind.__name__}.{name}"


LUNG = ("conventional-60in30", "conventional-66in33", "isotoxic-ideal-30", "isotoxic-added-bid")


@pytest.mark.parametrize("name", LUNG)
def test_every_lung_protocol_evaluates_each_endpoint(name):
    loaded = protocols.load(name)
    endpoints = " ".join(model.endpoint for model in loaded.models.values())
    for word in ("pneumonitis", "oesophagitis", "pericarditis", "myelitis", "local progression-free", "clonogen"):
        assert word in endpoints
    assert {"HI", "CI_Paddick", "CI_RTOG", "GI", "R50"} <= {goal.metric for goal in loaded.goals}
    grown = [model.repopulation for model in loaded.models.values() if getattr(model, "repopulation", None)]
    assert {one.fractions_per_day for one in grown} == {2 if name.endswith("bid") else 1}


@pytest.mark.parametrize("name", LUNG)
def test_every_shipped_model_has_a_citation_and_says_where_it_comes_from(name):
    models = protocols.load(name).models
    assert {"NTCP", "TCP", "mean EQD2", "mean BED"} == {model.quantity for model in models.values()}
    for organ in ("Lungs-GTV", "Esophagus", "Heart", "Cord"):
        assert any(m.structure == organ and m.quantity == "NTCP" for m in models.values())
    for name, model in models.items():
        assert any(label in model.source for label in ("[found", "[recalled", "[chosen")), name


def test_models_are_evaluated_on_occupancy(structures, by_voxel):
    (found,) = protocols.estimate(protocol({"m": QUANTEC}), by_voxel(course(structures), structures), structures)
    assert found.outcome == "report"
    assert found.value == pytest.approx(100 / (1 + np.exp(3.87 - 0.126 * 20)))  # (26 + 0.5 · 8) / 1.5
    assert found.doses == "as given, at 2 Gy a fraction"
    assert found.parameters == "intercept -3.87, slope 0.126/Gy"
    assert found.source == "a citation"


def test_what_cannot_be_evaluated_is_said(structures, by_voxel):
    tables = {
        "drawn": QUANTEC,
        "not drawn": QUANTEC | {"structure": "X", "optional": True},
        "empty": QUANTEC | {"structure": "E"},
        "flawed": QUANTEC | {"structure": "F"},
    }
    found = protocols.estimate(protocol(tables), by_voxel(course(structures), structures), structures)
    assert [one.outcome for one in found] == ["report", "absent", "absent", "void"]
    assert [one.value is None for one in found] == [False, True, True, True]
    assert "X is not drawn" in found[1].reason
    assert "empty" in found[2].reason
    assert "field of view" in found[3].reason


def test_a_missing_structure_is_an_error_unless_optional(structures, by_voxel):
    wanted = protocol({"m": QUANTEC | {"structure": "X"}})
    assert any("'X'" in problem for problem in wanted.problems(structures))
    with pytest.raises(DataError, match="model m"):
        protocols.estimate(wanted, by_voxel(course(structures), structures), structures)


def test_doses_as_given_hold_at_their_fraction_size(structures, by_voxel):
    """At 55 Gy in 20 the number would mean nothing; with α/β the same model is converted."""
    eqd2 = QUANTEC | {"fraction_Gy": None, "alpha_beta_Gy": 3}
    tables = {"as given": QUANTEC, "EQD2": eqd2}
    hypo = protocol(tables, dose_Gy=55, fractions=20)
    given, converted = protocols.estimate(hypo, by_voxel(course(structures, 20), structures), structures)
    assert given.outcome == "void"
    assert given.value is None
    assert "2 Gy a fraction, not at 2.75 Gy" in given.reason
    mean_Gy = (26 * (1.3 + 3) / 5 + 0.5 * 8 * (0.4 + 3) / 5) / 1.5
    assert converted.value == pytest.approx(100 / (1 + np.exp(3.87 - 0.126 * mean_Gy)))
    assert converted.doses == "EQD2 of each voxel, α/β 3 Gy"


def test_a_dose_of_another_course_is_refused(structures, by_voxel):
    with pytest.raises(ValueError, match="fraction"):
        protocols.estimate(protocol({"m": QUANTEC}), by_voxel(course(structures, 1), structures), structures)


def test_nested_numbers_are_said():
    said = protocols.estimates.parameters(protocols.load("conventional-66in33").models["control-marsden"])
    assert "alpha sigma 0.037/Gy" in said
    assert "clonogens 1e+07/cc" in said
    assert "doubling 3.7 d" in said
