"""Rounds with the forward dose: plan, compute the dose, give the difference back, plan again; the isotoxic prescription."""
