"""From facts to findings. Pure: the same evidence always gives the same findings."""

from udpkit.diagnosis.engine import RULES, diagnose
from udpkit.diagnosis.finding import Finding, Offer, Severity

__all__ = ["RULES", "Finding", "Offer", "Severity", "diagnose"]
