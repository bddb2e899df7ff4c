/* The charts of the cluster and of a node: figures from the server, drawn by uPlot in the page's own colours, asked for again now and then. */
"use strict";
(() => {
  const panel = document.querySelector("[data-charts]");
  if (!panel || !window.uPlot) return;
  const EVERY_MS = 15000;
  const GIB = 1024 ** 3, MIB = 1024 ** 2;
  const CHARTS = {
    cores: [["cores_used", "given"], ["load", "load"], ["cores", "all"]],
    jobs: [["running", "on nodes"], ["waiting", "waiting"]],
    memory: [["mem_used_bytes", "in use, GiB", GIB], ["mem_bytes", "all, GiB", GIB]],
    generations: [["generations", "kept"], ["store_bytes", "store, GiB", GIB]],
    node_load: [["load", "load"], ["cores_used", "cores given"]],
    node_memory: [["mem_used_bytes", "in use, GiB", GIB]],
    node_network: [["net_in_bytes_per_s", "in", 0], ["net_out_bytes_per_s", "out", 0]],
    node_pods: [["pods", "pods"]],
  };
  /* a rate: in the unit that its highest point wants, the same for all of its chart */
  const rates = [["GiB/s", GIB], ["MiB/s", MIB], ["KiB/s", 1024]];
  function inUnits(series, figures) {
    if (series.every(([, , unit]) => unit !== 0)) return series;
    const most = Math.max(...series.flatMap(([column]) => figures[column]));
    const [word, unit] = rates.find(([, size]) => most >= size) || rates[2];
    return series.map(([column, label]) => [column, `${label}, ${word}`, unit]);
  }
  const drawn = new Map();
  const colour = (name) => getComputedStyle(document.documentElement).getPropertyValue(name).trim();
  const short = (value) => (value >= 10 ? Math.round(value) : Math.round(value * 10) / 10).toLocaleString("en");

  const clock = (at) => {
    const when = new Date(at * 1000), two = (number) => String(number).padStart(2, "0");
    const time = `${two(when.getHours())}:${two(when.getMinutes())}`;
    return time === "00:00" ? `${when.getDate()}.${when.getMonth() + 1}.` : time;
  };

  function options(box, series, width) {
    const strokes = [colour("--accent"), colour("--lane-2"), colour("--ink-3")];
    const isAll = (label) => label.startsWith("all");
    const axis = { stroke: colour("--ink-3"), grid: { stroke: colour("--line-soft"), width: 1 }, ticks: { show: false }, font: "11px system-ui" };
    return {
      width, height: box.clientHeight, legend: { show: false }, cursor: { points: { size: 5 } },
      scales: { y: { range: (chart, low, high) => [0, Math.max(1, high * 1.08)] } },
      axes: [{ ...axis, size: 22, space: 70, values: (chart, at) => at.map(clock) }, { ...axis, size: 42, space: 28 }],
      series: [{}].concat(series.map(([, label], place) => ({ label, stroke: strokes[isAll(label) ? 2 : place], width: 1.6, points: { show: false }, dash: isAll(label) ? [4, 4] : undefined, fill: place === 0 ? colour("--accent-soft") : undefined }))),
    };
  }

  function legend(name, series, columns) {
    const box = panel.querySelector(`[data-legend="${name}"]`);
    box.replaceChildren();
    const words = [];
    series.forEach(([, label], place) => {
      const values = columns[place];
      const now = values.length ? short(values[values.length - 1]) : "–";
      const key = document.createElement("i"), value = document.createElement("b");
      key.className = `series-${label.startsWith("all") ? 2 : place}`;
      value.textContent = now;
      box.append(key, value, ` ${label}`);
      words.push(`${label} ${now}`);
    });
    panel.querySelector(`[data-chart="${name}"]`).setAttribute("aria-label", `${name} over time; now ${words.join(", ")}`);
  }

  function draw(figures) {
    const empty = figures.at.length < 2;
    panel.querySelector("[data-nothing]").hidden = !empty;
    panel.querySelector(".charts").hidden = empty;
    if (empty) return;
    for (const [name, plain] of Object.entries(CHARTS)) {
      const box = panel.querySelector(`[data-chart="${name}"]`);
      if (!box) continue;
      const series = inUnits(plain, figures);
      const columns = series.map(([column, , unit]) => figures[column].map((value) => value / (unit || 1)));
      const old = drawn.get(name);
      if (old) old.destroy();
      drawn.set(name, new uPlot(options(box, series, box.clientWidth), [figures.at, ...columns], box));
      legend(name, series, columns);
    }
  }

  async function ask() {
    const hours = panel.querySelector("input[name=hours]:checked").value;
    try {
      const answer = await fetch(`${panel.dataset.charts}?hours=${hours}`, { headers: { Accept: "application/json" } });
      if (answer.ok) draw(await answer.json());
    } catch (away) { /* the next try follows; the lamp of the page says that the connection is lost */ }
  }

  panel.addEventListener("change", ask);
  document.addEventListener("click", (event) => { if (event.target.closest("[data-do=theme]")) setTimeout(ask, 50); });
  let width = 0;
  new ResizeObserver(() => { const now = panel.clientWidth; if (Math.abs(now - width) > 8) { width = now; ask(); } }).observe(panel);
  setInterval(() => { if (!document.hidden) ask(); }, EVERY_MS);
})();
