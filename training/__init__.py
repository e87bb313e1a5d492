"""Fitting, measuring and gating of models; the only package that imports TensorFlow.

To change the training rows, see dataset.py; their slices and the purge, splits.py; calibration, calibrate.py.
To change the figures, see metrics.py and evaluation.py; what the gate requires, gate.py.
To change how bundles are made, see bundling.py, export.py; registration, versions.py; training from files, offline.py.
To add a family, see families/; a report, reports/; to change walk-forward or search, walk_forward/ and search/.
May import candlecast.
"""
