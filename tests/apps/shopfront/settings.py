"""A Django project whose tasks are our jobs."""

import os
from importlib.util import find_spec

import django

INSTALLED_APPS = ["shopfront"]
if django.VERSION < (6,) and find_spec("django_tasks"):
    INSTALLED_APPS.append("django_tasks")
SECRET_KEY = "of a test"
USE_TZ = True
TIME_ZONE = "UTC"  # Django puts the process into it: without one into Chicago's
DATABASES = {
    "default": {
        "ENGINE": "django.db.backends.sqlite3",
        "NAME": os.environ.get("SHOPFRONT_DATABASE", ":memory:"),
    }
}
BACKEND = "frappe_jobs.django.JobsBackend"
TASKS = {
    "default": {"BACKEND": BACKEND, "QUEUES": ["default", "short"]},
    "patient": {"BACKEND": BACKEND, "OPTIONS": {"retry": 1, "user": "grete", "timeout": 77}},
    "on commit": {"BACKEND": BACKEND, "ENQUEUE_ON_COMMIT": True},
}
