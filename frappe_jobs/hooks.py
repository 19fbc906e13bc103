"""What Frappe reads about an app that is installed on its sites."""

app_name = "frappe_jobs"
app_title = "Frappe Jobs"
app_publisher = "frappe_jobs"
app_description = "Background jobs on Celery"
app_email = "jobs@example.com"
app_license = "mit"

after_install = "frappe_jobs.frappe_bench.events.after_install"
before_uninstall = "frappe_jobs.frappe_bench.events.before_uninstall"
after_migrate = ["frappe_jobs.frappe_bench.events.after_migrate"]

override_doctype_class = {
    "RQ Job": "frappe_jobs.frappe_bench.desk.RQJob",
    "RQ Worker": "frappe_jobs.frappe_bench.desk.RQWorker",
    "Scheduled Job Type": "frappe_jobs.frappe_bench.schedule.ScheduledJobType",
}
override_whitelisted_methods = {
    "frappe.core.doctype.rq_job.rq_job.remove_failed_jobs": (
        "frappe_jobs.frappe_bench.desk.remove_failed_jobs"
    ),
    # The form's button of Frappe 16 and later.
    "frappe.core.doctype.scheduled_job_type.scheduled_job_type.skip_next_execution": (
        "frappe_jobs.frappe_bench.schedule.skip_next_execution"
    ),
}
# Frappe 16's and later's own Background Task, among whose rows are tracked jobs.
_tasks = "frappe.core.doctype.background_task.background_task."
override_whitelisted_methods |= {
    f"{_tasks}stop_task": "frappe_jobs.frappe_bench.tracked_task.stop_task",
    f"{_tasks}retry_task": "frappe_jobs.frappe_bench.tracked_task.retry_task",
}
extend_doctype_class = {"Background Task": ["frappe_jobs.frappe_bench.tracked_task.AmongFrappes"]}
doctype_js = {"RQ Job": "public/js/rq_job.js"}

_changed = "frappe_jobs.frappe_bench.events.scheduled_job_type_changed"
doc_events = {
    "Scheduled Job Type": dict.fromkeys(["after_insert", "on_update", "after_delete"], _changed),
    "Background Task": {"after_insert": "frappe_jobs.frappe_bench.events.background_task_added"},
}
