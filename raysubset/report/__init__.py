"""Reports: what a run's ledger says, as tables, a verdict, charts and pages to read.

Everything shown is read from the run folder; matplotlib and jinja2 are imported when a page is
written, not before.
"""
