"use strict";
(() => {
  const format = (value) => {
    if (Number.isInteger(value)) return value.toLocaleString("en");
    const size = Math.abs(value);
    if (size >= 1000) return Math.round(value).toLocaleString("en");
    if (size >= 0.01) return value.toPrecision(4);
    return size >= 1e-4 ? value.toFixed(2 - Math.floor(Math.log10(size))).replace(/0+$/, "")
      : value.toExponential(2).replace(/\.?0+e/, "e");
  };
  const nearest = (points, x) => {
    let low = 0, high = points.length - 1;
    while (high - low > 1) {
      const middle = (low + high) >> 1;
      if (points[middle][0] <= x) low = middle; else high = middle;
    }
    return x - points[low][0] <= points[high][0] - x ? low : high;
  };
  const prepare = (figure) => {
    const data = JSON.parse(figure.querySelector("script").textContent);
    const plot = figure.querySelector(".plot"), box = figure.querySelector(".box");
    const cursor = figure.querySelector(".cursor"), read = figure.querySelector(".read");
    const latest = figure.querySelector(".last");
    const longest = data.series.reduce((a, b) => (b.points.length > a.points.length ? b : a));
    let place = -1;
    const show = (index) => {
      place = index;
      const at = longest.points[index][0], seen = new Set();
      cursor.hidden = read.hidden = false;
      latest.hidden = true;
      cursor.style.left = 100 * (at - data.left) / (data.right - data.left) + "%";
      const parts = data.series.filter((one) => !seen.has(one.name) && seen.add(one.name))
        .map((one) => one.name + " " + format(one.points[one === longest ? index : nearest(one.points, at)][1]));
      read.textContent = data.x + " " + format(at) + ": " + parts.join("; ");
      plot.setAttribute("aria-valuenow", at);
      plot.setAttribute("aria-valuetext", read.textContent);
    };
    const chart = {
      x: data.x,
      point: (x) => show(nearest(longest.points, x)),
      hide: () => { cursor.hidden = read.hidden = true; latest.hidden = false; read.textContent = ""; },
    };
    box.addEventListener("pointermove", (event) => {
      const frame = box.getBoundingClientRect();
      together(chart, data.left + (data.right - data.left) * (event.clientX - frame.left) / frame.width);
    });
    box.addEventListener("pointerleave", () => together(chart, null));
    plot.addEventListener("blur", () => together(chart, null));
    plot.addEventListener("keydown", (event) => {
      const last = longest.points.length - 1, wide = Math.max(1, Math.round(last / 50));
      const moves = { ArrowRight: wide, ArrowLeft: -wide, Home: -last - 1, End: last + 1 };
      if (!(event.key in moves)) return;
      event.preventDefault();
      const from = place < 0 ? (event.key === "ArrowLeft" ? last : -wide) : place;
      const to = Math.min(last, Math.max(0, from + moves[event.key]));
      together(chart, longest.points[to][0]);
      show(to);  // of points above each other the one that is meant
    });
    // Room for the longest line, so that nothing below moves when values come and go.
    show(longest.points.length - 1);
    read.style.minHeight = latest.style.minHeight = read.offsetHeight + "px";
    chart.hide();
    place = -1;
    return chart;
  };
  // Charts over steps show the same step, whichever of them the pointer is on.
  let charts = [], pointed = null;
  const together = (chart, x) => {
    if (!charts.includes(chart)) return;  // one that is no longer on the page
    pointed = x === null ? null : [charts.indexOf(chart), x];
    for (const one of charts) if (one === chart || (one.x === "step" && chart.x === "step")) x === null ? one.hide() : one.point(x);
  };
  const ago = (seconds) => seconds < 90 ? Math.round(seconds) + " s" : seconds < 5400 ? Math.round(seconds / 60) + " min"
    : seconds < 129600 ? Math.round(seconds / 3600) + " h" : Math.round(seconds / 86400) + " days";
  const tell = () => document.querySelectorAll("[data-ago]").forEach((one) => {
    const passed = (Date.now() - Date.parse(one.dateTime)) / 1000;
    if (passed >= 0) one.textContent = one.dateTime.replace("T", " ").replace("Z", " UTC") + ", " + ago(passed) + " ago";
  });
  const all = () => {
    charts = [...document.querySelectorAll("[data-chart]")].map(prepare);
    tell();
    document.title = (document.querySelector("[data-title]")?.dataset.title ?? document.title.replace(/ · Biject$/, "")) + " · Biject";
  };
  all();
  const live = document.body.dataset.live;
  if (!live) return;
  setInterval(tell, 5000);
  const main = document.getElementById("main"), gone = document.getElementById("gone");
  let waiting = null;
  const swap = (text) => {
    const open = [...main.querySelectorAll("details")].map((one) => one.open);
    const scrolled = [...main.querySelectorAll(".scroll, pre")].map((one) => [one.scrollLeft, one.scrollTop]);
    const focused = [...main.querySelectorAll("[tabindex]")].indexOf(document.activeElement), held = pointed;
    main.innerHTML = text;
    main.querySelectorAll("details").forEach((one, index) => { one.open = !!open[index]; });
    main.querySelectorAll(".scroll, pre").forEach((one, index) => { [one.scrollLeft, one.scrollTop] = scrolled[index] ?? [0, 0]; });
    all();
    if (held && charts[held[0]]) together(charts[held[0]], held[1]);
    if (focused >= 0) main.querySelectorAll("[tabindex]")[focused]?.focus({ preventScroll: true });
  };
  const selecting = () => { const now = getSelection(); return !now.isCollapsed && main.contains(now.anchorNode); };
  const stream = new EventSource(live);
  stream.addEventListener("main", (event) => {
    waiting = JSON.parse(event.data);  // what somebody is marking to copy is not taken away
    if (!selecting()) { swap(waiting); waiting = null; }
  });
  document.addEventListener("selectionchange", () => { if (waiting !== null && !selecting()) { swap(waiting); waiting = null; } });
  stream.addEventListener("open", () => { gone.hidden = true; });
  stream.addEventListener("error", () => {
    if (gone.hidden) gone.textContent = "biject watch does not answer: this page is as it was at " + new Date().toLocaleTimeString("en-GB") + ".";
    gone.hidden = false;
  });
})();
