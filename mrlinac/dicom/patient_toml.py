"""Writing ``patient.toml``: once, with comments for the person who edits it; later only what was asked for changes."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import tomlkit
from tomlkit.items import InlineTable

from mrlinac.anatomy.contours import polygon_volume_cc
from mrlinac.anatomy.materials import nominal_density_g_cm3
from mrlinac.anatomy.overrides import Override
from mrlinac.anatomy.patient import Patient
from mrlinac.anatomy.patient_file import PatientFile
from mrlinac.errors import DataError, writing
from mrlinac.spec import read_toml, validate

HEADER = """\
What was decided about this patient's files. Written by `mrlinac import`, meant to be edited: comments are kept.
Every command takes this file, or the folder it lies in, as --patient. It names no patient; keys stand for UIDs.
"""

VALUES = """\
target_base = "CTV"      # what PTVs are made from: "ITV" or "CTV" (default: the protocol's order)
ends = "at-contour"      # drawn structures end at their end contours, as in Eclipse (default: half a slice beyond)
same_frame = true        # image and structures lie in one space, whatever frames of reference they state
couch_top_y_mm = 120.0   # y of the couch's top (default: the edge of External that the patient lies on); on the side: x
"""

DERIVE = 'derive = ["External"]   # made from the CT where not drawn: External, CouchSurface, Airway, Lung_L, ...'

STRUCTURES = """\
The clinic's names, and what they are here. name: TG-263 where there is one; role: external, target, oar, support,
metal or other; use = false leaves a structure out.
"""

REST = """\
Further tables, to be filled in by a person:

[metal]                         # what saturated CT numbers stand for
density_g_cm3 = 4.43
material = "titanium-alloy"

[density_overrides.Stomach_gas] # a structure whose CT numbers do not hold
density_g_cm3 = 1.0
material = "water"
"""

BANDS = """\
An MR has no densities. Give each part of the body one, by structure (they have a voxel in this order), and External's for
all the rest; without these tables nothing can be planned. The figures are the materials' nominal
ones, bone counts as water, and they are for you to decide:
"""

LUNG_LIKE = ("Lung_L", "Lung_R", "Lungs")
AIR_LIKE = ("Trachea", "Airway", "Bronchus_Main")


def _bands(patient: Patient) -> str:
    """Density bands to be filled in, for the structures that this patient has."""
    kinds = ((AIR_LIKE, "air-dry"), (LUNG_LIKE, "lung-icru"))
    of_kind = [(name, material) for names, material in kinds for name in names if name in patient.rois]
    bodies = [name for name, roi in patient.rois.items() if roi.role == "external"] or ["External"]
    tables = [*of_kind, (bodies[0], "water")]
    lines = [
        f'[density_bands.{name}]\ndensity_g_cm3 = {nominal_density_g_cm3(material):.3g}\nmaterial = "{material}"\n'
        for name, material in tables
    ]
    return BANDS + "\n" + "\n".join(lines)


def write_patient_file(
    patient: Patient,
    path: Path,
    folder: Path,
    *,
    series_key: str,
    rtstruct: str | None,
    derived: Sequence[str] = (),
    same_frame: bool = False,
    densities: Mapping[str, Override] | None = None,
) -> None:
    """Write ``patient.toml`` for a patient just read. Refuses to replace a file.

    Parameters
    ----------
    patient : Patient
    path : Path
        Of the file; made whole under a temporary name first.
    folder : Path
        Of the DICOM files.
    series_key : str
        Key of the image series used.
    rtstruct : str or None
        Key of the structure set used, or where it lies.
    derived : sequence of str
        Structures that were derived from the CT: a decision to derive them again, not names of the clinic's.
    same_frame : bool
        A person's word that image and structures lie in one space.
    densities : mapping from name to Override, optional
        Taken over from the structure set.
    """
    if path.exists():
        raise DataError(f"{path}: exists. It is a person's file: edit it, or remove it first.")
    document = tomlkit.document()
    for line in HEADER.splitlines():
        document.add(tomlkit.comment(line))
    document.add(tomlkit.nl())
    same = path.parent.resolve() == folder.resolve()
    document["folder"] = "." if same else os.path.relpath(folder.resolve(), path.parent.resolve())
    _add(document, "series", series_key, "the image series used")
    if rtstruct is not None:
        _add(document, "rtstruct", rtstruct, "the structure set used")
    document["position"] = patient.position
    if same_frame:
        document["same_frame"] = True
    if derived:
        document["derive"] = list(derived)
    else:
        document.add(tomlkit.comment(DERIVE))
    for line in VALUES.splitlines():
        document.add(tomlkit.comment(line))
    document.add(tomlkit.nl())
    table = tomlkit.table()
    for line in STRUCTURES.splitlines():
        table.add(tomlkit.comment(line))
    for roi in (roi for name, roi in patient.rois.items() if name not in derived):
        choice: InlineTable = tomlkit.inline_table()
        choice.update({"name": roi.name, "role": roi.role})
        choice.comment(f"{polygon_volume_cc(roi):.4g} cc")
        if roi.original_name not in table:
            table[roi.original_name or roi.name] = choice
    document["structures"] = table
    if densities:
        document["density_overrides"] = {name: override.model_dump() for name, override in densities.items()}
    document.add(tomlkit.nl())
    for line in (REST if patient.image.quantity == "HU" else _bands(patient)).splitlines():
        document.add(tomlkit.comment(line) if line else tomlkit.comment(""))
    _save(tomlkit.dumps(document), path)


def change_patient_file(path: Path, changes: dict[str, Any]) -> None:
    """Change single values of the file; comments, order and all else stay as they are.

    Parameters
    ----------
    path : Path
        Of ``patient.toml``.
    changes : dict
        Values by key; a table is replaced as a whole.

    Raises
    ------
    SpecError
        When the changed file would say something wrong; it is then left as it was.
    """
    with path.open(encoding="utf-8") as file:
        document = tomlkit.parse(file.read())
    before = document.unwrap()
    for key, value in changes.items():
        if isinstance(value, dict) and key in document:
            value = {**value, **document.unwrap()[key]}  # what stands there is a person's
        document[key] = value
    if document.unwrap() == before:
        return
    validate(PatientFile, document.unwrap(), str(path))
    _save(tomlkit.dumps(document), path)


def _add(document: tomlkit.TOMLDocument, key: str, value: str, remark: str) -> None:
    item = tomlkit.item(value)
    item.comment(remark)
    document[key] = item


def _save(content: str, path: Path) -> None:
    handle, temporary = tempfile.mkstemp(prefix=".mrlinac-", suffix=".part", dir=path.parent)
    try:
        with writing(path), os.fdopen(handle, "w", encoding="utf-8", newline="\n") as file:
            file.write(content)
        Path(temporary).chmod(0o644)  # a temporary file is its maker's alone
        validate(PatientFile, read_toml(Path(temporary)), str(path))
        os.replace(temporary, path)
    except BaseException:
        Path(temporary).unlink(missing_ok=True)
        raise
