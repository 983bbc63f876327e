"""Exporting: a run's choice in the forms that other tools read, each with gain and round."""

from raysubset.exporting.forms import FORMS, Form, export_as

__all__ = ["FORMS", "Form", "export_as"]
