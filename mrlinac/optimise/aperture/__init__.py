"""Apertures that leaves can form, found by column generation.

Comes in: a planner over beamlets, and the rules of the leaves. Goes out: a planner over segments, and their MU.
"""
