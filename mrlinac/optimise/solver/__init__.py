"""The solver of the canonical programme: an interior-point method with a certificate, and cvxpy as the reference."""
