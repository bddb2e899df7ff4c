/* The console in the browser: one WebSocket per page that only says *what* changed; every part with a matching
   data-live topic then asks the server for itself again (htmx), so that what is seen is always what the server says.
   No state is kept here but the theme. */
"use strict";
(() => {
  const GAP_MS = 250;
  const AGAIN_MS = 100;
  const last = new WeakMap();

  /* live: refresh at once, then at most every GAP_MS per part, and never lose the last change */
  function refresh(part) {
    const state = last.get(part) || { at: 0, timer: 0 };
    last.set(part, state);
    if (state.timer) return;
    const wait = Math.max(pressed ? AGAIN_MS : 0, state.at + GAP_MS - Date.now());
    state.timer = setTimeout(() => {
      state.timer = 0;
      if (pressed && part.contains(pressed)) return refresh(part);
      state.at = Date.now();
      if (part.isConnected) htmx.trigger(part, "live");
    }, wait);
  }

  /* nothing is replaced under a pressed button, nor by the same text */
  let pressed = null;
  document.addEventListener("pointerdown", (event) => { pressed = event.target; });
  for (const over of ["pointerup", "pointercancel"]) document.addEventListener(over, () => { setTimeout(() => { pressed = null; }, 50); });
  const shown = new WeakMap();
  document.addEventListener("htmx:beforeSwap", (event) => {
    const part = event.detail.target;
    if (!part.matches("[data-live]") || event.detail.elt !== part) return;
    if (pressed && part.contains(pressed)) { event.detail.shouldSwap = false; return refresh(part); }
    if (shown.get(part) === event.detail.xhr.responseText) event.detail.shouldSwap = false;
    shown.set(part, event.detail.xhr.responseText);
  });

  function changed(topics) {
    for (const part of document.querySelectorAll("[data-live]")) {
      const wanted = part.dataset.live.split(" ");
      if (topics.some((topic) => wanted.includes(topic))) refresh(part);
    }
  }

  function say(state, words) {
    for (const lamp of document.querySelectorAll(".live")) {
      lamp.dataset.state = state;
      lamp.textContent = words;
    }
  }

  function connect(attempt) {
    const path = document.body.dataset.liveUrl;
    if (!path) return;
    const scheme = location.protocol === "https:" ? "wss://" : "ws://";
    const socket = new WebSocket(scheme + location.host + path);
    let opened = false;
    socket.onopen = () => {
      opened = true;
      say("on", "live");
      if (attempt > 0) document.querySelectorAll("[data-live]").forEach(refresh);
    };
    socket.onmessage = (message) => changed(JSON.parse(message.data).topics || []);
    socket.onclose = () => {
      say("off", "connection lost, trying again");
      const next = opened ? 1 : attempt + 1;
      setTimeout(() => connect(next), Math.min(8000, 300 * 2 ** Math.min(next, 5)));
    };
  }

  /* times */
  function ago(seconds) {
    if (seconds < 2) return "just now";
    if (seconds < 120) return Math.round(seconds) + " s ago";
    if (seconds < 7200) return Math.round(seconds / 60) + " min ago";
    if (seconds < 172800) return Math.round(seconds / 3600) + " h ago";
    return Math.round(seconds / 86400) + " days ago";
  }
  function span(seconds) {
    const whole = Math.max(0, Math.floor(seconds));
    if (whole < 60) return whole + " s";
    if (whole < 3600) return Math.floor(whole / 60) + " min" + (whole % 60 ? " " + (whole % 60) + " s" : "");
    const minutes = Math.floor((whole % 3600) / 60);
    return Math.floor(whole / 3600) + " h" + (minutes ? " " + minutes + " min" : "");
  }
  function tick() {
    for (const time of document.querySelectorAll("time[data-ago]")) {
      const words = ago((Date.now() - Date.parse(time.dateTime)) / 1000);
      if (time.textContent !== words) time.textContent = words;
    }
    for (const time of document.querySelectorAll("time[data-since]")) {
      const words = span((Date.now() - Date.parse(time.dateTime)) / 1000);
      if (time.textContent !== words) time.textContent = words;
    }
  }

  /* the log follows unless told not to */
  function follow() {
    const box = document.querySelector("[data-follow]");
    const log = document.querySelector(".log");
    if (log && box && box.checked) log.scrollTop = log.scrollHeight;
  }

  /* theme: what the system says, until the person chooses */
  function theme() {
    const dark = document.documentElement.dataset.theme
      ? document.documentElement.dataset.theme === "dark"
      : matchMedia("(prefers-color-scheme: dark)").matches;
    const next = dark ? "light" : "dark";
    document.documentElement.dataset.theme = next;
    try { localStorage.setItem("theme", next); } catch (refused) { /* private windows may refuse */ }
  }

  /* dialogs */
  function openDialog() {
    const dialog = document.getElementById("dialog");
    if (dialog && !dialog.open) dialog.showModal();
  }
  function closeDialog() {
    const dialog = document.getElementById("dialog");
    if (dialog && dialog.open) dialog.close();
  }

  document.addEventListener("click", (event) => {
    const target = event.target instanceof Element ? event.target.closest("[data-do]") : null;
    if (!target) return;
    const what = target.dataset.do;
    if (what === "theme") theme();
    if (what === "dismiss") target.closest(".note").remove();
    if (what === "close" && target.closest("dialog")) { event.preventDefault(); closeDialog(); }
    if (what === "copy") navigator.clipboard.writeText(document.querySelector(target.dataset.from).textContent);
  });

  /* keys: g then c, j, n, s, e, t, a goes places; n submits; / filters; ? says so */
  let chord = 0;
  const places = { c: "cluster", j: "jobs", n: "nodes", s: "store", e: "events", t: "tokens", a: "about" };
  document.addEventListener("keydown", (event) => {
    if (event.ctrlKey || event.metaKey || event.altKey) return;
    if (event.target.matches("input, textarea, select")) return;
    if (document.querySelector("dialog[open]")) return;
    const go = (name) => { const link = document.querySelector(`[data-go="${name}"]`); if (link) location.assign(link.href); };
    if (chord && Date.now() - chord < 1200 && places[event.key]) { chord = 0; go(places[event.key]); return; }
    chord = event.key === "g" ? Date.now() : 0;
    if (event.key === "n") go("submit");
    if (event.key === "/") { const filter = document.querySelector("[data-filter]"); if (filter) { event.preventDefault(); filter.focus(); } }
    if (event.key === "?") { const keys = document.getElementById("keys"); if (keys) keys.showModal(); }
  });

  /* sparks: what a part shows again and again, as a small line; kept while the page lives */
  const sparks = new Map();
  function spark() {
    for (const place of document.querySelectorAll("[data-spark]")) {
      const points = sparks.get(place.dataset.spark) || [];
      const value = Number(place.dataset.value ?? place.dataset.rate);
      const last = points[points.length - 1];
      if (!last || Date.now() - last.at > 1500) points.push({ at: Date.now(), value });
      if (points.length > 60) points.shift();
      sparks.set(place.dataset.spark, points);
      drawSpark(place, points);
    }
  }
  function drawSpark(place, points) {
    let values = points.map((point) => point.value);
    if (place.dataset.rate !== undefined) values = points.slice(1).map((point, at) => Math.max(0, (point.value - points[at].value) * 1000 / (point.at - points[at].at)));
    if (values.length < 2) return;
    const most = Math.max(...values, 1e-9), space = "http://www.w3.org/2000/svg";
    const picture = document.createElementNS(space, "svg"), line = document.createElementNS(space, "polyline");
    picture.setAttribute("viewBox", "0 0 100 20");
    picture.setAttribute("preserveAspectRatio", "none");
    picture.setAttribute("aria-hidden", "true");
    line.setAttribute("points", values.map((value, at) => `${(100 * at / (values.length - 1)).toFixed(1)},${(19 - 18 * value / most).toFixed(1)}`).join(" "));
    picture.append(line);
    place.replaceChildren(picture);
    if (place.dataset.unit) place.title = `${values[values.length - 1].toFixed(1)} ${place.dataset.unit}`;
  }

  /* ticked jobs: they stay ticked when the list is replaced; the bar with the verbs is there while any is */
  const ticked = new Set();
  function showTicked() {
    const bar = document.getElementById("bulk");
    if (!bar) return;
    for (const box of document.querySelectorAll("[data-tick]")) box.checked = ticked.has(box.value);
    for (const value of ticked) if (!document.querySelector(`[data-tick][value="${value}"]`)) ticked.delete(value);
    bar.hidden = ticked.size === 0;
    bar.querySelector("[data-ticked]").textContent = ticked.size;
  }
  document.addEventListener("change", (event) => {
    const boxes = event.target.matches("[data-tick-all]") ? document.querySelectorAll("[data-tick]") : event.target.matches("[data-tick]") ? [event.target] : [];
    for (const box of boxes) if (event.target.checked) ticked.add(box.value); else ticked.delete(box.value);
    if (boxes.length || event.target.matches("[data-tick-all]")) showTicked();
  });

  document.addEventListener("htmx:afterSwap", (event) => {
    tick();
    spark();
    showTicked();
    follow();
    if (event.detail.target.id === "dialog-body") openDialog();
    if (event.detail.target.id === "toasts") closeDialog();
  });
  document.addEventListener("htmx:responseError", (event) => {
    const status = event.detail.xhr.status;
    if (status === 401 || status === 403) location.reload();
  });
  document.addEventListener("change", (event) => { if (event.target.matches("[data-follow]")) follow(); });

  document.addEventListener("change", (event) => {
    if (event.target.matches("[data-times]")) document.getElementById("log").classList.toggle("times", event.target.checked);
  });

  /* on a narrow screen the menu scrolls: where one is stands in sight */
  const menu = document.querySelector(".nav"), here = document.querySelector(".nav [aria-current]");
  if (menu && here && menu.scrollWidth > menu.clientWidth) menu.scrollLeft = here.offsetLeft - menu.clientWidth / 3;

  tick();
  spark();
  follow();
  setInterval(tick, 1000);
  connect(0);
})();
