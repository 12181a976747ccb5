"""Options that several commands share, and the changes of a plan that they make."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any

import typer

import mrlinac

Set = Annotated[
    list[str] | None,
    typer.Option("--set", metavar="KEY=VALUE", help="Change one value of the resolved plan; may be repeated."),
]


AsJson = Annotated[bool, typer.Option("--json", help="Print JSON only.")]


Out = Annotated[Path | None, typer.Option("--out", help="Folder of the result.")]


Overwrite = Annotated[bool, typer.Option("--overwrite", help="Replace what the folder holds.")]


Threads = Annotated[
    int | None, typer.Option("--threads", min=1, help="Threads of the Monte Carlo (default: all cores).")
]


Derive = Annotated[
    bool, typer.Option("--derive", help="Derive body, couch, airway, lungs and canal from the CT where not drawn.")
]


SameFrame = Annotated[
    bool, typer.Option("--same-frame", help="Image, doses, structures lie in one space whatever the files say.")
]


Densities = Annotated[
    bool, typer.Option("--densities", help="Take over densities that the structure set says were overridden.")
]


Rtstruct = Annotated[str | None, typer.Option("--rtstruct", help="The structure set to use: key or file.")]


Series = Annotated[str | None, typer.Option("--series", help="The image series to use: its key.")]


Lying = Annotated[str | None, typer.Option("--position", help="Patient position (HFS …), where the files lack it.")]


class On(StrEnum):
    """Devices of the Monte Carlo."""

    cpu = "cpu"
    gpu = "gpu"


class StructureEnds(StrEnum):
    """Where drawn structures end along z."""

    half_slice = "half-slice"
    at_contour = "at-contour"


def plan_names(incomplete: str) -> list[str]:
    return [name for name in mrlinac.known_names()["plans"] if name.startswith(incomplete)]


def protocol_names(incomplete: str) -> list[str]:
    return [name for name in mrlinac.known_names()["protocols"] if name.startswith(incomplete)]


PlanName = Annotated[
    str,
    typer.Argument(
        metavar="PLAN", help="A plan file, or a name that `mrlinac list` shows.", autocompletion=plan_names
    ),
]


Device = Annotated[
    On, typer.Option("--device", help="What computes forward doses (an influence is made on the cpu in any case).")
]


NoFigures = Annotated[bool, typer.Option("--no-figures", help="Draw no figures: the report holds words and tables.")]


DryRun = Annotated[bool, typer.Option("--dry-run", help="Check and estimate only.")]


PatientFolder = Annotated[
    Path | None,
    typer.Option("--patient", help="Folder of DICOM files or its patient.toml; as --set patient.folder=…"),
]


def how_to_read(
    rtstruct: str | None, series: str | None, position: str | None, same_frame: bool, densities: bool, derive: bool
) -> dict[str, Any]:
    """Options on how a patient's folder is read, as values of a plan."""
    words = {"rtstruct": rtstruct, "series": series, "position": position}
    flags = {"same_frame": same_frame, "densities": densities, "derive": derive}
    return {f"patient.{key}": value for key, value in {**words, **flags}.items() if value}


def changes(set_: list[str] | None, patient: Path | None, how: dict[str, Any]) -> dict[str, Any]:
    changes = dict(mrlinac.parse_set(text) for text in set_ or [])
    if patient is not None:
        changes["patient.folder"] = str(patient)
    return {**changes, **how}
