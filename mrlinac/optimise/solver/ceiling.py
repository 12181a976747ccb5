"""A prescription that no plan exceeds, for the whole matrix.

The solver's own bound is for the entries that its matrix has, with an offset and a price for those cut away, which are
guesses. Whatever multipliers y of a limit's hinges and μ of the limit are, every plan that keeps the limit fulfils

    Σ y_i r_i(z) - loss(y, μ) + μ (G z - h) <= μ e,    r the hinges' residuals, loss what φ or a norm can take off,

which is linear in z = (x, t) and in the excess e, and can be written with all entries. The highest prescription under
these inequalities, one for each limit and solve, is a bound: a linear programme of few rows. Where an earlier solve's
prices were too high for the whole matrix and a later one's too low, it finds what lies between.
"""

from __future__ import annotations

import numpy as np
import scipy.sparse as sp
from scipy import optimize

from mrlinac.optimise.canonical import Programme
from mrlinac.optimise.solver.maps import BOX_X, Array, Maps, Point
from mrlinac.optimise.solver.matrix import RowMatrix


class Ceiling:
    """The inequalities that solves of one escalating programme have given.

    Parameters
    ----------
    programme : Programme
        As it is for the whole matrix: no dose or price of entries cut away in it.
    matrix : RowMatrix
        The solver's.
    """

    def __init__(self, programme: Programme, matrix: RowMatrix) -> None:
        if not programme.escalates:
            raise ValueError("only a programme that seeks the prescription has a ceiling")
        self._maps, self._full, self._unit_mu = Maps(programme, matrix), programme.rows.full, programme.unit_mu
        self._left: list[Array] = []
        self._right: list[Array] = []
        self._excess: list[Array] = []

    def add(self, q: Point) -> None:
        """One inequality a limit, at the multipliers of a point."""
        maps = self._maps
        mu, y, loss = maps.multipliers(q)
        held = np.flatnonzero(maps.has_limit)
        on_rows, on_levels = np.zeros((self._full.shape[0], maps.m)), np.zeros((maps.m, maps.tails))
        np.add.at(on_rows, (maps.row[held], maps.limit[held]), (maps.sign * y)[held])
        moved = held[maps.has_tail[held]]
        np.add.at(on_levels, (maps.limit[moved], maps.tail[moved]), -(maps.pull * y)[moved])
        of_fluence = self._unit_mu * np.asarray(self._full.T @ on_rows).T
        left = np.concatenate([of_fluence, on_levels], axis=1) + mu[:, None] * maps.G
        # Rows of one size, for the linear programme.
        size = np.maximum(np.abs(left).max(axis=1), np.finfo(float).tiny)
        self._left.append(left / size[:, None])
        self._right.append((mu * maps.h + maps.to_limits(y * maps.b + loss)) / size)
        self._excess.append(mu / size)

    def bound_Gy(self) -> float:
        """The highest prescription under all inequalities added, 0 <= x <= BOX_X and levels in their box.

        What is returned is the Lagrangian at the linear programme's multipliers, which is a bound whatever that solver did.
        """
        maps, count = self._maps, len(self._left)
        left, right, excess = np.concatenate(self._left), np.concatenate(self._right), np.concatenate(self._excess)
        limit = np.tile(np.arange(maps.m), count)
        most = np.concatenate([np.full(maps.n, BOX_X), maps.box_t])
        in_excess = sp.csr_array((-excess, (np.arange(len(limit)), limit)), shape=(len(limit), maps.m))
        solution = optimize.linprog(
            np.concatenate([maps.g, np.full(maps.m, maps.price)]),
            A_ub=sp.hstack([sp.csr_array(left), in_excess]),
            b_ub=right,
            bounds=np.stack([np.zeros(len(most) + maps.m), np.concatenate([most, np.full(maps.m, np.inf)])], axis=1),
            method="highs",
            options={"dual_feasibility_tolerance": 1e-9},
        )
        if solution.status != 0:  # nothing is known
            return float(most[-1])
        price = np.maximum(-solution.ineqlin.marginals, 0)
        of_limit = np.bincount(limit, weights=price * excess, minlength=maps.m)
        price = price * np.minimum(1.0, maps.price / np.maximum(of_limit, 1e-300))[limit]
        reduced = maps.g + price @ left
        return float(price @ right - np.minimum(reduced, 0) @ most)
