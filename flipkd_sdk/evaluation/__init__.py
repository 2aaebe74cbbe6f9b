"""Evaluation of scores against labels: metrics, intervals, calibration, retrieval."""
