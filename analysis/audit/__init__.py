"""The audit of a user's own flow: what the user gives (``subject``), measurement, and report."""

from analysis.audit.measure import run
from analysis.audit.subject import Audited, AuditError

__all__ = ["AuditError", "Audited", "run"]
