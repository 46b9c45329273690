"""Compares Trefoil with the systems that people run today: what scripts/compare.sh calls."""
