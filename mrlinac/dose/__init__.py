"""Dose and what is read off it: the grid of Gy, the influence, DVHs, metrics with their noise, gamma.

Comes in: arrays in Gy, with batches where a Monte Carlo made them. Goes out: numbers that a protocol is judged by.
"""
