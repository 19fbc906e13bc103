"""Celery's settings, made from the bench's configuration (`celery -A frappe_jobs` has the same)."""

from frappe_jobs.celery.app import celery_settings
from frappe_jobs.config import load_settings

globals().update(celery_settings(load_settings()))
