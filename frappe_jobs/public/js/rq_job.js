// A job that has ended can be run again, beside what Frappe's own page offers.
frappe.ui.form.on("RQ Job", {
	refresh: function (frm) {
		if (["failed", "finished", "stopped", "canceled"].includes(frm.doc.status)) {
			frm.add_custom_button(__("Retry"), () => {
				frappe
					.xcall("frappe_jobs.frappe_bench.desk.retry_job", { job_id: frm.doc.name })
					.then(() => {
						frappe.show_alert(__("The job waits to be run again."));
						frm.reload_doc();
					});
			});
		}
	},
});
