"""The recipes: engines called in order, straight down, from a plan's file to a result.

Comes in: a plan file and a patient, or any system's dose. Goes out: a plan's result or an evaluation, and its folder.
"""
