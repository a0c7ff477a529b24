"""Plots, tables and HTML pages, made from plain values."""
