"""The machine and what it is told to do: its file, beams, beamlets, leaves, deliveries.

Comes in: a machine's TOML file and a target. Goes out: beams in patient coordinates, and deliveries (a fluence or
segments).
"""
