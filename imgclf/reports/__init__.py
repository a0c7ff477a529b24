"""Plots and pages, drawn from plain values."""
