"""dicompyler-core's own reader and DVH calculation, for cross-checks of ours.

dicompyler-core 0.5.6 (the newest release) looks for ``pydicom.dicomio.read_file``, which pydicom 3 removed; upstream
has fixed it but not released the fix. This is the one place that puts the old name back.
"""

from __future__ import annotations

from typing import Any

import pydicom
import pydicom.dicomio


def modules() -> tuple[Any, Any]:
    """``dicompylercore.dicomparser`` and ``dicompylercore.dvhcalc``, importable with pydicom 3."""
    if not hasattr(pydicom.dicomio, "read_file"):
        pydicom.dicomio.read_file = pydicom.dcmread  # type: ignore[attr-defined]
    from dicompylercore import dicomparser, dvhcalc

    return dicomparser, dvhcalc
