"""Operator maths of ADMM, central benchmark, prices and bilateral trades."""
