"""What ``import mrlinac`` offers: the few functions a script needs, and nothing of their insides."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import wraps
from pathlib import Path
from typing import Any, Literal, ParamSpec

from mrlinac import dicom, jit, notebook, report, spec, transport
from mrlinac.anatomy.grid import Triple
from mrlinac.anatomy.patient import Patient
from mrlinac.anatomy.patient_file import FILE_NAME, decisions
from mrlinac.anatomy.structures import Ends
from mrlinac.constants import RESEARCH_ONLY
from mrlinac.dose.gamma import parse_criteria
from mrlinac.dose.grammar import parse_requests
from mrlinac.errors import SpecError
from mrlinac.notes import Note, Notes
from mrlinac.phantoms import structure_names, thorax
from mrlinac.phantoms import water as phantoms_water
from mrlinac.protocol.model import load as load_protocol
from mrlinac.recipe import evaluate as evaluation
from mrlinac.recipe import evaluation_inputs as inputs
from mrlinac.recipe import made_from, plan, second_check
from mrlinac.recipe import recalculate as recalculation
from mrlinac.recipe.check import Check, check
from mrlinac.recipe.check import check_early as _check_early
from mrlinac.recipe.check import planning_lacks as _planning_lacks
from mrlinac.recipe.derived import with_derived
from mrlinac.recipe.evaluate import Evaluation
from mrlinac.recipe.result import PlanResult
from mrlinac.recipe.result_folder import check_output as _check_output
from mrlinac.recipe.result_folder import check_output_early as _check_output_early
from mrlinac.recipe.result_folder import load_result
from mrlinac.recipe.second_check import SecondCheck
from mrlinac.recipe.spec import PLACE_NOT_KEPT, PlanSpec, presets
from mrlinac.recipe.stages import Progress, Stages, silent
from mrlinac.store import Store

__all__ = [
    "Comparison",
    "anonymise",
    "cache_clear",
    "cache_info",
    "cache_list",
    "check",
    "check_device",
    "check_early",
    "check_evaluation_output",
    "check_output",
    "check_output_early",
    "check_recalculation",
    "compare",
    "evaluate",
    "evaluation_as_dict",
    "import_folder",
    "known_names",
    "known_presets",
    "load_patient",
    "load_result",
    "make_plan",
    "patient_of",
    "phantom",
    "planning_lacks",
    "read_plan",
    "recalculate",
    "recalculate_plan",
    "water_tank",
    "write_evaluation",
    "write_phantom",
    "write_report",
    "write_second_check",
]

Given = ParamSpec("Given")


def load_patient(
    folder: str | Path,
    *,
    rtstruct: str | None = None,
    series: str | None = None,
    position: str | None = None,
    same_frame: bool = False,
    densities: bool = False,
    derive: bool | Sequence[str] = False,
) -> Patient:
    """Read a patient from a folder of DICOM files or its ``patient.toml``; ``patient.notes`` says what was found.

    Parameters
    ----------
    folder : path
    rtstruct : str, optional
        Which structure set, by file or key.
    series : str, optional
        Which image series, by key.
    position : str, optional
        How the patient lies (``"HFS"`` …), where the files lack it.
    same_frame : bool
        A person says that image and structures lie in one space, whatever frames of reference they state.
    densities : bool
        Take over the densities that the structure set says the planning system had given structures.
    derive : bool or sequence of str
        Derive from the CT what was not drawn: all of :data:`mrlinac.anatomy.autosegment.DERIVABLE`, or these. A drawn
        structure is never replaced, and every report says which were derived.

    Returns
    -------
    Patient

    Raises
    ------
    DataError
        With every problem of the folder: file, tag, reason, remedy.
    """
    stages = Stages()
    with stages.stage("load patient"):
        patient = dicom.read_patient(
            Path(folder),
            rtstruct=rtstruct,
            series=series,
            position=position,
            structures=not derive,
            same_frame=same_frame,
            densities=densities,
            deriver=with_derived,
        )
        patient = with_derived(patient, derive if isinstance(derive, bool) else tuple(derive))
    return replace(patient, loading=stages.cost("load patient"))


def import_folder(
    folder: str | Path,
    *,
    rtstruct: str | None = None,
    series: str | None = None,
    position: str | None = None,
    same_frame: bool = False,
    densities: bool = False,
    derive: bool | Sequence[str] = False,
    write: bool = False,
    file: str | Path | None = None,
) -> dicom.ImportReport:
    """Look at a folder of DICOM files; the report says what it holds, and has the patient where one can be made.

    Parameters
    ----------
    folder : path
        Of DICOM files, or a ``patient.toml``.
    rtstruct : str, optional
        Key or path of the structure set, where there are several.
    series : str, optional
        Key of the image series, where there are several.
    position : str, optional
        Patient position, where the files lack it.
    same_frame, densities : bool
        As in :func:`load_patient`; they too go into ``patient.toml``, densities as tables that can be edited.
    derive : bool or sequence of str
        As in :func:`load_patient`; to use them is a decision, and goes into ``patient.toml``.
    write : bool
        Write ``patient.toml`` where there is none; where there is one, change in it what is given here, and nothing
        else. Nothing is written where there are problems.
    file : path, optional
        Where to write it; by default into the folder.

    Returns
    -------
    ImportReport

    Raises
    ------
    DataError, SpecError
        No such folder, no DICOM file in it, or a wrong ``patient.toml``. Other problems are in the report.
    """
    place, _, old = decisions(Path(folder))
    path = Path(file) if file is not None else old or place / FILE_NAME
    read_from = path if file is not None and path.is_file() else Path(folder)
    report_of_import = dicom.import_folder(
        read_from,
        rtstruct=rtstruct,
        series=series,
        position=position,
        same_frame=same_frame,
        densities=densities,
        derive=derive,
        deriver=with_derived,
    )
    patient = report_of_import.patient
    if patient is None or not write:
        return report_of_import
    inside = rtstruct is None or not Path(rtstruct).is_file()
    chosen = (
        report_of_import.used["rtstruct"]
        if inside
        else os.path.relpath(Path(str(rtstruct)).resolve(), place.resolve())
    )
    if path.is_file():
        decisions_made: dict[str, Any] = {
            "series": series and report_of_import.used["series"],
            "rtstruct": rtstruct and chosen,
            "position": position,
            "same_frame": same_frame or None,
            "density_overrides": {
                name: override.model_dump() for name, override in report_of_import.densities.items()
            }
            or None,
        }
        decisions_made["derive"] = list(report_of_import.derived) if derive and report_of_import.derived else None
        dicom.change_patient_file(path, {key: value for key, value in decisions_made.items() if value is not None})
    else:
        try:
            dicom.write_patient_file(
                patient,
                path,
                place,
                series_key=str(report_of_import.used["series"]),
                rtstruct=chosen,
                derived=report_of_import.derived,
                same_frame=same_frame,
                densities=report_of_import.densities,
            )
        except OSError as error:
            if file is not None:
                raise
            unwritten = f"No {FILE_NAME} was written into the folder ({error.strerror}); say where: --file PATH."
            return replace(
                report_of_import, notes=Notes((*report_of_import.notes.entries, Note("decide", unwritten)))
            )
    return replace(report_of_import, file=path)


def phantom(seed: int = 1, *, spacing_zyx_mm: Triple = (3.0, 1.5, 1.5)) -> Patient:
    """The built-in digital thorax patient.

    Parameters
    ----------
    seed : int
        Decides size, build, tumour, texture and noise.
    spacing_zyx_mm : tuple of float
        Voxel size of its CT. The anatomy does not depend on it; the noise does.

    Returns
    -------
    Patient
    """
    stages = Stages()
    with stages.stage("load patient"):
        patient = thorax(seed, spacing_zyx_mm=spacing_zyx_mm)
    return replace(patient, loading=stages.cost("load patient"))


def write_phantom(folder: str | Path, *, seed: int = 1) -> Patient:
    """Write the digital thorax as a CT series and a structure set.

    Parameters
    ----------
    folder : path
    seed : int
        As in :func:`phantom`.

    Returns
    -------
    Patient
        The patient that the files hold.

    Raises
    ------
    DataError, DiskError
        The folder is not empty, or cannot be written.
    """
    return dicom.write_patient(thorax(seed), Path(folder))


def patient_of(plan: PlanSpec) -> Patient:
    """The patient a plan names: its folder, or the digital thorax.

    Parameters
    ----------
    plan : PlanSpec

    Returns
    -------
    Patient

    Raises
    ------
    SpecError
        The plan was saved without the place of its patient.
    DataError
        The folder cannot be read; every problem at once.
    """
    if PLACE_NOT_KEPT in (plan.patient.folder, plan.patient.rtstruct):
        raise SpecError(
            "the plan was saved without saying where its patient lies, which may say who it is: give it again, "
            "--patient FOLDER (and --set patient.rtstruct=KEY or FILE, where one was chosen by its file)"
        )
    if plan.patient.folder is not None:
        wanted = plan.patient
        return load_patient(
            plan.patient.folder,
            rtstruct=wanted.rtstruct,
            series=wanted.series,
            position=wanted.position,
            same_frame=wanted.same_frame,
            densities=wanted.densities,
            derive=wanted.derive,
        )
    return phantom(plan.patient.phantom_seed)


def _with_report(recipe: Callable[Given, PlanResult]) -> Callable[Given, PlanResult]:
    """The same recipe, whose result writes its report where it is saved: recipes know nothing of reports."""

    @wraps(recipe)
    def with_writer(*args: Given.args, **kwargs: Given.kwargs) -> PlanResult:
        return replace(recipe(*args, **kwargs), writers=(report.write_result,))

    return with_writer


make_plan = _with_report(plan.make_plan)


def recalculate(
    result: PlanResult,
    *,
    field_T: float | None = None,
    seed: int | None = None,
    progress: Progress = silent,
    threads: int | None = None,
    device: Literal["cpu", "gpu"] = "cpu",
) -> PlanResult:
    """The forward Monte Carlo dose of the same MU in another field, along the machine's direction, or with another seed.

    Parameters
    ----------
    result : PlanResult
    field_T : float, optional
        The result's own by default: the dose once more, of other random numbers.
    seed : int, optional
        The plan's by default. No seed repeats the random numbers of the plan's own doses.
    progress, threads, device
        As in :func:`make_plan`.

    Returns
    -------
    PlanResult
        Saved, it writes a comparison with ``result`` beside its own report.

    Raises
    ------
    PhysicsError, DeviceError, MissingExtraError
        What stands in the way.
    """
    recalculated = recalculation.recalculate(
        result, field_T=field_T, seed=seed, progress=progress, threads=threads, device=device
    )

    def write_both(after: PlanResult, folder: Path, *, figures: bool = True) -> None:
        size_T = result.field_T if field_T is None else field_T
        labels = (f"{result.field_T:g} T, planned", f"{size_T:g} T, recalculated")
        compare(dict(zip(labels, (result, after), strict=True))).save(folder / "comparison", figures=figures)

    return replace(recalculated, writers=(report.write_result, write_both))


def check_device(device: str) -> None:
    """Find out early whether ``"cpu"`` or ``"gpu"`` can compute: for a GPU the extra ``gpu`` and a CUDA device.

    Parameters
    ----------
    device : {"cpu", "gpu"}

    Raises
    ------
    PhysicsError, MissingExtraError, DeviceError
        What stands in the way.
    """
    if device != "cpu":
        transport.check_device(device)


def check_recalculation(
    result: PlanResult,
    field_T: float | None,
    folder: str | Path,
    *,
    seed: int | None = None,
    overwrite: bool = False,
) -> None:
    """Refuse a folder that holds something else than this result in this field and with this seed.

    Parameters
    ----------
    result : PlanResult
    field_T : float or None
        As in :func:`recalculate`.
    folder : path
    seed : int, optional
        As in :func:`recalculate`.
    overwrite : bool
        Replace what the folder holds.

    Raises
    ------
    DataError
        What the folder holds, and the remedy.
    """
    wanted = recalculation.recalculation_fingerprint(result, field_T, seed)
    _check_output(Path(folder), wanted, overwrite=overwrite)


def check_early(plan: PlanSpec) -> Check:
    """What stands in the way of a plan as far as it is known before its patient is read or made.

    Parameters
    ----------
    plan : PlanSpec

    Returns
    -------
    Check
        Without a case.
    """
    digital = plan.patient.folder is None
    return _check_early(plan, structure_names() if digital else None)


def check_output_early(plan: PlanSpec, folder: str | Path, *, overwrite: bool = False) -> None:
    """What :func:`check_output` would refuse, as far as it is known before the patient; room on the disk.

    Parameters
    ----------
    plan : PlanSpec
    folder : path
    overwrite : bool
        Replace what the folder holds.

    Raises
    ------
    DataError, DiskError
        What the folder holds, or how much room is missing.
    """
    _check_output_early(Path(folder), plan, overwrite=overwrite)


def check_output(plan: PlanSpec, patient: Patient, folder: str | Path, *, overwrite: bool = False) -> None:
    """Refuse a folder that holds something else than a result of this plan and patient.

    Parameters
    ----------
    plan : PlanSpec
    patient : Patient
    folder : path
    overwrite : bool
        Replace what the folder holds.

    Raises
    ------
    DataError
        What the folder holds, and the remedy.
    """
    _check_output(Path(folder), made_from.fingerprint_of(plan, patient), overwrite=overwrite)


@dataclass(frozen=True)
class Comparison:
    """Results side by side: every table has a column a result.

    Attributes
    ----------
    results : mapping of label to PlanResult
    """

    results: Mapping[str, PlanResult]

    @property
    def goals(self) -> Any:
        """Goals of all results, a column each (DataFrame)."""
        return report.goals_side_by_side(self.results)

    @property
    def models(self) -> Any:
        """Models of all results, a column each (DataFrame); population estimates, see ``docs/report.md``."""
        return report.models_side_by_side(self.results)

    @property
    def skin(self) -> Any:
        """Skin metrics of all results, a column each (DataFrame)."""
        return report.skin_side_by_side(self.results)

    @property
    def constraints(self) -> Any:
        """Hard limits of all results, a column each (DataFrame)."""
        return report.constraints_side_by_side(self.results)

    def __repr__(self) -> str:
        return f"Comparison({', '.join(self.results)})"

    def _repr_html_(self) -> str:
        """What each plan is worth, and the goals side by side."""
        worth = [(label, result.standing.headline) for label, result in self.results.items()]
        rows = [
            (
                *(str(row[key]) for key in ("structure", "metric")),
                *(
                    f"{notebook.figure(row[label], row[f'{label} sigma'], str(row['unit']))}  {row[f'{label} verdict']}"
                    for label in self.results
                ),
            )
            for row in self.goals.to_dict("records")
        ]
        tables = notebook.table(("plan", ""), worth) + notebook.table(("structure", "metric", *self.results), rows)
        return tables + notebook.line(RESEARCH_ONLY)

    def save(self, folder: str | Path, *, figures: bool = True) -> Path:
        """Write the page that sets the results side by side, figures, and the tables as CSV.

        Parameters
        ----------
        folder : path
        figures : bool
            Whether to draw; without, the page holds the tables only.

        Returns
        -------
        Path
            Of the page.
        """
        return report.write_comparison_of(self.results, Path(folder), figures=figures)


def compare(results: Mapping[str, PlanResult]) -> Comparison:
    """Set results side by side.

    Parameters
    ----------
    results : mapping of label to PlanResult
        The first is the reference of differences.

    Returns
    -------
    Comparison
    """
    return Comparison(dict(results))


def write_report(results: Mapping[str, PlanResult], folder: str | Path, *, figures: bool = True) -> Path:
    """Write the report of one result, or the comparison of several.

    Parameters
    ----------
    results : mapping of label to PlanResult
    folder : path
    figures : bool
        Whether to draw.

    Returns
    -------
    Path
        Of the page.

    Raises
    ------
    DataError
        The folder holds something else.
    """
    if len(results) == 1:
        place, result = Path(folder), next(iter(results.values()))
        _check_output(place, result.fingerprint)
        place.mkdir(parents=True, exist_ok=True)
        report.write_result(result, place, figures=figures)
        return place / "report.html"
    return compare(results).save(folder, figures=figures)


def anonymise(folder: str | Path, out: str | Path, *, seed: int | None = None) -> dicom.AnonymiseReport:
    """Write a copy of a folder without the patient's identity, by the DICOM basic profile; its geometry is kept.

    Parameters
    ----------
    folder : path
        Of DICOM files.
    out : path
        Of the copy.
    seed : int, optional
        Repeats UIDs and dates of an earlier copy; keep it secret.

    Returns
    -------
    AnonymiseReport

    Raises
    ------
    DataError
        Files that cannot be read, or burnt-in identity.
    """
    return dicom.anonymise(folder, out, seed=seed)


def read_plan(path: str | Path, *, group: int | None = None) -> dicom.PlanObject:
    """Read the photon beams of any system's RTPLAN, for :func:`recalculate_plan`.

    Parameters
    ----------
    path : path
    group : int, optional
        Fraction Group Number; needed where the plan has several.

    Returns
    -------
    PlanObject

    Raises
    ------
    DataError
        With every problem of the file: tag, reason, remedy.
    """
    return dicom.read_plan(path, group=group)


def water_tank(depth_mm: float, *, size_mm: float = 400.0) -> Patient:
    """A cube of water, with the origin at a depth below the surface that faces gantry 0.

    Parameters
    ----------
    depth_mm : float
    size_mm : float
        Edge of the cube.

    Returns
    -------
    Patient
    """
    return phantoms_water.water_tank(depth_mm, size_mm=size_mm)


def recalculate_plan(
    plan: dicom.PlanObject | str | Path,
    patient: Patient,
    machine: str | Path | None = None,
    *,
    field_T: float | None = None,
    couch: bool = True,
    grid_mm: float = 3.0,
    rel_sigma: float = 0.02,
    seed: int = 1,
    same_frame: bool = False,
    progress: Progress = silent,
    threads: int | None = None,
    device: Literal["cpu", "gpu"] = "cpu",
) -> SecondCheck:
    """The Monte Carlo dose of any system's RTPLAN in a patient: a second check.

    Parameters
    ----------
    plan : PlanObject or path
    patient : Patient
        From :func:`load_patient`, or a :func:`water_tank`.
    machine : str or path, optional
        A machine file; without it the one whose distance, leaves, energy and filter are the plan's.
    field_T : float, optional
        Along the machine's direction; the machine's own by default.
    couch : bool
        Whether the machine's couch lies beneath the patient.
    grid_mm : float
        Voxel size.
    rel_sigma : float
        Mean relative standard deviation above half of the maximum.
    seed : int
    same_frame : bool
        Take plan and patient for lying in one frame of reference although the files say otherwise.
    progress : function of (stage, done, total, text)
    threads : int, optional
    device : {"cpu", "gpu"}

    Returns
    -------
    SecondCheck

    Raises
    ------
    DataError, SpecError, PhysicsError, MissingExtraError, DeviceError
        What stands in the way; all problems of the inputs at once.
    """
    read = plan if isinstance(plan, dicom.PlanObject) else dicom.read_plan(plan)
    return second_check.second_check(
        read,
        patient,
        second_check.machine_for(read, machine),
        field_T=field_T,
        couch=couch,
        grid_mm=grid_mm,
        rel_sigma=rel_sigma,
        seed=seed,
        same_frame=same_frame,
        progress=progress,
        threads=threads,
        device=device,
    )


def write_second_check(
    check: SecondCheck,
    folder: str | Path,
    *,
    dose: str | Path | None = None,
    gamma: str = "3%/2mm",
    overwrite: bool = False,
) -> Path:
    """Write the dose as RTDOSE, with a page of metrics, and of gamma against a given dose.

    Parameters
    ----------
    check : SecondCheck
    folder : path
    dose : path, optional
        RTDOSE that came with the plan: the reference of gamma.
    gamma : str
        ``"3%/2mm"``, ``"2%/2mm local"``.
    overwrite : bool
        Replace an evaluation that the folder holds.

    Returns
    -------
    Path
        Of the page.

    Raises
    ------
    DataError, SpecError
        What is wrong with the dose, or a folder that holds something else.
    """
    check_evaluation_output(folder, overwrite=overwrite)
    criteria, fractions = parse_criteria(gamma), check.plan.fractions
    given = None if dose is None else dicom.read_dose(dose, fractions=fractions)
    doses = {"mrlinac": check.dose} if given is None else {"given": given, "mrlinac": check.dose}
    notes = (*(Note("info", text) for text in check.statements), *check.notes.entries, *check.patient.notes.entries)
    subject = inputs.subject_of(check.patient.rois, check.patient, None, doses, notes)
    found = evaluation.evaluate(doses, subject, fractions=fractions, criteria=None if given is None else criteria)
    page = report.write_evaluation(found, Path(folder))
    check.write_dose(Path(folder) / "rtdose.dcm")
    return page


def evaluate(
    doses: Sequence[str | Path],
    structures: str | Path | None = None,
    *,
    ct: str | Path | None = None,
    protocol: str | Path | None = None,
    prescription_Gy: float | None = None,
    fractions: int | None = None,
    metrics: Sequence[str] = (),
    gamma: str | None = None,
    names: Mapping[str, str] | None = None,
    series: str | None = None,
    position: str | None = None,
    same_frame: bool = False,
    derive: bool | Sequence[str] = False,
    ends: Ends | None = None,
) -> Evaluation:
    """Measure any system's RTDOSE in structures; several doses come side by side.

    Parameters
    ----------
    doses : sequence of str or path
        ``file``, ``file+file`` (a sum), each with ``label=`` before it if wanted. The first is the reference.
    structures : path, optional
        RTSTRUCT, or a folder that holds one. May be left out with ``ct``.
    ct : path, optional
        Folder of the CT: for pictures, and to leave air out of a search for hot spots of the body.
    protocol : str, optional
        Its rules make structures, its goals are judged.
    prescription_Gy : float, optional
        For ``V95%[%]``, ``CI``, ``R50``; by default the protocol's.
    fractions : int, optional
        Of the course, where the files do not say it.
    metrics : sequence of str, optional
        ``"PTV:D95%,V20Gy[%]"`` of one structure, ``"D2%"`` of every structure (:data:`mrlinac.dose.grammar.FORMS`).
    gamma : str, optional
        ``"3%/2mm"``, ``"2%/2mm local"``; by default 3 %/2 mm where there are several doses.
    names : mapping, optional
        Clinic name to TG-263 name.
    series, position : str, optional
        Of the CT's folder; see :func:`load_patient`.
    same_frame : bool
        Take image, doses and structures for lying in one frame of reference although the files say otherwise.
    derive : bool or sequence of str
        Derive from the CT what was not drawn; see :func:`load_patient`.
    ends : {"half-slice", "at-contour"}, optional
        Where structures end along z: half a slice beyond their first and last contour (the default), or at these, as
        Eclipse has it.

    Returns
    -------
    Evaluation

    Raises
    ------
    DataError, SpecError
        Everything that is wrong with the files, or with what was asked for.
    """
    requests = parse_requests(metrics)
    criteria = parse_criteria(gamma or "3%/2mm") if gamma is not None or len(doses) > 1 else None
    judged = None if protocol is None else load_protocol(protocol)
    course = None if judged is None else judged.prescription.fractions
    read, count, frame_uid, notes_of_doses = inputs.read_doses(
        inputs.dose_files([str(dose) for dose in doses]), fractions=fractions, course=course, same_frame=same_frame
    )
    if judged is not None:
        evaluation.check_course(judged, read)
    drawn = None if structures is None else Path(structures)
    rois, patient, notes = inputs.read_subject(
        drawn,
        frame_uid,
        ct=None if ct is None else Path(ct),
        names=names,
        series=series,
        position=position,
        same_frame=same_frame,
        derive=derive,
        deriver=with_derived,
        ends=ends,
    )
    prescribed = prescription_Gy if judged is None or prescription_Gy is not None else judged.prescription.dose_Gy
    evaluation.check_requests(requests, inputs.subject_names(rois, judged), prescribed, evaluation.clinic_names(rois))
    subject = inputs.subject_of(rois, patient, judged, read, (*notes_of_doses.entries, *notes.entries))
    return evaluation.evaluate(
        read,
        subject,
        fractions=count,
        prescription_Gy=prescription_Gy,
        protocol=judged,
        requests=requests,
        criteria=criteria,
    )


def write_evaluation(found: Evaluation, folder: str | Path, *, overwrite: bool = False) -> Path:
    """Write report, tables and ``evaluation.json``.

    Parameters
    ----------
    found : Evaluation
    folder : path
    overwrite : bool
        Replace an evaluation that the folder holds.

    Returns
    -------
    Path
        Of the page.

    Raises
    ------
    SpecError
        When the folder holds something else.
    """
    check_evaluation_output(folder, overwrite=overwrite)
    return report.write_evaluation(found, Path(folder))


def check_evaluation_output(folder: str | Path, *, overwrite: bool = False) -> None:
    """Refuse a folder that holds something else than an evaluation, or one that is not to be overwritten.

    Parameters
    ----------
    folder : path
    overwrite : bool
        Replace an evaluation that the folder holds.

    Raises
    ------
    SpecError
        The folder is not empty; with the remedy.
    """
    out = Path(folder)
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        record = out / report.EVALUATION_RECORD if out.is_dir() else out
        is_evaluation = record.name == report.EVALUATION_RECORD and record.is_file()
        if not (is_evaluation and overwrite):
            remedy = "give --overwrite, or another --out" if is_evaluation else "give another --out"
            raise SpecError(f"{out} is not empty: {remedy}")


def evaluation_as_dict(found: Evaluation) -> dict[str, Any]:
    """All numbers of an evaluation as plain values.

    Parameters
    ----------
    found : Evaluation

    Returns
    -------
    dict
        What has no value is None.
    """
    return report.evaluation_as_dict(found)


def known_names() -> dict[str, list[str]]:
    """Names of the files of each kind that are found by name.

    Returns
    -------
    dict of list of str
        By kind: plans, protocols, machines, techniques, studies.
    """
    return {kind: spec.names(kind) for kind in spec.KINDS}


def known_presets() -> dict[str, str]:
    """The presets of ``numerics``.

    Returns
    -------
    dict of str
        By name: the uncertainty that the preset stands for.
    """
    return presets()


def planning_lacks(patient: Patient) -> list[str]:
    """What planning by any protocol that is found by name will ask for, and the patient does not have.

    Parameters
    ----------
    patient : Patient

    Returns
    -------
    list of str
        Each with its remedy.
    """
    return _planning_lacks(patient, [load_protocol(name) for name in spec.names("protocols")])


def cache_info() -> dict[str, Any]:
    """Where the cache is, how many entries and bytes it holds, and its cap; the compiled kernels beside it.

    Returns
    -------
    dict
        ``folder``, ``entries``, ``bytes``, ``cap_GB``, ``kernel_folder``, ``kernels``, ``kernel_bytes``.
    """
    store, kernels = Store.default(), jit.compiled_kernels()
    return {
        "folder": str(store.folder),
        "entries": store.count(),
        "bytes": store.size_bytes(),
        "cap_GB": store.cap_GB,
        "kernel_folder": str(jit.cache_folder().parent),
        "kernels": len(kernels),
        "kernel_bytes": sum(kernel.bytes for kernel in kernels),
    }


def cache_list() -> list[dict[str, Any]]:
    """What the cache holds, newest first.

    Returns
    -------
    list of dict
        ``kind``, ``key``, ``bytes``, ``current``, ``age_days``. The age of an influence counts from its last use, that of
        kernels from their last compilation. ``current`` is False for kernels of other versions of the sources, which this
        version cannot use, and None for influences, of which only a plan can tell.
    """
    now_s = time.time()
    rows: list[tuple[float, dict[str, Any]]] = []
    for entry in Store.default().listed():
        rows.append((entry.used_s, {"kind": entry.kind, "key": entry.key, "bytes": entry.bytes, "current": None}))
    for kernel in jit.compiled_kernels():
        values = {"kind": "kernels", "key": kernel.key, "bytes": kernel.bytes, "current": kernel.current}
        rows.append((kernel.written_s, values))
    rows.sort(key=lambda row: -row[0])
    return [{**row, "age_days": round((now_s - at_s) / 86400, 2)} for at_s, row in rows]


def cache_clear(*, old_kernels_only: bool = False) -> int:
    """Remove everything from the cache, compiled kernels included.

    Parameters
    ----------
    old_kernels_only : bool
        Remove only the kernels that other versions of the sources compiled.

    Returns
    -------
    int
        Bytes freed.
    """
    if old_kernels_only:
        return jit.clear_kernels(old_only=True)
    return Store.default().clear() + jit.clear_kernels()
