"""Rows of data files: one broken row costs that row alone, and a file that is no whole file is one sentence."""

from presafe.files.reading import file_rows
from presafe.files.row import Problem, Rows, Wanted, objects

__all__ = ["Problem", "Rows", "Wanted", "file_rows", "objects"]
