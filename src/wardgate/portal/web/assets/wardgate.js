"use strict";
// Comfort for pages that work without it: theme, palette, live update, copying, filters that apply themselves.
(() => {
  const root = document.documentElement;
  const $ = (selector, within = document) => within.querySelector(selector);
  const $$ = (selector, within = document) => [...within.querySelectorAll(selector)];
  const remember = (name, value) => { try { localStorage.setItem(name, value); } catch { /* not remembered */ } };
  const later = (wait, work) => { let timer; return (...given) => { clearTimeout(timer); timer = setTimeout(() => work(...given), wait); }; };

  // Theme and sidebar
  function showTheme() {
    const theme = root.dataset.theme || "system";
    for (const one of $$("[data-theme-choice]")) one.setAttribute("aria-pressed", String(one.dataset.themeChoice === theme));
  }
  function choose(theme) {
    if (theme === "system") delete root.dataset.theme; else root.dataset.theme = theme;
    remember("theme", theme);
    showTheme();
  }

  // Live: one stream a page, closed while nobody looks
  let stream = null, following = "", missed = false, lostTimer = 0, retryIn = 5000;
  function follow() {
    const path = document.hidden ? "" : ($("main")?.dataset.live ?? "");
    if (path === following && stream && stream.readyState !== EventSource.CLOSED) return;
    stream?.close();
    stream = null;
    following = path;
    if (!path) { missed = true; return; }
    stream = new EventSource(`${path}&seen=${$("main").dataset.seen}`);
    stream.addEventListener("following", () => {
      clearTimeout(lostTimer);
      $("#lost")?.setAttribute("hidden", "");
      retryIn = 5000;
      if (missed) refresh();
      missed = false;
    });
    stream.addEventListener("changed", refresh);
    stream.addEventListener("error", () => {
      missed = true;
      clearTimeout(lostTimer);
      lostTimer = setTimeout(() => $("#lost")?.removeAttribute("hidden"), 1500);
      if (stream?.readyState !== EventSource.CLOSED) return;
      setTimeout(follow, retryIn);
      retryIn = Math.min(retryIn * 2, 120000);
    });
  }
  // One at a time: of two answers that are under way together, the older one could come last, and stay.
  let isReading = false, isOutdated = false;
  const refresh = later(30, async () => {
    isOutdated = true;
    if (isReading) return;
    isReading = true;
    try {
      while (isOutdated) {
        isOutdated = false;
        await readAgain();
      }
    } finally { isReading = false; }
  });
  async function readAgain() {
    const main = $("main"), path = main?.dataset.liveUrl || location.href, before = location.href;
    const answer = await fetch(path, { headers: { accept: "text/html" } }).catch(() => null);
    if (!answer?.ok || answer.redirected || location.href !== before) return;
    const text = await answer.text().catch(() => null);
    if (text === null) return;
    const now = new DOMParser().parseFromString(text, "text/html");
    showTimes(now);
    const counted = $("[data-counts]")?.textContent;
    if (counted) for (const one of $$("[data-counts]", now)) one.textContent = counted;
    for (const part of $$("[data-live-part]")) {
      const fresh = now.getElementById(part.id);
      if (fresh && !part.contains(document.activeElement?.closest("form"))) morph(part, fresh);
    }
    const rows = $("[data-live-rows]"), fresh = $("[data-live-rows]", now);
    if (!main.dataset.liveUrl && (rows || fresh)) mergeRows(rows, fresh);
    count();
  }

  // How many a search finds is asked apart: the page does not wait for it.
  async function count() {
    const path = $("[data-counts]")?.dataset.counts;
    const answer = path && await fetch(path).catch(() => null);
    if (!answer?.ok || answer.redirected) return;
    const told = await answer.text();
    for (const one of $$("[data-counts]")) if (one.dataset.counts === path) one.textContent = told;
  }

  // Rows are updated where they stand; if others belong there now, the person says when.
  function mergeRows(rows, fresh) {
    const keys = (body) => (body ? [...body.children].map((row) => row.dataset.key) : []);
    for (const row of rows?.children ?? []) {
      const now = fresh && [...fresh.children].find((one) => one.dataset.key === row.dataset.key);
      if (now) morph(row, now); else row.classList.add("gone");
    }
    $("#stale")?.toggleAttribute("hidden", keys(rows).join() === keys(fresh).join());
  }

  // Make `from` like `to`, leaving alone what is equal, what is open and what is being typed.
  const keyOf = (node) => node.dataset?.key || node.id || "";
  function morph(from, to) {
    if (from.isEqualNode(to)) return;
    for (const { name, value } of [...to.attributes]) if (from.getAttribute(name) !== value) from.setAttribute(name, value);
    for (const { name } of [...from.attributes]) {
      if (!to.hasAttribute(name) && !(name === "open" && from.localName === "details")) from.removeAttribute(name);
    }
    if (from.matches("input, select, textarea")) return;
    const old = [...from.childNodes];
    const same = (a, b) => a.nodeName === b.nodeName && keyOf(a) === keyOf(b);
    for (const [index, wanted] of [...to.childNodes].entries()) {
      const place = from.childNodes[index] ?? null;
      const found = old.find((one) => one.parentNode === from && !used.has(one) && same(one, wanted));
      if (!found) { const made = document.importNode(wanted, true); from.insertBefore(made, place); used.add(made); continue; }
      used.add(found);
      if (found !== place) from.insertBefore(found, place);
      if (found.nodeType === Node.ELEMENT_NODE) morph(found, wanted);
      else if (found.data !== wanted.data) found.data = wanted.data;
    }
    for (const one of [...from.childNodes].slice(to.childNodes.length)) one.remove();
  }
  const used = new WeakSet();

  // Palette
  const palette = () => $("#palette");
  const results = () => $("#palette-results");
  async function find() {
    const words = $("input", palette()).value;
    const answer = await fetch(`${palette().dataset.results}?q=${encodeURIComponent(words)}`).catch(() => null);
    if (!answer?.ok || $("input", palette()).value !== words) return;
    const found = new DOMParser().parseFromString(await answer.text(), "text/html").getElementById("found");
    results().replaceChildren(...(found ? [document.importNode(found, true)] : []));
    mark(0);
    htmx.process(results());
  }
  const findSoon = later(120, find);
  function openPalette() {
    if (!palette() || palette().open) return;
    palette().showModal();
    $("input", palette()).select();
    find();
  }
  function mark(index) {
    const links = $$("a", results());
    if (!links.length) return;
    links.forEach((one) => one.classList.remove("chosen"));
    const chosen = links[(index + links.length) % links.length];
    chosen.classList.add("chosen");
    chosen.scrollIntoView({ block: "nearest" });
  }
  function paletteKey(event) {
    const links = $$("a", results()), index = links.findIndex((one) => one.classList.contains("chosen"));
    if (event.key === "ArrowDown") mark(index + 1);
    else if (event.key === "ArrowUp") mark(index - 1);
    else if (event.key === "Enter" && links[index]) { palette().close(); links[index].click(); }
    else return;
    event.preventDefault();
  }

  // Forms
  function showDependent(form) {
    for (const one of $$("[data-shown-if]", form)) {
      const control = $$(`[name="${CSS.escape(one.dataset.shownIf)}"]`, form).find((each) => each.type !== "radio" || each.checked);
      one.hidden = !one.dataset.values.split(" ").includes(control?.value ?? "");
    }
  }
  function addRow(button) {
    const rows = button.closest("[data-rows]"), count = $("[data-row-count]", rows), last = $$("[data-row]", rows).pop();
    const added = last.cloneNode(true), number = Number(count.value);
    for (const one of $$("input", added)) {
      one.name = one.name.replace(/\.\d+\.(\w+)$/, `.${number}.$1`);
      if (one.type === "checkbox") one.checked = false; else one.value = "";
    }
    count.value = number + 1;
    last.after(added);
    $("input", added).focus();
  }
  // Looking for more to choose from: the form is sent as its button would, and only the list is taken from the answer.
  async function findMore(field) {
    const form = field.form, words = field.value, list = document.getElementById(field.dataset.finds);
    const body = new URLSearchParams(new FormData(form));
    body.set("search", "yes");
    const answer = await fetch(form.action, { method: "POST", body, headers: { accept: "text/html" } }).catch(() => null);
    if (!answer?.ok || answer.redirected || field.value !== words) return;
    const now = new DOMParser().parseFromString(await answer.text(), "text/html");
    const fresh = now.getElementById(list.id), found = form.elements[field.name.replace("find.", "found.")];
    if (!fresh || !list.isConnected) return;
    // What was ticked while the answer was on its way stays ticked.
    const ticked = $$("input:checked", list), made = [...fresh.childNodes].map((one) => document.importNode(one, true));
    list.replaceChildren(...made);
    for (const one of ticked.reverse()) {
      const same = $$("input", list).find((each) => each.value === one.value);
      if (same) same.checked = true; else list.prepend(one.closest(".option"));
    }
    if (found) found.value = words;
  }
  const findMoreSoon = later(200, findMore);
  function showZone() {
    const wanted = $$("[data-browser-zone]");
    if (!wanted.length) return;
    const zone = Intl.DateTimeFormat().resolvedOptions().timeZone;
    for (const one of wanted) {
      if ([...one.options].some((option) => option.value === zone)) one.value = zone;
      delete one.dataset.browserZone;
    }
  }
  // Times in the reader's zone, as long as what is written is in UTC; the title keeps that.
  let local = null;  // made for the first page that has times: that takes as long as all else here
  function showTimes(within = document) {
    for (const one of $$("time[data-local]", within)) {
      local ??= new Intl.DateTimeFormat("sv-SE", {
        year: "numeric", month: "2-digit", day: "2-digit", hour: "2-digit", minute: "2-digit", second: "2-digit", timeZoneName: "short",
      });
      one.textContent = local.format(new Date(one.dateTime));
    }
  }
  const apply = later(300, (form) => form.requestSubmit());
  // A zone says nothing without a time of the period beside it.
  const isZoneAlone = (field) => field.matches("[data-zone]") && !$$("input", field.closest("[data-period]")).some((one) => one.value);
  // An address names what narrows the list, and nothing else.
  function shorten({ target, formData }) {
    if (!target.matches("[data-filters]")) return;
    for (const one of $$("[data-period]", target)) {
      const [first, last] = $$("input", one), { name, value: zone } = $("select", one);
      if (first.value || last.value) formData.set(name, [first.value, last.value, ...(zone === "UTC" ? [] : [zone])].join(","));
      else formData.delete(name);
    }
    for (const [name, value] of [...formData]) if (value === "" && formData.getAll(name).length === 1) formData.delete(name);
  }
  function hideToasts() {
    for (const one of $$(".toast:not(.bad, .leaving)")) {
      const shown = one.matches(".undoable") ? 12000 : 5000;
      one.classList.add("leaving");
      setTimeout(() => one.classList.add("gone"), shown - 500);
      setTimeout(() => one.remove(), shown);
    }
  }
  async function copy(button) {
    const text = document.getElementById(button.dataset.copies)?.textContent ?? "";
    const shown = $(".unseen", button), label = button.title;
    try {
      await navigator.clipboard.writeText(text);
      button.title = shown.textContent = "Copied";
    } catch {
      // No clipboard without HTTPS: select it, so that one key press copies.
      getSelection().selectAllChildren(document.getElementById(button.dataset.copies));
      button.title = shown.textContent = "Selected: copy it with the keyboard";
    }
    button.classList.add("good");
    setTimeout(() => { button.title = shown.textContent = label; button.classList.remove("good"); }, 2500);
  }

  document.addEventListener("click", (event) => {
    const at = (selector) => event.target.closest?.(selector);
    const theme = at("[data-theme-choice]");
    if (theme) choose(theme.dataset.themeChoice);
    if (at("[data-collapses]")) {
      const isCollapsed = root.dataset.sidebar !== "collapsed";
      if (isCollapsed) root.dataset.sidebar = "collapsed"; else delete root.dataset.sidebar;
      remember("sidebar", isCollapsed ? "collapsed" : "");
    }
    if (at("[data-copies]")) copy(at("[data-copies]"));
    if (at("[data-adds-row]")) addRow(at("[data-adds-row]"));
    if (at("[data-closes]")) at("details").open = false;
    if (at("[data-opens-palette]") && !event.ctrlKey && !event.metaKey) { event.preventDefault(); openPalette(); }
    if (event.target === palette() || at("#palette-results a")) palette().close();
    for (const menu of $$("details.menu[open]")) if (!menu.contains(event.target)) menu.open = false;
  }, true);
  document.addEventListener("keydown", (event) => {
    if (event.key.toLowerCase() === "k" && (event.ctrlKey || event.metaKey) && !event.altKey) { event.preventDefault(); openPalette(); return; }
    if (palette()?.open) { paletteKey(event); return; }
    if (event.key === "Enter" && event.target.matches?.("[data-finds]")) { event.preventDefault(); findMore(event.target); return; }
    if (event.key !== "Escape" || event.defaultPrevented) return;
    const open = $$("details.menu[open], details.confirm[open]").pop();
    if (open) open.open = false; else $("[data-esc]")?.click();
  });
  document.addEventListener("input", (event) => {
    const field = event.target;
    if (field.closest("#palette")) findSoon();
    if (field.matches("[data-finds]")) findMoreSoon(field);
    else if (field.matches("[data-narrows]")) {
      const words = field.value.toLowerCase();
      for (const one of $$(".option", field.closest("[data-picker]"))) one.hidden = !one.textContent.toLowerCase().includes(words);
    } else if (field.closest("[data-filters]") && !isZoneAlone(field)) apply(field.closest("[data-filters]"));
    if (field.form) showDependent(field.form);
  });
  document.addEventListener("formdata", shorten);
  let busyTimer = 0;
  document.addEventListener("htmx:before:request", () => { clearTimeout(busyTimer); busyTimer = setTimeout(() => root.classList.add("busy"), 300); });
  for (const name of ["htmx:after:swap", "htmx:error", "htmx:finally:request"]) {
    document.addEventListener(name, () => { clearTimeout(busyTimer); root.classList.remove("busy"); });
  }
  function settle() {
    showTheme();
    hideToasts();
    follow();
    $$("form").forEach(showDependent);
    showTimes();
    showZone();
    $(".sidebar [aria-current]")?.scrollIntoView({ block: "nearest" });
    count();
    $("#errors")?.focus();
  }
  document.addEventListener("htmx:after:swap", settle);
  document.addEventListener("visibilitychange", follow);
  addEventListener("pagehide", () => stream?.close());
  settle();
})();
