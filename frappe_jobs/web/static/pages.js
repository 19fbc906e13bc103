// Keeps the picture fresh, says when it is not, and moves by keyboard.  Pages work without it.
"use strict";

(() => {
  const picture = document.getElementById("picture");
  const notice = document.getElementById("notice");
  const sign = document.getElementById("live");
  const HOUR = 3600, DAY = 24 * HOUR;
  let stream = null, away = false, seen = Date.now(), retry = null;

  // --- times: as the server writes them (doctor/text.py, web/looks.py)

  function duration(seconds) {
    for (const [unit, length] of [["days", DAY], ["h", HOUR], ["min", 60]]) {
      if (seconds >= 2 * length) return `${Math.floor(seconds / length)} ${unit}`;
    }
    return `${Math.round(seconds)} s`;
  }

  function ago(seconds) {
    if (Math.abs(seconds) < 1) return "just now";
    return seconds > 0 ? `${duration(seconds)} ago` : `in ${duration(-seconds)}`;
  }

  function age() {
    for (const one of document.querySelectorAll("time[datetime]")) {
      const seconds = (Date.now() - Date.parse(one.dateTime)) / 1000;
      const said = one.classList.contains("since") ? duration(Math.max(0, seconds)) : ago(seconds);
      if (one.textContent !== said) one.textContent = said;
    }
  }

  // --- what is said above the picture

  function say(text) {
    notice.textContent = text;
    notice.hidden = !text;
  }

  function wentAway(why) {
    if (!away) seen = Date.now();
    away = true;
    document.body.classList.add("stale");
    sign.hidden = true;
    const at = new Date(seen).toLocaleTimeString();
    say(`${why} This is the picture of ${at}; it is renewed by itself.`);
  }

  function cameBack() {
    if (away) say("");
    away = false;
    document.body.classList.remove("stale");
    sign.hidden = false;
  }

  // --- the stream: closed while nobody sees the page, since a browser has few connections

  function isEditing() {
    const at = document.activeElement;
    return picture.contains(at) && at.matches("input:not([type=checkbox]), textarea, select");
  }

  function show(html) {
    if (!isEditing() && !picture.querySelector("details.form[open]")) change(html);
  }

  function change(html) {
    Idiomorph.morph(picture, html, {
      morphStyle: "innerHTML",
      ignoreActiveValue: true,
      callbacks: {
        // What somebody has opened or ticked stays so.
        beforeAttributeUpdated: (name, node) =>
          !(name === "open" && node.tagName === "DETAILS") &&
          !(name === "checked" && node.tagName === "INPUT"),
      },
    });
    age();
    mark();
    reach();
  }

  // What is wider than its place is scrolled by keyboard, too.
  function reach() {
    for (const one of document.querySelectorAll(".scroll")) {
      if (one.scrollWidth > one.clientWidth) one.tabIndex = 0;
      else one.removeAttribute("tabindex");
    }
  }

  function open() {
    const at = picture && picture.dataset.stream;
    if (!at || stream || document.hidden) return;
    stream = new EventSource(at);
    const on = (name, act) =>
      stream.addEventListener(name, (event) => { retry = null; act(JSON.parse(event.data)); });
    on("picture", (html) => { cameBack(); show(html); });
    on("away", (text) => wentAway(text.replace(/\.?$/, ".")));
    on("gone", (text) => wentAway(text.replace(/\.?$/, ".")));
    on("over", () => { close(); location.reload(); });
    stream.onerror = () => {
      const refused = stream.readyState === EventSource.CLOSED;
      wentAway("The pages' server does not answer.");
      if (refused) { close(); retry = setTimeout(open, 5000); }
    };
  }

  function close() {
    clearTimeout(retry);
    if (stream) stream.close();
    stream = null;
  }

  document.addEventListener("visibilitychange", () => (document.hidden ? close() : open()));
  addEventListener("pagehide", close);
  addEventListener("pageshow", open);

  // --- the keyboard: j and k from row to row, Enter opens, / goes to the filters

  let chosen = null;

  function mark() {
    for (const row of document.querySelectorAll("tr.chosen")) row.classList.remove("chosen");
    const row = chosen && document.getElementById(chosen);
    if (row) row.classList.add("chosen");
    return row;
  }

  function step(by) {
    const rows = [...document.querySelectorAll("tr[data-row]")];
    if (!rows.length) return;
    const at = rows.findIndex((row) => row.id === chosen);
    const next = at < 0 ? 0 : Math.min(rows.length - 1, Math.max(0, at + by));
    chosen = rows[next].id;
    mark();
    rows[next].querySelector("a").focus();
    rows[next].scrollIntoView({ block: "nearest" });
  }

  document.addEventListener("keydown", (event) => {
    if (event.ctrlKey || event.metaKey || event.altKey) return;
    if (event.target.matches("input, textarea, select")) return;
    if (event.key === "j") step(1);
    else if (event.key === "k") step(-1);
    else if (event.key === "/") {
      const first = document.querySelector(".filters input, .filters select");
      if (first) { event.preventDefault(); first.focus(); }
    }
  });

  // --- filters: at once, in place, and empty ones not in the address

  async function go(address) {
    try {
      const reply = await fetch(address);
      const its = new DOMParser().parseFromString(await reply.text(), "text/html");
      const found = its.getElementById("picture");
      history.pushState(null, "", address);
      close();
      picture.dataset.stream = found.dataset.stream || "";
      sign.hidden = true;
      change(found.innerHTML);
      open();
    } catch {
      location.assign(address); // its server is away, or somebody must log in
    }
  }

  addEventListener("popstate", () => location.reload());

  document.addEventListener("change", (event) => {
    const form = event.target.closest("form[data-in-place]");
    if (form && event.target.matches("select, input[type=checkbox]")) form.requestSubmit();
  });

  document.addEventListener("submit", (event) => {
    const form = event.target;
    if (!form.matches("[data-in-place]")) return;
    event.preventDefault();
    const given = [...new FormData(form)].filter(([, value]) => value);
    const query = new URLSearchParams(given).toString();
    go(form.getAttribute("action") + (query && `?${query}`));
  });

  const here = document.querySelector("nav [aria-current]");
  const list = here && here.closest("nav");
  if (list && list.scrollWidth > list.clientWidth) list.scrollLeft = here.offsetLeft - 24;

  age();
  reach();
  addEventListener("resize", reach);
  setInterval(age, 1000);
  if (picture) open();
})();
