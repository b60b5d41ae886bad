"""The audit of a user's own flow: the subject that the user provides, its measurement, and the report."""

from analysis.audit.measure import AuditOptions, run
from analysis.audit.subject import Audited, AuditError

__all__ = ["AuditError", "AuditOptions", "Audited", "run"]
