"use strict";
(() => {
  const format = (value) => {
    if (Number.isInteger(value)) return value.toLocaleString("en");
    const size = Math.abs(value);
    if (size >= 1000) return Math.round(value).toLocaleString("en");
    if (size >= 0.01) return value.toPrecision(4);
    return size >= 1e-6 ? value.toFixed(2 - Math.floor(Math.log10(size))).replace(/0+$/, "") : value.toExponential(2);
  };
  const nearest = (points, x) => {
    let low = 0, high = points.length - 1;
    while (high - low > 1) {
      const middle = (low + high) >> 1;
      if (points[middle][0] <= x) low = middle; else high = middle;
    }
    return x - points[low][0] <= points[high][0] - x ? points[low] : points[high];
  };
  const prepare = (figure) => {
    const data = JSON.parse(figure.querySelector("script").textContent);
    const plot = figure.querySelector(".plot"), box = figure.querySelector(".box");
    const cursor = figure.querySelector(".cursor"), read = figure.querySelector(".read");
    const latest = figure.querySelector(".last");
    const longest = data.series.reduce((a, b) => (b.points.length > a.points.length ? b : a));
    let place = -1;
    const show = (x) => {
      const at = nearest(longest.points, x)[0], seen = new Set();
      cursor.hidden = read.hidden = false;
      latest.hidden = true;
      cursor.style.left = 100 * (at - data.left) / (data.right - data.left) + "%";
      const parts = data.series.filter((one) => !seen.has(one.name) && seen.add(one.name))
        .map((one) => one.name + " " + format(nearest(one.points, at)[1]));
      read.textContent = data.x + " " + format(at) + ": " + parts.join(", ");
      place = longest.points.findIndex((point) => point[0] === at);
    };
    const hide = () => { cursor.hidden = read.hidden = true; latest.hidden = false; read.textContent = ""; };
    box.addEventListener("pointermove", (event) => {
      const frame = box.getBoundingClientRect();
      show(data.left + (data.right - data.left) * (event.clientX - frame.left) / frame.width);
    });
    box.addEventListener("pointerleave", hide);
    plot.addEventListener("blur", hide);
    plot.addEventListener("keydown", (event) => {
      const last = longest.points.length - 1, wide = Math.max(1, Math.round(last / 50));
      const moves = { ArrowRight: wide, ArrowLeft: -wide, Home: -last - 1, End: last + 1 };
      if (!(event.key in moves)) return;
      event.preventDefault();
      place = Math.min(last, Math.max(0, (place < 0 ? (event.key === "ArrowLeft" ? last : -wide) : place) + moves[event.key]));
      show(longest.points[place][0]);
    });
  };
  const all = () => document.querySelectorAll("[data-chart]").forEach(prepare);
  all();
  const live = document.body.dataset.live;
  if (live) {
    const main = document.getElementById("main");
    new EventSource(live).addEventListener("main", (event) => {
      const open = [...main.querySelectorAll("details")].map((one) => one.open);
      const focused = [...main.querySelectorAll("[tabindex]")].indexOf(document.activeElement);
      main.innerHTML = JSON.parse(event.data);
      main.querySelectorAll("details").forEach((one, index) => { one.open = !!open[index]; });
      all();
      if (focused >= 0) main.querySelectorAll("[tabindex]")[focused]?.focus({ preventScroll: true });
    });
  }
})();
