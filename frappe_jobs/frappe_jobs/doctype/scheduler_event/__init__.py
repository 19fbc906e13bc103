"""Scheduler Event: what schedules may be made against."""
