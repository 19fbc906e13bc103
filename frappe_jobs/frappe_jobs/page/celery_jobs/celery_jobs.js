// What the pages of `frappe-jobs web` show, of this site: Frappe's own process is asked every few
// seconds.  Their style sheet and the Desk's do not meet: they are in a shadow tree.
frappe.pages["celery-jobs"].on_page_load = function (wrapper) {
	const page = frappe.ui.make_app_page({
		parent: wrapper,
		title: __("Celery Jobs"),
		single_column: true,
	});
	wrapper.celery_jobs = new CeleryJobs(page);
};

frappe.pages["celery-jobs"].on_page_show = function (wrapper) {
	wrapper.celery_jobs.go();
};

class CeleryJobs {
	constructor(page) {
		this.page = page;
		this.host = document.createElement("div");
		page.main[0].append(this.host);
		this.root = this.host.attachShadow({ mode: "open" });
		this.root.innerHTML = `<style></style><main class="within">
			<nav aria-label="${__("Pages")}"><ul></ul></nav>
			<div id="notice" class="notice" role="status" hidden></div>
			<div id="picture"></div></main>`;
		this.menu = this.root.querySelector("nav ul");
		this.notice = this.root.getElementById("notice");
		this.picture = this.root.getElementById("picture");
		this.call("style", {}).then((css) => (this.root.querySelector("style").textContent = css));
		this.root.addEventListener("click", (event) => this.follow(event));
		this.root.addEventListener("submit", (event) => this.submit(event));
		this.root.addEventListener("change", (event) => {
			const form = event.target.closest("form[data-in-place]");
			if (form && event.target.matches("select, input[type=checkbox]")) form.requestSubmit();
		});
		const theme = () =>
			(this.host.style.colorScheme =
				document.documentElement.dataset.theme === "dark" ? "dark" : "light");
		theme();
		new MutationObserver(theme).observe(document.documentElement, {
			attributeFilter: ["data-theme"],
		});
	}

	call(method, values) {
		return frappe.xcall(
			`frappe_jobs.frappe_jobs.page.celery_jobs.celery_jobs.${method}`,
			values
		);
	}

	// --- where we are: the Desk's route, so that its links can be kept and its way back works

	go() {
		const [, name, query] = frappe.get_route();
		this.path = `/${name || ""}`;
		this.query = query || "";
		this.shown = null;
		this.look();
	}

	to(address) {
		const url = new URL(address, location.origin);
		const query = url.search.slice(1);
		const name = url.pathname.slice(1);
		const parts = name ? [name, ...(query ? [query] : [])] : [];
		frappe.set_route("celery-jobs", ...parts);
	}

	follow(event) {
		const link = event.target.closest("a[href]");
		const href = link && link.getAttribute("href");
		const is_ours = href && href.startsWith("/") && !href.startsWith("/app/");
		if (!is_ours || event.ctrlKey || event.metaKey) return;
		event.preventDefault();
		this.to(href);
	}

	// --- the picture

	look() {
		clearTimeout(this.timer);
		const { path, query } = this;
		this.call("look", { page: path, query })
			.then((seen) => {
				if (path === this.path && query === this.query) this.show(seen);
			})
			.catch(() => this.say(__("The server does not answer.")))
			.finally(() => this.later());
	}

	later() {
		clearTimeout(this.timer);
		this.timer = setTimeout(() => {
			const is_here = frappe.get_route()[0] === "celery-jobs" && !document.hidden;
			if (is_here && !this.is_still && !this.is_busy()) this.look();
			else this.later();
		}, Math.max(5, this.pace || 0) * 1000);
	}

	is_busy() {
		const at = this.root.activeElement;
		const is_typing = at && at.matches("input:not([type=checkbox]), textarea, select");
		return is_typing || this.picture.querySelector("details.form[open]");
	}

	show(seen) {
		if (seen.menu) this.show_menu(seen.menu);
		this.say(seen.trouble || "");
		this.is_still = seen.is_still;
		this.pace = seen.pace;
		if (seen.trouble) {
			if (this.shown === null) this.picture.replaceChildren();
			return;
		}
		this.page.set_title(frappe.utils.escape_html(seen.title));
		if (seen.html === this.shown) return;
		const open = [...this.picture.querySelectorAll("details")].map((one) => one.open);
		const is_new = this.shown === null;
		this.shown = seen.html;
		this.picture.innerHTML = seen.html; // the server has escaped all that jobs have brought
		const now = [...this.picture.querySelectorAll("details")];
		if (!is_new && now.length === open.length) now.forEach((one, at) => (one.open = open[at]));
	}

	show_menu(menu) {
		const items = menu.map(([path, title]) => {
			const item = document.createElement("li");
			const link = document.createElement("a");
			link.href = path;
			link.textContent = title;
			const here = { "/job": "/jobs", "/bulk": "/jobs" }[this.path] || this.path;
			if (path === here) link.setAttribute("aria-current", "page");
			item.append(link);
			return item;
		});
		this.menu.replaceChildren(...items);
	}

	say(text) {
		this.notice.textContent = text;
		this.notice.hidden = !text;
	}

	// --- forms

	submit(event) {
		event.preventDefault();
		const form = event.target;
		const action = form.getAttribute("action");
		const given = [...new FormData(form)].filter(([name]) => name !== "token");
		// Not form.method: a form's own field of that name would be found.
		if (form.getAttribute("method") === "get") {
			const query = new URLSearchParams(given.filter(([, value]) => value)).toString();
			this.to(action + (query && `?${query}`));
			return;
		}
		const name = action.replace("/act/", "");
		this.call("act", { name, form: new URLSearchParams(given).toString() })
			.then((done) => {
				if (done.said) frappe.show_alert(frappe.utils.escape_html(done.said));
				const before = frappe.get_route_str();
				this.to(done.to);
				if (before === frappe.get_route_str()) this.go();
			})
			.catch(() => this.look()); // Frappe itself has said why
	}
}
