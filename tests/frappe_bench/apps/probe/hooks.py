app_name = "probe"
app_title = "Probe"
app_publisher = "frappe_jobs"
app_description = "Jobs that say what they found"
app_email = "probe@example.com"
app_license = "mit"

before_job = ["probe.tasks.note_before_job"]
after_job = ["probe.tasks.note_after_job"]
scheduled_against = {"ToDo": "probe.tasks.tick"}
