"""The audit of a user's own flow: what the user gives (``subject``), measurement, and report."""

from analysis.audit.measure import AuditOptions, run
from analysis.audit.subject import Audited, AuditError

__all__ = ["AuditError", "AuditOptions", "Audited", "run"]
