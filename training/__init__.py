"""Fitting, measuring and gating models. The only package that imports TensorFlow."""
