"""Scans: outer products of named axes, in blocks, on any executor, into a store that resumes."""

from srfx.scans.formats import export, open_scan
from srfx.scans.merging import merge
from srfx.scans.run import scan

__all__ = ["export", "merge", "open_scan", "scan"]
