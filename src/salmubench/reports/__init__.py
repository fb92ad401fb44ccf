"""What people look at: the table in the terminal, and the static page with its figures. Reads reports, never a model."""

from salmubench.reports.site import build_site
from salmubench.reports.terminal import table

__all__ = ["build_site", "table"]
