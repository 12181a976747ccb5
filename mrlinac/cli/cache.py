"""`mrlinac cache`."""

from __future__ import annotations

from typing import Annotated, Any

import typer
from rich.table import Table

import mrlinac
from mrlinac.cli import console
from mrlinac.cli.app import app
from mrlinac.cli.options import (
    AsJson,
)
from mrlinac.cli.show import (
    print_pairs,
    say,
)

cache = typer.Typer(no_args_is_help=True, help="What was computed before and kept on disk.")
app.add_typer(cache, name="cache")
app.add_typer(cache, name="cache")


@cache.command("info")
def cache_info(as_json: AsJson = False) -> None:
    """Where the cache is and how large."""
    info = mrlinac.cache_info()
    say(info, as_json, lambda: print_pairs(info))


@cache.command("list")
def cache_list(as_json: AsJson = False) -> None:
    """What the cache holds: influences and compiled kernels, with size and age."""
    rows = mrlinac.cache_list()
    say(rows, as_json, lambda: _print_cache(rows))


@cache.command("clear")
def cache_clear(
    old_kernels: Annotated[
        bool, typer.Option("--old-kernels", help="Only kernels that other versions of the code compiled.")
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Remove everything from the cache, compiled kernels included."""
    freed = mrlinac.cache_clear(old_kernels_only=old_kernels)
    say({"freed_bytes": freed}, as_json, lambda: console.out.print(f"freed {freed / 1e6:.1f} MB"))


def _print_cache(rows: list[dict[str, Any]]) -> None:
    table = Table("kind", "key", "MB", "age (days)", "")
    remarks = {True: "in use by this version", False: "of another version of the code", None: ""}
    for row in rows:
        words = (row["kind"], row["key"][:12], f"{row['bytes'] / 1e6:.1f}", f"{row['age_days']:.1f}")
        table.add_row(*words, remarks[row["current"]])
    console.out.print(table if rows else "the cache is empty")
