"""Metrics for Prometheus, all of them from what Redis knows; needs the extra ``metrics``."""
