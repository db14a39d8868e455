"""The report: one self-contained HTML page of a run."""

from smoothctl.reporting.page import NUMBERS, report, write_report

__all__ = ["NUMBERS", "report", "write_report"]
