"""Celery's settings, made from the bench's configuration (`celery -A frappe_jobs` has the same)."""

from pathlib import Path

from frappe_jobs.celery.app import celery_settings
from frappe_jobs.config import load_settings

# An editable install puts this folder on the path: there it is no other Celery's configuration.
if Path.cwd() != Path(__file__).resolve().parent:
    raise ImportError("These settings are for who runs Celery in their folder.", name=__name__)

globals().update(celery_settings(load_settings()))
