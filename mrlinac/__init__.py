"""mrlinac: an open MR-Linac adaptive radiotherapy planning simulator. For research, not a medical device.

Names are loaded when first used, so that ``import mrlinac`` costs nothing.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"

_HOME = {
    "MrlinacError": "mrlinac.errors",
    "Patient": "mrlinac.anatomy.patient",
    "PlanResult": "mrlinac.recipe.result",
    "PlanSpec": "mrlinac.recipe.spec",
    "RESEARCH_ONLY": "mrlinac.constants",
    "anonymise": "mrlinac.api",
    "cache_clear": "mrlinac.api",
    "cache_info": "mrlinac.api",
    "cache_list": "mrlinac.api",
    "check": "mrlinac.api",
    "check_device": "mrlinac.api",
    "check_early": "mrlinac.api",
    "check_evaluation_output": "mrlinac.api",
    "check_output": "mrlinac.api",
    "check_output_early": "mrlinac.api",
    "check_place": "mrlinac.errors",
    "check_recalculation": "mrlinac.api",
    "compare": "mrlinac.api",
    "evaluate": "mrlinac.api",
    "evaluation_as_dict": "mrlinac.api",
    "import_folder": "mrlinac.api",
    "known_names": "mrlinac.api",
    "known_presets": "mrlinac.api",
    "load_patient": "mrlinac.api",
    "load_plan": "mrlinac.recipe.spec",
    "load_result": "mrlinac.api",
    "make_plan": "mrlinac.api",
    "parse_set": "mrlinac.spec",
    "patient_of": "mrlinac.api",
    "phantom": "mrlinac.api",
    "planning_lacks": "mrlinac.api",
    "read_plan": "mrlinac.api",
    "recalculate": "mrlinac.api",
    "recalculate_plan": "mrlinac.api",
    "water_tank": "mrlinac.api",
    "write_evaluation": "mrlinac.api",
    "write_phantom": "mrlinac.api",
    "write_report": "mrlinac.api",
    "write_second_check": "mrlinac.api",
}
"""Where each public name lives."""

__all__ = [
    "RESEARCH_ONLY",
    "MrlinacError",
    "Patient",
    "PlanResult",
    "PlanSpec",
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
    "check_place",
    "check_recalculation",
    "compare",
    "evaluate",
    "evaluation_as_dict",
    "import_folder",
    "known_names",
    "known_presets",
    "load_patient",
    "load_plan",
    "load_result",
    "make_plan",
    "parse_set",
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

if TYPE_CHECKING:
    from mrlinac.anatomy.patient import Patient
    from mrlinac.api import (
        anonymise,
        cache_clear,
        cache_info,
        cache_list,
        check,
        check_device,
        check_early,
        check_evaluation_output,
        check_output,
        check_output_early,
        check_recalculation,
        compare,
        evaluate,
        evaluation_as_dict,
        import_folder,
        known_names,
        known_presets,
        load_patient,
        load_result,
        make_plan,
        patient_of,
        phantom,
        planning_lacks,
        read_plan,
        recalculate,
        recalculate_plan,
        water_tank,
        write_evaluation,
        write_phantom,
        write_report,
        write_second_check,
    )
    from mrlinac.constants import RESEARCH_ONLY
    from mrlinac.errors import MrlinacError, check_place
    from mrlinac.recipe.result import PlanResult
    from mrlinac.recipe.spec import PlanSpec, load_plan
    from mrlinac.spec import parse_set


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module 'mrlinac' has no attribute '{name}'")
    value = getattr(import_module(_HOME[name]), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return __all__
