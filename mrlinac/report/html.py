"""The page: one file that opens without a network and says what it is."""

from __future__ import annotations

import base64
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined
from matplotlib.figure import Figure

from mrlinac.errors import DataError, writing
from mrlinac.report import compare, diagrams, skin, style, tables
from mrlinac.report import figures as views
from mrlinac.report.content import ReportContent

MAX_PLANS = len(compare.LINES)


@dataclass(frozen=True)
class Picture:
    """A figure of the page.

    Attributes
    ----------
    name : str
        File name without suffix.
    caption, alt : str
        What it shows, in words; ``alt`` for those who cannot see it.
    data_uri : str
        The SVG itself, base64.
    """

    name: str
    caption: str
    alt: str
    data_uri: str


def write(content: ReportContent, folder: Path, *, figures: bool = True) -> Path:
    """Write ``report.html``, ``figures/``, ``goals.csv``, ``models.csv``, ``dvh.csv`` and ``timing.csv``.

    Parameters
    ----------
    content : ReportContent
    folder : Path
        Made if absent; files of the same names are overwritten.
    figures : bool
        Whether to draw; without, the page says so and holds words and tables.

    Returns
    -------
    Path
        Of ``report.html``: one file, everything inside. The same content gives the same bytes.
    """
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    tables.write_goals_csv(content.goals, folder / "goals.csv")
    tables.write_csv(content.models, folder / "models.csv")
    tables.write_dvh_csv(content.dvhs, folder / "dvh.csv")
    tables.write_timing_csv(content.timing, folder / "timing.csv")
    pictures = _plan_pictures(content, folder / "figures") if figures else {}
    page = (
        environment()
        .get_template("report.html.j2")
        .render(
            content=content,
            pictures=pictures,
            drawn=figures,
            tally=_tally(content),
            facts=_facts(content),
            goals=tables.goals_table(content),
            models=tables.models_table(content),
            models_note=tables.MODELS_NOTE,
            values_note=tables.VALUES_NOTE,
            constraints=tables.constraints_table(content),
            escalation=tables.escalation_table(content),
            skin=tables.skin_table(content),
            structures=tables.structures_table(content),
            convergence=tables.frame_table(content.convergence, "Correction and convergence, step by step"),
            timing=tables.timing_table(content.timing),
            provenance=_provenance_rows(content.provenance),
            certificate=_certificate_rows(content),
        )
    )
    return save_page(page, folder / "report.html")


def write_comparison(contents: Mapping[str, ReportContent], folder: Path, *, figures: bool = True) -> Path:
    """Write ``comparison.html`` and ``figures/`` for several plans of one patient; the first is the reference.

    Parameters
    ----------
    contents : mapping of label to ReportContent
    folder : Path
    figures : bool
        Whether to draw.

    Returns
    -------
    Path
        Of the page.

    Raises
    ------
    DataError
        For fewer than two plans, more than line styles can tell apart, labels that give the same file names,
        or doses of different fractionation.
    """
    folder = Path(folder)
    if not 2 <= len(contents) <= MAX_PLANS:
        raise DataError(f"a comparison takes 2 to {MAX_PLANS} plans, not {len(contents)}")
    courses = {label: (c.prescription_Gy, c.fractions) for label, c in contents.items()}
    if len({fractions for _, fractions in courses.values()}) > 1:
        listed = ", ".join(f"{label}: {rx:g} Gy in {n}" for label, (rx, n) in courses.items())
        raise DataError(f"doses of different fractionation do not subtract ({listed}); convert through EQD2 first")
    if len({slug(label) for label in contents}) < len(contents):
        raise DataError(f"the plans' labels give the same file names: {', '.join(contents)}; use plainer labels")
    folder.mkdir(parents=True, exist_ok=True)
    pictures = _comparison_pictures(contents, folder / "figures") if figures else {}
    page = (
        environment()
        .get_template("comparison.html.j2")
        .render(
            contents=contents,
            first=next(iter(contents.values())),
            pictures=pictures,
            drawn=figures,
            goals=tables.compared_goals(contents),
            models=tables.compared_models(contents),
            models_note=tables.MODELS_NOTE,
            values_note=tables.VALUES_NOTE,
            skin=tables.compared_skin(contents),
            facts={label: _facts(content) for label, content in contents.items()},
            tallies={label: _tally(content) for label, content in contents.items()},
            fingerprints={label: content.provenance.get("fingerprint", "–") for label, content in contents.items()},
        )
    )
    return save_page(page, folder / "comparison.html")


# ------------------------------------------------------------------------------------------------------- pictures


def _plan_pictures(content: ReportContent, folder: Path) -> dict[str, Picture]:
    rx = f"{content.prescription_Gy:g} Gy"
    beams = ", ".join(f"{m.beam.gantry_deg:g}°" for m in content.fluence.maps)
    levels = ", ".join(f"{level:.0f}" for level, _ in style.ISODOSE)
    with style.styled():
        made = [
            picture(
                views.isodoses(content),
                folder,
                "isodoses",
                f"Isodoses in three planes through the centroid of {content.target}. Radiological convention: the "
                "patient's right is on the left of the axial and coronal pictures. The cross is the isocentre.",
                f"Axial, coronal and sagittal CT with isodose lines at {levels} percent of {rx} and outlines of "
                f"{', '.join(views.outlined(content.structures))}.",
            ),
            picture(
                views.slices(content),
                folder,
                "slices",
                f"Axial slices through {content.target}, from head to foot; lines as above.",
                f"Eight axial CT slices with isodose lines and structure outlines through {content.target}.",
            ),
            picture(
                diagrams.dvh(content),
                folder,
                "dvh",
                "Cumulative DVHs. Triangles mark goals (▽ stay below, △ stay above) in their structure's colour; a "
                "filled cross marks a goal that is not met.",
                "Cumulative dose-volume histograms; every value that is judged stands in the table of goals.",
            ),
            picture(
                skin.skin_map(content),
                folder,
                "skin",
                "Skin dose unfolded around the body, mean over the rind. Where a beam leaves the body in a magnetic "
                "field, returning electrons raise it.",
                "Map of skin dose against the angle around the body and z, with beam entrances and exits marked; "
                "the skin metrics stand in the table.",
            ),
            picture(
                diagrams.fluences(content),
                folder,
                "fluences",
                "Fluence of every beam as seen from the source, MU per beamlet and fraction, on one colour scale. "
                + (
                    "MU are relative until the fluence is segmented."
                    if content.segments is None
                    else "The segments were made from it; it is not what is delivered."
                ),
                f"Beam's-eye fluence maps at gantry {beams}.",
            ),
            picture(
                diagrams.segments(content),
                folder,
                "segments",
                "Every segment as seen from the source, with gantry angle, MU of one fraction and open area.",
                f"Beam's-eye shapes of the segments at gantry {beams}.",
            ),
            picture(
                views.uncertainty(content),
                folder,
                "uncertainty",
                "Statistical uncertainty (one standard deviation) of single voxels above 10 % of the prescription.",
                "Relative standard deviation of the dose in three planes.",
            ),
        ]
    return {picture.name: picture for picture in made if picture is not None}


def _comparison_pictures(contents: Mapping[str, ReportContent], folder: Path) -> dict[str, Picture]:
    labels = list(contents)
    first = contents[labels[0]]
    with style.styled():
        made = [
            picture(
                compare.dvhs(contents),
                folder,
                "dvh",
                "DVHs of all plans.",
                f"Cumulative dose-volume histograms of {', '.join(labels)}.",
            ),
            picture(
                compare.skin_bars(contents),
                folder,
                "skin_bars",
                "Skin metrics.",
                "Bars of the skin metrics per plan; the values stand in the table.",
            ),
            picture(
                compare.skin_maps(contents),
                folder,
                "skin_maps",
                "Skin dose unfolded, on one scale: ▽ a beam's axis enters, ○ it leaves.",
                "Maps of skin dose against angle and z, one per plan.",
            ),
        ]
        for label in labels[1:]:
            made.append(
                picture(
                    compare.difference(label, contents[label], labels[0], first),
                    folder,
                    f"difference_{slug(label)}",
                    f"Dose of {label} minus {labels[0]} through the centroid of {first.target}; orange is more, "
                    "purple less.",
                    f"Dose difference {label} minus {labels[0]} in three planes.",
                )
            )
        for label, content in contents.items():
            made.append(
                picture(
                    views.isodoses(content),
                    folder,
                    f"isodoses_{slug(label)}",
                    f"Isodoses of {label}.",
                    f"Axial, coronal and sagittal isodoses of {label}.",
                )
            )
    return {picture.name: picture for picture in made if picture is not None}


def picture(figure: Figure | None, folder: Path, name: str, caption: str, alt: str) -> Picture | None:
    if figure is None:
        return None
    svg, _ = style.save(figure, folder, name)
    data = base64.b64encode(svg.read_bytes()).decode("ascii")
    return Picture(name, caption, alt, f"data:image/svg+xml;base64,{data}")


def slug(label: str) -> str:
    return re.sub(r"[^a-z0-9]+", "-", label.lower()).strip("-") or "plan"


# ---------------------------------------------------------------------------------------------------------- words


def _tally(content: ReportContent) -> list[tuple[str, int, str]]:
    """Verdicts counted, in the order of severity: (verdict, count, words)."""
    counts = content.goals["verdict"].value_counts()
    met = int(content.constraints["met"].astype(bool).sum())
    rows = [
        (verdict, int(counts.get(verdict, 0)), words.format(s="" if counts.get(verdict, 0) == 1 else "s"))
        for verdict, words in (
            ("fail", "goal{s} not met"),
            ("near", "goal{s} nearly met"),
            ("pass", "goal{s} met"),
            ("report", "value{s} reported without a goal"),
            ("absent", "goal{s} of structures that were not drawn"),
            ("void", "goal{s} that cannot be evaluated"),
        )
    ]
    rows = [entry for entry in rows if entry[1]]
    if total := len(content.constraints):
        rows.insert(0, ("pass" if met == total else "fail", met, f"of {total} hard constraints met"))
    return rows


def _facts(content: ReportContent) -> list[tuple[str, str]]:
    """What stands at the head of the page: (name, value)."""
    x, y, z = content.isocentre_xyz_mm
    maps = content.fluence.maps
    facts = [
        ("Patient", content.patient_label),
        ("Machine", content.machine_title),
        ("Protocol", content.protocol_title),
        ("Prescription", f"{content.prescription_Gy:g} Gy in {content.fractions} fractions to {content.target}"),
        ("Beams", f"{len(maps)} at " + ", ".join(f"{m.beam.gantry_deg:g}°" for m in maps)),
        ("Isocentre (LPS)", f"{x:.1f}, {y:.1f}, {z:.1f} mm".replace("-", "−")),
        ("Fluence", f"{sum(len(m) for m in maps):,} beamlets".replace(",", "\u202f")),
        *(
            []
            if content.segments is None
            else [("Segments", f"{len(content.segments)}, {content.segments.total_mu:.0f} MU per fraction")]
        ),
        ("Calculation grid", " × ".join(f"{d:g}" for d in content.dose.grid.spacing_zyx_mm[::-1]) + " mm"),
    ]
    if content.dose.rel_sigma is not None:
        facts.append(("Mean σ above half of the maximum", f"{100 * content.dose.mean_rel_sigma():.2f} %"))
    return facts


def _certificate_rows(content: ReportContent) -> list[tuple[str, str]]:
    certificate = content.certificate or content.fluence.certificate
    if certificate is None:
        return []
    return [
        ("Solver", certificate.solver),
        ("Status", certificate.status),
        ("Objective reached", tables.number(certificate.objective, 6)),
        ("Proven lower bound", tables.number(certificate.dual_bound, 6)),
        ("Relative gap", tables.number(certificate.relative_gap)),
        ("Largest violation of a constraint", tables.number(certificate.worst_violation)),
        ("Iterations", tables.number(certificate.iterations)),
    ]


def _provenance_rows(provenance: Mapping[str, Any]) -> list[tuple[str, str]]:
    rows = []
    for key, value in provenance.items():
        if isinstance(value, Mapping):
            value = ", ".join(f"{k} {v}" for k, v in value.items())
        elif isinstance(value, (list, tuple)):
            value = "; ".join(str(v) for v in value)
        rows.append((str(key).replace("_", " "), tables.number(value)))
    return rows


def environment() -> Environment:
    return Environment(
        loader=PackageLoader("mrlinac.report", "templates"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )


def save_page(page: str, path: Path) -> Path:
    with writing(path):
        path.write_text(page, encoding="utf-8", newline="\n")
    return path
