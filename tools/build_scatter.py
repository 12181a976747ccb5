"""Build mrlinac/data/scatter.npz: the Goudsmit-Saunderson quantiles. Run from the repository's root."""

import numpy as np

from mrlinac.transport import scatter

w, scale = scatter.build()
np.savez_compressed(scatter.FILE, w=w, scale=scale)
print(f"{scatter.FILE}: {w.shape}, scale {scale.min():.3g} to {scale.max():.3g}")
