"""The commands; the only place that prints.

Exit status: 0 done, 1 error, 2 usage, 3 done with constraints unmet.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any

import typer
import typer.core
from rich.console import Console
from rich.progress import BarColumn, Progress, SpinnerColumn, TextColumn, TimeElapsedColumn
from rich.table import Table

import mrlinac
from mrlinac.errors import NO_ROOM, MrlinacError, SpecError, no_room

STOPPED = {
    "plan": "Nothing is half-written. The beams of the influence that were finished are kept in the cache (`mrlinac cache "
    "info`): the same command goes on from there",
    "recalculate": "Nothing is half-written and nothing of this dose is kept: the same command starts it again",
    "evaluate": "What --out named may be incomplete: the same command with --overwrite makes it anew",
    "report": "The report may be incomplete: the same command makes it anew",
    "import": "Nothing is half-written: the same command starts again",
    "phantom": "Nothing is half-written: the same command starts again",
}
"""What is kept, and how to go on, when a person stops a command."""


class Commands(typer.core.TyperGroup):
    """The commands, with a sentence for a person who stops one."""

    def invoke(self, ctx: Any) -> Any:
        """Run the command that was typed; typer itself would end without a word at Ctrl-C."""
        try:
            return super().invoke(ctx)
        except KeyboardInterrupt:
            _say_stopped(ctx.invoked_subcommand)
            raise typer.Exit(STOPPED_STATUS) from None


app = typer.Typer(
    name="mrlinac",
    cls=Commands,
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
    help="An open MR-Linac planning simulator. For research; not a medical device.",
    epilog="Exit status: 0 done, 1 error, 2 wrong usage, 3 done with limits or goals unmet, 130 stopped by Ctrl-C.",
)
cache = typer.Typer(no_args_is_help=True, help="What was computed before and kept on disk.")
app.add_typer(cache, name="cache")

out = Console()
err = Console(stderr=True)

UNMET = 3
STOPPED_STATUS = 130

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


def _plan_names(incomplete: str) -> list[str]:
    return [name for name in mrlinac.known_names()["plans"] if name.startswith(incomplete)]


def _protocol_names(incomplete: str) -> list[str]:
    return [name for name in mrlinac.known_names()["protocols"] if name.startswith(incomplete)]


PlanName = Annotated[
    str,
    typer.Argument(
        metavar="PLAN", help="A plan file, or a name that `mrlinac list` shows.", autocompletion=_plan_names
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


def main() -> None:
    """Entry point: turns what went wrong into one sentence and an exit status."""
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):  # a redirected stream of Windows cannot say ≤
            stream.reconfigure(encoding="utf-8", errors="replace")
    try:
        app(prog_name="mrlinac")
    except OSError as error:
        where = f"{error.filename}: " if error.filename else ""
        reason = no_room(error, Path(error.filename or ".")) if error.errno in NO_ROOM else error.strerror or error
        err.print(f"[red]error:[/red] {_escaped(f'{where}{reason}')}", highlight=False)
        sys.exit(1)
    except MrlinacError as error:
        err.print(f"[red]error:[/red] {_escaped(str(error))}")
        sys.exit(1)
    except KeyboardInterrupt:  # before a command had begun
        _say_stopped(None)
        sys.exit(STOPPED_STATUS)


def _say_stopped(command: str | None) -> None:
    err.print(_escaped(f"stopped. {STOPPED.get(command or '', 'Nothing was changed')}."), highlight=False)


def _say_version(wanted: bool) -> None:
    if wanted:
        out.print(f"mrlinac {mrlinac.__version__}", highlight=False)
        raise typer.Exit


@app.callback()
def common(
    version: Annotated[
        bool, typer.Option("--version", callback=_say_version, is_eager=True, help="Say the version and end.")
    ] = False,
) -> None:
    """An open MR-Linac planning simulator. For research; not a medical device."""


def _checked(spec: Any) -> tuple[Any, Any]:
    """The plan's patient and what stands in the way; the patient is not made where a slip of the pen is seen first."""
    early = mrlinac.check_early(spec)
    if early.problems:
        return None, early
    person = mrlinac.patient_of(spec)
    return person, mrlinac.check(spec, person)


@app.command()
def plan(
    name: PlanName,
    set_: Set = None,
    patient: PatientFolder = None,
    rtstruct: Rtstruct = None,
    series: Series = None,
    position: Lying = None,
    same_frame: SameFrame = False,
    densities: Densities = False,
    derive: Derive = False,
    out_: Out = None,
    overwrite: Overwrite = False,
    threads: Threads = None,
    device: Device = On.cpu,
    no_figures: NoFigures = False,
    dry_run: DryRun = False,
    as_json: AsJson = False,
) -> None:
    """Plan a patient: Monte Carlo influence, convex optimisation, forward Monte Carlo dose, report."""
    mrlinac.check_device(device.value)
    how = _how_to_read(rtstruct, series, position, same_frame, densities, derive)
    spec = mrlinac.load_plan(name, _changes(set_, patient, how))
    folder = out_ or Path("results") / spec.name
    if not dry_run:
        mrlinac.check_output_early(spec, folder, overwrite=overwrite)
    person, found = _checked(spec)
    if dry_run:
        _say(found.as_dict(), as_json, lambda: _print_check(found))
        raise typer.Exit(0 if not found.problems else 1)
    found.raise_problems()
    mrlinac.check_output(spec, person, folder, overwrite=overwrite)
    with _progress(as_json) as tell:
        result = mrlinac.make_plan(spec, person, case=found.case, progress=tell, threads=threads, device=device.value)
        result.save(folder, overwrite=overwrite, figures=not no_figures)
    _say(_summary(result, folder), as_json, lambda: _print_result(result, folder))
    raise typer.Exit(_exit_status(result))


@app.command()
def check(
    name: PlanName,
    set_: Set = None,
    patient: PatientFolder = None,
    rtstruct: Rtstruct = None,
    series: Series = None,
    position: Lying = None,
    same_frame: SameFrame = False,
    densities: Densities = False,
    derive: Derive = False,
    as_json: AsJson = False,
) -> None:
    """Say what stands in the way of a plan, and what memory and time it will take."""
    how = _how_to_read(rtstruct, series, position, same_frame, densities, derive)
    _, found = _checked(mrlinac.load_plan(name, _changes(set_, patient, how)))
    _say(found.as_dict(), as_json, lambda: _print_check(found))
    raise typer.Exit(1 if found.problems else 0)


@app.command()
def recalculate(
    folder: Annotated[Path, typer.Argument(metavar="RESULT", help="Folder of a plan's result.")],
    field_T: Annotated[
        float | None,
        typer.Option(
            "--field-T", help="Field along the machine's direction; negative turns it. Default: the result's."
        ),
    ] = None,
    seed: Annotated[
        int | None, typer.Option(help="Other random numbers than the plan's; none are those of the plan's own doses.")
    ] = None,
    out_: Out = None,
    overwrite: Overwrite = False,
    threads: Threads = None,
    device: Device = On.cpu,
    no_figures: NoFigures = False,
    as_json: AsJson = False,
) -> None:
    """The dose of the same MU in another field, or with another seed: what the field does to a plan, and what noise."""
    if field_T is None and seed is None:
        raise typer.BadParameter("give --field-T, --seed, or both")
    mrlinac.check_device(device.value)
    before = mrlinac.load_result(folder)
    size_T = before.field_T if field_T is None else field_T
    target = out_ or folder.with_name(f"{folder.name}-{size_T:g}T" + ("" if seed is None else f"-seed{seed}"))
    mrlinac.check_recalculation(before, field_T, target, seed=seed, overwrite=overwrite)
    mrlinac.check_place(target)
    with _progress(as_json) as tell:
        after = mrlinac.recalculate(
            before, field_T=field_T, seed=seed, progress=tell, threads=threads, device=device.value
        )
        after.save(target, overwrite=overwrite, figures=not no_figures)
    _say(_summary(after, target), as_json, lambda: _print_result(after, target))
    raise typer.Exit(_exit_status(after))


@app.command()
def report(
    folders: Annotated[
        list[Path], typer.Argument(metavar="RESULT…", help="Folders of results; several are compared.")
    ],
    out_: Annotated[Path, typer.Option("--out", help="Folder of the comparison, or of the one report.")] = Path(
        "report"
    ),
    no_figures: NoFigures = False,
    as_json: AsJson = False,
) -> None:
    """Write the report of a result again, or one that sets several results side by side."""
    mrlinac.check_place(out_)
    results = {folder.resolve().name: mrlinac.load_result(folder) for folder in folders}
    if len(results) != len(folders):
        raise SpecError("the results need folders of different names: the names label the columns")
    page = mrlinac.write_report(results, out_, figures=not no_figures)
    _say({"report": str(page)}, as_json, lambda: out.print(f"report: {page}"))


@app.command()
def evaluate(
    doses: Annotated[
        list[str],
        typer.Argument(metavar="DOSE…", help="RTDOSE files: FILE, FILE+FILE (a sum), LABEL=FILE; several compare."),
    ],
    structures: Annotated[
        Path | None,
        typer.Option("--structures", "--rtstruct", help="RTSTRUCT, a folder that holds one, or with --ct its key."),
    ] = None,
    ct: Annotated[Path | None, typer.Option(help="Folder of the CT (and of the RTSTRUCT, unless given).")] = None,
    protocol: Annotated[
        str | None, typer.Option(help="Judge the goals of this protocol.", autocompletion=_protocol_names)
    ] = None,
    prescription_Gy: Annotated[float | None, typer.Option("--prescription", help="Gy, for V95%[%], CI, R50.")] = None,
    fractions: Annotated[int | None, typer.Option(min=1, help="Of the course, where no file says it.")] = None,
    metric: Annotated[
        list[str] | None, typer.Option("--metric", help="PTV:D95%,V20Gy[%] or, of all structures, D2%; repeatable.")
    ] = None,
    gamma: Annotated[str | None, typer.Option(help="3%/2mm, or 2%/2mm local.")] = None,
    name: Annotated[list[str] | None, typer.Option("--name", metavar="CLINIC=TG263", help="Rename.")] = None,
    series: Series = None,
    position: Lying = None,
    same_frame: SameFrame = False,
    derive: Derive = False,
    ends: Annotated[
        StructureEnds | None,
        typer.Option(
            help="Structures end half a slice beyond their end contours (default), or at these, as in Eclipse."
        ),
    ] = None,
    out_: Annotated[Path | None, typer.Option("--out", help="Folder for the report and the tables.")] = None,
    overwrite: Overwrite = False,
    as_json: AsJson = False,
) -> None:
    """DVHs, metrics, goals, differences and gamma of any system's doses."""
    if out_ is not None:
        mrlinac.check_evaluation_output(out_, overwrite=overwrite)
        mrlinac.check_place(out_)
    found = mrlinac.evaluate(
        doses,
        structures,
        ct=ct,
        protocol=protocol,
        prescription_Gy=prescription_Gy,
        fractions=fractions,
        metrics=metric or (),
        gamma=gamma,
        names=_renamed(name),
        series=series,
        position=position,
        same_frame=same_frame,
        derive=derive,
        ends=None if ends is None else ends.value,
    )
    page = None if out_ is None else mrlinac.write_evaluation(found, out_, overwrite=overwrite)
    said = {**mrlinac.evaluation_as_dict(found), **({} if page is None else {"report": str(page)})}
    _say(said, as_json, lambda: _print_evaluation(said))
    raise typer.Exit(0 if found.goals_met else UNMET)


@app.command("import")
def import_(
    folder: Annotated[Path, typer.Argument(help="Folder of DICOM files, or its patient.toml.")],
    rtstruct: Rtstruct = None,
    series: Series = None,
    position: Lying = None,
    same_frame: SameFrame = False,
    densities: Densities = False,
    derive: Derive = False,
    file: Annotated[
        Path | None, typer.Option("--file", help="Where to write patient.toml [default: FOLDER].")
    ] = None,
    no_file: Annotated[bool, typer.Option("--no-file", help="Write no patient.toml.")] = False,
    anonymise: Annotated[
        Path | None, typer.Option(metavar="OUT", help="Instead: write a copy that says of nobody whose it is.")
    ] = None,
    seed: Annotated[
        int | None, typer.Option(help="Of --anonymise: repeat its UIDs and dates; keep it secret.")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Read a folder of DICOM files, say what was found, and write patient.toml for you to edit, or an anonymous copy."""
    if anonymise is not None:
        mrlinac.check_place(anonymise)
        written = mrlinac.anonymise(folder, anonymise, seed=seed)
        _say(_of_copy(written), as_json, lambda: _print_copy(written))
        return
    found = mrlinac.import_folder(
        folder,
        rtstruct=rtstruct,
        series=series,
        position=position,
        same_frame=same_frame,
        densities=densities,
        derive=derive,
        write=not no_file,
        file=file,
    )
    lacks = [] if found.patient is None else mrlinac.planning_lacks(found.patient)
    told = {**found.as_dict(), "planning_lacks": lacks, "file": None if found.file is None else str(found.file)}
    _say(told, as_json, lambda: _print_import(found, lacks))
    if found.problems:
        if not as_json:
            err.print("[red]error:[/red] nothing was written: see what stands in the way")
        raise typer.Exit(1)
    if found.file is not None and not as_json:
        out.print(f"decisions: {_escaped(str(found.file))}")


@app.command()
def phantom(
    folder: Annotated[Path, typer.Argument(help="Folder to write CT and structure set into.")],
    seed: Annotated[int, typer.Option(min=0, help="Which patient.")] = 1,
    as_json: AsJson = False,
) -> None:
    """Write the built-in digital thorax patient as DICOM."""
    _check_new(folder)
    written = mrlinac.write_phantom(folder, seed=seed)
    _say(
        {"folder": str(folder), "label": written.label, "structures": list(written.rois)},
        as_json,
        lambda: out.print(f"{written!r} written to {folder}. {mrlinac.RESEARCH_ONLY}"),
    )


@app.command("list")
def list_(as_json: AsJson = False) -> None:
    """Names of the plans, protocols, machines and studies that are found by name, and the presets of numerics."""
    names, presets = mrlinac.known_names(), mrlinac.known_presets()

    def show() -> None:
        _print_pairs({kind: ", ".join(found) or "none" for kind, found in names.items()})
        out.print("[bold]numerics[/bold], presets for --set numerics=NAME:")
        for preset, statement in presets.items():
            out.print(f"  [bold]{preset}[/bold]: {_escaped(statement)}")

    _say({**names, "numerics": presets}, as_json, show)


@cache.command("info")
def cache_info(as_json: AsJson = False) -> None:
    """Where the cache is and how large."""
    info = mrlinac.cache_info()
    _say(info, as_json, lambda: _print_pairs(info))


@cache.command("list")
def cache_list(as_json: AsJson = False) -> None:
    """What the cache holds: influences and compiled kernels, with size and age."""
    rows = mrlinac.cache_list()
    _say(rows, as_json, lambda: _print_cache(rows))


@cache.command("clear")
def cache_clear(
    old_kernels: Annotated[
        bool, typer.Option("--old-kernels", help="Only kernels that other versions of the code compiled.")
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Remove everything from the cache, compiled kernels included."""
    freed = mrlinac.cache_clear(old_kernels_only=old_kernels)
    _say({"freed_bytes": freed}, as_json, lambda: out.print(f"freed {freed / 1e6:.1f} MB"))


def _how_to_read(
    rtstruct: str | None, series: str | None, position: str | None, same_frame: bool, densities: bool, derive: bool
) -> dict[str, Any]:
    """What a person says of how a patient's folder is to be read, as values of a plan."""
    words = {"rtstruct": rtstruct, "series": series, "position": position}
    said = {"same_frame": same_frame, "densities": densities, "derive": derive}
    return {f"patient.{key}": value for key, value in {**words, **said}.items() if value}


def _changes(set_: list[str] | None, patient: Path | None, how: dict[str, Any]) -> dict[str, Any]:
    changes = dict(mrlinac.parse_set(text) for text in set_ or [])
    if patient is not None:
        changes["patient.folder"] = str(patient)
    return {**changes, **how}


def _renamed(pairs: list[str] | None) -> dict[str, str]:
    found = {}
    for pair in pairs or []:
        clinic, equals, wanted = pair.rpartition("=")
        if not (equals and clinic and wanted):
            raise SpecError(f"--name {pair}: write CLINIC=TG263, the name in the file and the name wanted")
        found[clinic] = wanted
    return found


def _say(value: Any, as_json: bool, human: Callable[[], Any]) -> None:
    if as_json:
        out.print_json(json.dumps(value, default=str))
    else:
        human()


def _print_pairs(pairs: dict[str, Any]) -> None:
    for key, value in pairs.items():
        out.print(f"[bold]{key}[/bold]: {_escaped(str(value))}")


def _print_cache(rows: list[dict[str, Any]]) -> None:
    table = Table("kind", "key", "MB", "age (days)", "")
    remarks = {True: "in use by this version", False: "of another version of the code", None: ""}
    for row in rows:
        words = (row["kind"], row["key"][:12], f"{row['bytes'] / 1e6:.1f}", f"{row['age_days']:.1f}")
        table.add_row(*words, remarks[row["current"]])
    out.print(table if rows else "the cache is empty")


def _limit_text(goal: dict[str, Any]) -> str:
    """``≤ 20``; empty for a goal that is only reported."""
    signs = {"<=": "≤", ">=": "≥"}
    return f"{signs[goal['direction']]} {goal['limit']:g}" if goal["direction"] in signs else ""


def _with_sigma(row: dict[str, Any]) -> str:
    """``49.87 ± 0.51 Gy``; a sigma that is not known is left out."""
    sigma = row.get("sigma")
    spread = "" if sigma is None or sigma != sigma else f" ± {sigma:.2f}"
    return f"{row['value']:.2f}{spread} {row['unit']}".strip()


def _escaped(text: str) -> str:
    return text.replace("[", r"\[")


@contextmanager
def _progress(quiet: bool) -> Iterator[Callable[[str, float, float, str], None]]:
    """A line a stage, on the standard error stream."""
    columns = (SpinnerColumn(), TextColumn("{task.description}"), BarColumn(), TextColumn("{task.fields[text]}"))
    with Progress(*columns, TimeElapsedColumn(), console=err, disable=quiet) as bar:
        tasks: dict[str, Any] = {}

        def tell(stage: str, done: float, total: float, text: str) -> None:
            if stage not in tasks:
                for task in tasks.values():
                    bar.update(task, total=1, completed=1)
                tasks[stage] = bar.add_task(stage, total=None, text="")
            bar.update(tasks[stage], completed=done, total=total or None, text=text)

        yield tell
        for task in tasks.values():
            bar.update(task, total=1, completed=1)


def _summary(result: Any, folder: Path) -> dict[str, Any]:
    return {
        "folder": str(folder),
        "standing": result.standing.as_dict(),
        "report": str(folder / "report.html"),
        "constraints_met": result.constraints_met,
        "escalation": None if result.escalation is None else dict(result.escalation),
        "goals": json.loads(result.goals.to_json(orient="records", double_precision=15)),
        "skin": json.loads(result.skin.to_json(orient="records", double_precision=15)),
        "models": json.loads(result.models.to_json(orient="records", double_precision=15)),
        "fingerprint": result.fingerprint,
        "statement": mrlinac.RESEARCH_ONLY,
    }


def _check_new(folder: Path) -> None:
    """Refuse a folder that is not new or empty, before anything is made for it."""
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise SpecError(f"{folder}: not empty; give a new folder")
    mrlinac.check_place(folder)


def _print_check(found: Any) -> None:
    """The verdict first, then what to know."""
    count = len(found.problems)
    verdict = (
        f"[red]{count} problem(s) stand in the way[/red]" if count else "[green]nothing stands in the way[/green]"
    )
    out.print(verdict)
    for problem in found.problems:
        out.print(f"[red]problem:[/red] {_escaped(problem)}")
    for line in found.estimates:
        out.print(f"  {_escaped(line)}")
    for note in found.notes:
        out.print(f"  {_escaped(note)}")


def _print_import(found: Any, lacks: list[str]) -> None:
    lines = [str(found)]
    if found.patient is not None:
        lines += ["What planning will lack", *(f"  - {text}" for text in lacks or ["nothing"])]
    out.print("\n".join(lines), markup=False, highlight=False, soft_wrap=True)


def _of_copy(written: Any) -> dict[str, Any]:
    entries = [{"severity": note.severity, "text": note.text} for note in written.notes.entries]
    counts = {"files": written.files, "kinds": dict(written.kinds), "left_out": dict(written.left_out)}
    return {"folder": str(written.folder), "patients": list(written.patients), **counts, "notes": entries}


def _print_copy(written: Any) -> None:
    kinds = ", ".join(f"{count} {kind}" for kind, count in written.kinds.items())
    out.print(f"{written.folder}: {kinds}; patient ID {', '.join(written.patients)}", markup=False)
    out.print(str(written.notes), markup=False)


def _print_evaluation(said: dict[str, Any]) -> None:
    labels = said["doses"]
    for note in said["notes"]:
        if note["severity"] in ("warning", "decide"):
            out.print(f"[yellow]{note['severity']}:[/yellow] {_escaped(note['text'])}")
    beyond = [f"outside {label} (%)" for label in labels]
    beyond = [column for column in beyond if any((row[column] or 0) > 0.1 for row in said["metrics"])]
    table = Table("structure", "metric", *labels, "unit", *beyond, title="metrics")
    for row in said["metrics"]:
        values = ["–" if row[label] is None else f"{row[label]:.4g}" for label in labels]
        shares = ["–" if row[column] is None else f"{row[column]:.1f}" for column in beyond]
        table.add_row(row["structure"], _escaped(row["metric"]), *values, row["unit"], *shares)
    out.print(table)
    for label, goals in said["goals"].items():
        table = Table("structure", "metric", "value", "goal", "verdict", title=f"goals, {label}")
        for row in goals:
            value = "–" if row["value"] is None else _with_sigma(row)
            if (row["outside_percent"] or 0) > 0.1:
                value += f" ({row['outside_percent']:.1f} % outside the dose grid)"
            table.add_row(
                row["structure"], _escaped(row["metric"]), value, _limit_text(row), _verdict(row["verdict"])
            )
        out.print(table)
    for row in said["gamma"]:
        percent = "–" if row["pass_percent"] is None else f"{row['pass_percent']:.1f} %"
        out.print(f"gamma {row['dose']}: {percent} of {row['points']} points pass ({row['criteria']})")
    derived = [row["structure"] for row in said["structures"] if row["origin"] == "derived by software"]
    if derived:
        out.print(f"derived by software, drawn by nobody: {', '.join(derived)}")
    if "report" in said:
        out.print(f"report: {said['report']}")
    out.print(mrlinac.RESEARCH_ONLY)


def _verdict(verdict: str) -> str:
    colours = {"pass": "green", "near": "yellow", "fail": "red"}
    colour = colours.get(verdict, "default")
    return f"[{colour}]{'not evaluable' if verdict == 'void' else verdict}[/{colour}]"


def _exit_status(result: Any) -> int:
    return 0 if result.constraints_met and not result.standing.useless else UNMET


def _print_standing(standing: Any) -> None:
    """What a plan is worth, before any figure of it."""
    colour = {"useless": "red", "missed": "yellow", "met": "green"}[standing.level]
    out.print(f"[bold {colour}]{_escaped(standing.headline)}[/bold {colour}]", highlight=False, soft_wrap=True)
    for sentence in standing.sentences:
        out.print(f"  - {_escaped(sentence)}", highlight=False, soft_wrap=True)


def _print_result(result: Any, folder: Path) -> None:
    _print_standing(result.standing)
    table = Table("structure", "metric", "value", "goal", "verdict", title=result.spec.title)
    for row in result.goals.to_dict("records"):
        verdict = str(row["verdict"])
        table.add_row(
            str(row["structure"]),
            str(row["metric"]),
            "–" if verdict in ("absent", "void") else _with_sigma(row),
            _limit_text(row),
            _verdict(verdict),
        )
    out.print(table)
    if (found := result.escalation) is not None:
        course = f"{found['dose_Gy']:g} Gy in {found['fractions']} fractions"
        says = f"isotoxic prescription {course}, driver {found['driver']}" if found["eligible"] else "ineligible"
        out.print(_escaped(f"{says}; convex bound {found['bound_Gy']:.1f} Gy, floor {found['floor_Gy']:g} Gy"))
    out.print(f"report: {folder / 'report.html'}")
    out.print(mrlinac.RESEARCH_ONLY)
