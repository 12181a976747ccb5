"""Run a benchmark and write what it prints into its place in docs/benchmarks.md, with command, commit and machine.

    python benchmarks/record.py egs python benchmarks/egs.py --photons 6e6 --bins

The place is what stands between ``<!-- egs -->`` and ``<!-- end egs -->``. A Markdown table stays one; all else is shown as
it is printed. Lines that end in "…" (progress) are left out.
"""

from __future__ import annotations

import os
import platform
import re
import subprocess
import sys
from datetime import date
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
PAGE = ROOT / "docs" / "benchmarks.md"


def main(name: str, command: list[str]) -> int:
    """Run, and write the place of a name."""
    load = os.getloadavg()[0] if hasattr(os, "getloadavg") else float("nan")
    words = [sys.executable if word == "python" else word for word in command]
    done = subprocess.run(words, cwd=ROOT, stdout=subprocess.PIPE, text=True)
    if done.returncode:
        return done.returncode
    text = placed(PAGE.read_text(encoding="utf-8"), name, f"{head(command, load)}\n\n{shown(done.stdout)}")
    PAGE.write_text(text, encoding="utf-8")
    return 0


def head(command: list[str], load: float) -> str:
    """Command, commit, machine, date, and how busy the machine was when it began."""
    commit = subprocess.run(
        ["git", "rev-parse", "--short", "HEAD"], cwd=ROOT, stdout=subprocess.PIPE, text=True
    ).stdout
    line = " ".join(re.sub(r"(?<=--patient )\S+", "FOLDER", " ".join(command)).split())
    busy = f"load {load:.1f} before it" if load > 0.3 else "idle before it"
    return f"`{line}` · commit {commit.strip()} · {machine()} · {date.today().isoformat()} · {busy}"


def machine() -> str:
    """Processor and number of cores."""
    model = platform.processor() or platform.machine()
    info = Path("/proc/cpuinfo")
    if info.is_file():
        fields = dict(
            (part.strip() for part in line.split(":", 1))
            for line in info.read_text().split("\n\n")[0].splitlines()
            if ":" in line
        )
        model = f"{fields.get('model name', model)} (family {fields.get('cpu family')}, model {fields.get('model')})"
    return f"{model}, {len(os.sched_getaffinity(0)) if hasattr(os, 'sched_getaffinity') else os.cpu_count()} cores"


def shown(output: str) -> str:
    """Output as Markdown."""
    lines = [line.rstrip() for line in output.splitlines() if not line.rstrip().endswith("…")]
    text = "\n".join(lines).strip()
    return text if re.search(r"^\|", text, re.M) else f"```\n{text}\n```"


def placed(page: str, name: str, text: str) -> str:
    """The page with a new text in the place of a name."""
    place = re.compile(rf"(<!-- {re.escape(name)} -->\n).*?(<!-- end {re.escape(name)} -->)", re.S)
    if not place.search(page):
        raise SystemExit(f"docs/benchmarks.md has no place '<!-- {name} -->'")
    return place.sub(lambda found: f"{found[1]}{text}\n{found[2]}", page)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1], sys.argv[2:]))
