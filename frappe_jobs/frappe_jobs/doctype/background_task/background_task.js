// Its owner cancels a job that waits or runs, and has one run again that failed or was cancelled.
const BACKGROUND_TASK =
	"frappe_jobs.frappe_jobs.doctype.background_task.background_task";

frappe.ui.form.on("Background Task", {
	refresh: function (frm) {
		frm.disable_save();
		if (![frm.doc.user, "Administrator"].includes(frappe.session.user)) return;
		const button = (label, method) =>
			frm.add_custom_button(label, () =>
				frappe
					.xcall(`${BACKGROUND_TASK}.${method}`, { name: frm.doc.name })
					.then(() => frm.reload_doc())
			);
		if (["Queued", "Running"].includes(frm.doc.status)) {
			button(__("Cancel Job"), "cancel");
		} else if (["Failed", "Cancelled"].includes(frm.doc.status)) {
			button(__("Run Again"), "run_again");
		}
	},
});
