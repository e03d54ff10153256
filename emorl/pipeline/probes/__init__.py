"""Probes: what the code computes, in a few numbers that do not depend on how it is written.

A name that holds such numbers changes with the mathematics and survives renovation (`emorl.pipeline.identity`). Each
probe runs the project's own code on a CPU, in float64 where there are floats, on inputs that depend on nothing else:

  training.py     optimiser steps of a model with a run's own settings, in each phase of its curriculum and GECO
  inference.py    what a trained model infers and decodes, by each method that evaluations measure
  data.py         the first records of a data set, read or drawn, through preparation
  evaluation.py   an evaluation's scores of fixed decompositions

What they cannot see (bfloat16, compiled parts, several GPUs, a CPU's instruction set) is in a run's manifest.
"""
