"""mrlinac: an open MR-Linac adaptive radiotherapy planning simulator. For research, not a medical device.

Names are loaded when first used, so that ``import mrlinac`` costs nothing.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"

_HOME = {
    "RESEARCH_ONLY": "mrlinac.constants",
    "MrlinacError": "mrlinac.errors",
    "parse_set": "mrlinac.spec",
    "load_plan": "mrlinac.recipe.spec",
    "load_result": "mrlinac.api",
    "check": "mrlinac.api",
    "check_output": "mrlinac.api",
    "compare": "mrlinac.api",
    "cache_clear": "mrlinac.api",
    "cache_info": "mrlinac.api",
    "goal_text": "mrlinac.report.tables",
    "known_names": "mrlinac.api",
    "patient_of": "mrlinac.api",
    "load_patient": "mrlinac.api",
    "make_plan": "mrlinac.api",
    "phantom": "mrlinac.api",
    "recalculate": "mrlinac.api",
    "write_phantom": "mrlinac.api",
    "write_report": "mrlinac.api",
}
__all__ = sorted([*_HOME, "__version__"])

if TYPE_CHECKING:
    from mrlinac.api import (
        cache_clear,
        cache_info,
        check,
        check_output,
        compare,
        known_names,
        patient_of,
        load_patient,
        load_result,
        make_plan,
        phantom,
        recalculate,
        write_phantom,
        write_report,
    )
    from mrlinac.constants import RESEARCH_ONLY
    from mrlinac.errors import MrlinacError
    from mrlinac.recipe.spec import load_plan
    from mrlinac.report.tables import goal_text
    from mrlinac.spec import parse_set


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module 'mrlinac' has no attribute '{name}'")
    value = getattr(import_module(_HOME[name]), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return __all__
