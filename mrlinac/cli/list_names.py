"""`mrlinac list`."""

from __future__ import annotations

import mrlinac
from mrlinac.cli import console
from mrlinac.cli.app import app
from mrlinac.cli.options import (
    AsJson,
)
from mrlinac.cli.show import (
    escaped,
    print_pairs,
    say,
)


@app.command("list")
def list_(as_json: AsJson = False) -> None:
    """Names of plans, protocols, techniques, machines and studies that are found by name, and the presets of numerics."""
    names, presets = mrlinac.known_names(), mrlinac.known_presets()

    def show() -> None:
        print_pairs({kind: ", ".join(found) or "none" for kind, found in names.items()})
        console.out.print("[bold]numerics[/bold], presets for --set numerics=NAME:")
        for preset, statement in presets.items():
            console.out.print(f"  [bold]{preset}[/bold]: {escaped(statement)}")

    say({**names, "numerics": presets}, as_json, show)
