"""A result as people read it: on the terminal, as Markdown, and as one page to look at."""

from clients.bench.report.save import check_folder, save_report
from clients.bench.report.tables import print_result

__all__ = ["check_folder", "print_result", "save_report"]
