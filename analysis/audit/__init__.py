"""The audit of a user's own flow: ``audit(model, data, path=...)`` returns a report.

What the user gives is in ``subject`` and ``data``; ``declaration`` compares it with the data, ``measure`` and ``truth``
measure, ``report`` and ``advice`` say what was found.
"""

from analysis.audit.api import AuditReport, audit, run
from analysis.audit.measure import AuditOptions
from analysis.audit.refusal import AuditError
from analysis.audit.subject import Audited

__all__ = ["AuditError", "AuditOptions", "AuditReport", "Audited", "audit", "run"]
