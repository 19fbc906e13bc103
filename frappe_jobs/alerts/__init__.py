"""Alerts: what a bench says by itself when it needs somebody, once, and once when it is over."""
