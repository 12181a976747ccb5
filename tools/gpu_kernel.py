"""Compile the GPU's kernel to PTX, without a GPU, and say what the assembler makes of it.

    python tools/gpu_kernel.py --cc 9.0    # compute capability: 8.0 is an A100, 9.0 an H100 or H200

Needs the extra ``gpu`` (numba-cuda and NVIDIA's compiler libraries). Registers, stack and spills need ``ptxas`` too, on
the path or from the package nvidia-cuda-nvcc; without it only the PTX is made. Prints one JSON object.
"""

from __future__ import annotations

import argparse
import json
import re
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np


def compiled(capability: tuple[int, int]) -> tuple[str, float]:
    """The kernel's PTX and the seconds it took."""
    import numba.cuda.dispatcher
    from numba import cuda, typeof

    # Device functions ask for the capability of the card in use, though the caller has said one.
    numba.cuda.dispatcher.get_current_device = lambda: SimpleNamespace(compute_capability=capability)
    from mrlinac.transport import gpu

    started = time.perf_counter()
    ptx, _ = cuda.compile_ptx(gpu.follow, tuple(typeof(argument) for argument in arguments()), cc=capability)
    return ptx, time.perf_counter() - started


def arguments() -> tuple[Any, ...]:
    """Arguments of the types that :class:`mrlinac.transport.gpu.Worker` passes."""
    from mrlinac.anatomy.grid import Grid
    from mrlinac.anatomy.medium import Medium
    from mrlinac.transport import cpu, gpu, history, source, tables
    from mrlinac.transport.tables import Settings

    grid = Grid((2, 2, 2), (3.0, 3.0, 3.0), (0.0, 0.0, 0.0))
    medium = Medium(grid, np.ones(grid.shape_zyx, np.float32), np.zeros(grid.shape_zyx, np.uint8), ("water",))
    table = tables.load(medium.materials, Settings())
    geometry, code = cpu.pack(medium, table, (0.0, 0.0, 1.5))
    beamline = history.Beamline(np.zeros(2), np.zeros(1), np.zeros(1, np.int64), np.zeros(2))
    return (
        np.zeros((1, source.COLUMNS)),
        np.zeros(1, np.int64),
        np.zeros(1, np.int64),
        np.zeros((1, 5), np.uint64),
        beamline,
        type(table)(*(array.copy() for array in table)),  # the tables are read-only on the host
        geometry,
        code,
        np.zeros(len(code)),
        np.zeros(gpu.COUNTERS, np.int64),
        np.zeros(gpu.ENERGIES),
        0,
        1,
    )


def assembled(ptx: str, capability: tuple[int, int]) -> dict[str, int]:
    """Registers, and bytes of stack and spills per thread; empty without the assembler."""
    packaged = sorted(Path(sys.prefix).rglob("nvidia/**/bin/ptxas*"))
    ptxas = str(packaged[0]) if packaged else shutil.which("ptxas")
    if ptxas is None:
        return {}
    from mrlinac.transport import gpu

    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "kernel.ptx"
        path.write_text(ptx)
        arch = "sm_{}{}".format(*capability)
        limit, out = f"--maxrregcount={gpu.REGISTERS}", str(path.with_suffix(".cubin"))
        command = [ptxas, "-v", f"-arch={arch}", limit, str(path), "-o", out]
        said = subprocess.run(command, capture_output=True, text=True, check=True).stderr
    entry = said[said.index("Compiling entry function") :]
    wanted = {
        "registers": r"Used (\d+) registers",
        "stack_bytes": r"(\d+) bytes stack frame",
        "spill_store_bytes": r"(\d+) bytes spill stores",
        "spill_load_bytes": r"(\d+) bytes spill loads",
    }
    found = {name: re.search(pattern, entry) for name, pattern in wanted.items()}
    return {name: int(match[1]) for name, match in found.items() if match}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cc", default="9.0", help="compute capability")
    parser.add_argument("--out", type=Path, help="write the PTX here")
    given = parser.parse_args()
    major, minor = map(int, given.cc.split("."))
    ptx, seconds = compiled((major, minor))
    if given.out:
        given.out.write_text(ptx)
    target = re.search(r"\.target (\S+)", ptx)
    print(
        json.dumps(
            {
                "target": target[1].rstrip(",") if target else "",
                "ptx_bytes": len(ptx),
                "compile_s": round(seconds, 1),
                **assembled(ptx, (major, minor)),
            }
        )
    )


if __name__ == "__main__":
    main()
