"""The report of a run: one HTML file that opens offline, its figures as SVG and PDF, its tables as CSV and Markdown."""

from reticket.report.build import build_report

__all__ = ["build_report"]
