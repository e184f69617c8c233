"""report.html: what a version is and how it was proven, on one page for a person."""
