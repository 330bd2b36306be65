"use strict";

// ---- numbers as the report writes them

function number(value) {
  const size = Math.abs(value);
  if (size >= 10000)
    for (const [unit, letter] of [[1e12, "T"], [1e9, "G"], [1e6, "M"], [1e3, "k"]])
      if (size >= unit) return String(Number((value / unit).toPrecision(4))) + " " + letter;
  if (size >= 10) return String(Number(value.toPrecision(4)));
  if (size > 0 && size < 0.001) return value.toExponential(1);
  return value.toFixed(3);
}
function estimate(value, error) {
  return error ? number(value) + " ± " + number(error) : number(value);
}
function duration(seconds) {
  const whole = Math.round(seconds);
  if (seconds < 10) return seconds.toFixed(1) + " s";
  if (whole < 60) return whole + " s";
  if (whole < 3600) return Math.floor(whole / 60) + " min " + whole % 60 + " s";
  return Math.floor(whole / 3600) + " h " + Math.floor(whole % 3600 / 60) + " min";
}
function thousands(value) {
  return String(Math.round(value)).replace(/\B(?=(\d{3})+$)/g, "\u2009");
}

// ---- elements; text only ever gets in as text

function element(tag, text, kind) {
  const made = document.createElement(tag);
  if (text !== undefined) made.textContent = text;
  if (kind) made.className = kind;
  return made;
}
function shape(tag, attributes, text) {
  const made = document.createElementNS("http://www.w3.org/2000/svg", tag);
  for (const [key, value] of Object.entries(attributes)) made.setAttribute(key, value);
  if (text !== undefined) made.textContent = text;
  return made;
}
function shortened(text, most) {
  return text.length <= most ? text : text.slice(0, Math.max(1, most - 1)) + "…";
}
const CHARACTER = 6.7;

// ---- axes

function ticks(low, high, most) {
  const rough = (high - low) / Math.max(1, most), power = 10 ** Math.floor(Math.log10(rough));
  const step = [1, 2, 5, 10].map(k => k * power).find(k => k >= rough * 0.999);
  const found = [];
  for (let k = Math.ceil(low / step - 1e-9); k * step <= high + step * 1e-9; k++) found.push(k * step);
  return { step, values: found };
}
function tickText(value, step) {
  if (Math.abs(value) < step / 1e6) return "0";
  if (Math.abs(value) >= 10000) return number(value);
  return value.toFixed(Math.min(8, Math.max(0, -Math.floor(Math.log10(step) + 1e-9))));
}
function range(values, share = 0.06) {
  let low = Infinity, high = -Infinity;
  for (const value of values) { if (value < low) low = value; if (value > high) high = value; }
  const room = (high - low) * share || Math.abs(high) * 0.05 || 0.5;
  return [low - room, high + room];
}

/* A plot with axes: places on it by value, and an empty svg to draw into. */
function plot(width, height, axes) {
  const top = axes.titleY ? 30 : 10, bottom = axes.titleX ? 46 : 26;
  const vertical = ticks(...axes.y, (height - top - bottom) / 45);
  const texts = vertical.values.map(value => tickText(value, vertical.step));
  const left = 12 + CHARACTER * Math.max(2, ...texts.map(text => text.length)), right = 14;
  const horizontal = ticks(...axes.x, (width - left - right) / 84);
  if (axes.whole) horizontal.values = horizontal.values.filter(Number.isInteger);
  const at = {
    x: value => left + (value - axes.x[0]) / (axes.x[1] - axes.x[0]) * (width - left - right),
    y: value => height - bottom - (value - axes.y[0]) / (axes.y[1] - axes.y[0]) * (height - top - bottom),
  };
  const root = shape("svg", { width, height, viewBox: `0 0 ${width} ${height}`, role: "img", "aria-label": axes.label });
  vertical.values.forEach((value, k) => {
    const y = at.y(value);
    root.append(shape("path", { class: "grid", d: `M${left} ${y}H${width - right}` }));
    root.append(shape("text", { x: left - 7, y: y + 4, "text-anchor": "end" }, texts[k]));
  });
  for (const value of horizontal.values) {
    const x = at.x(value), text = tickText(value, horizontal.step);
    root.append(shape("path", { class: "grid", d: `M${x} ${top}V${height - bottom}` }));
    const half = text.length * CHARACTER / 2, middle = Math.min(x, width - half - 2);
    root.append(shape("text", { x: middle, y: height - bottom + 17, "text-anchor": "middle" }, text));
  }
  const fitting = Math.floor((width - 20) / 7.2);
  if (axes.titleY) root.append(shape("text", { class: "title", x: 2, y: 14 }, shortened("↑ " + axes.titleY, fitting)));
  if (axes.titleX) root.append(shape("text", { class: "title", x: width - 4, y: height - 6, "text-anchor": "end" }, shortened(axes.titleX + " →", fitting)));
  return { root, at, box: { left, top, right: width - right, bottom: height - bottom } };
}

function marker(kind, x, y, size) {
  if (kind === "source") return shape("path", { class: kind, d: `M${x} ${y - size}l${size} ${size}l${-size} ${size}l${-size} ${-size}z` });
  if (kind === "baseline") return shape("rect", { class: kind, x: x - size * .8, y: y - size * .8, width: size * 1.6, height: size * 1.6 });
  return shape("circle", { class: "member", cx: x, cy: y, r: size });
}
/* Thousands of dots as one element: a path of points with round ends. */
function cloud(places, size) {
  return shape("path", { class: "cloud", "stroke-width": size, d: places.map(([x, y]) => `M${x.toFixed(1)} ${y.toFixed(1)}h.01`).join("") });
}
/* As many hollow ones: what misses a constraint. */
function rings(places, size) {
  const round = ([x, y]) => `M${(x - size).toFixed(1)} ${y.toFixed(1)}a${size} ${size} 0 1 0 ${2 * size} 0a${size} ${size} 0 1 0 ${-2 * size} 0`;
  return shape("path", { class: "missed", d: places.map(round).join("") });
}
/* Names beside their markers, each where nothing else is; one without room is left to its tooltip. */
function names(root, box, labelled, crowd) {
  const taken = crowd.map(([x, y]) => [x - 7, y - 7, x + 7, y + 7]);
  for (const { text, kind, x, y } of labelled) {
    const short = shortened(text, 26), wide = short.length * 7.2 + 4;
    const free = [[x + 11, y + 4, "start"], [x - 11, y + 4, "end"], [x, y - 12, "middle"], [x, y + 21, "middle"]].find(([left, base, anchor]) => {
      const from = anchor === "start" ? left : anchor === "end" ? left - wide : left - wide / 2;
      const area = [from, base - 12, from + wide, base + 4];
      if (area[0] < box.left || area[2] > box.right || area[1] < box.top || area[3] > box.bottom) return false;
      if (taken.some(other => area[0] < other[2] && other[0] < area[2] && area[1] < other[3] && other[1] < area[3])) return false;
      taken.push(area);
      return true;
    });
    if (free) root.append(shape("text", { class: "own " + kind, x: free[0], y: free[1], "text-anchor": free[2] }, short));
  }
}

// ---- hovering: the nearest thing within reach, also after a redraw under a resting pointer

const tip = document.getElementById("tip");
let pointer = null;

function showTip(lines, x, y) {
  tip.replaceChildren(element("b", lines[0]), ...lines.slice(1).map(line => element("span", line)));
  tip.hidden = false;
  const box = tip.getBoundingClientRect();
  tip.style.left = Math.max(6, Math.min(x + 14, innerWidth - box.width - 6)) + "px";
  tip.style.top = (y + 18 + box.height > innerHeight ? Math.max(6, y - box.height - 12) : y + 18) + "px";
}
/* nearest(x, y) gives {x, y, lines} or nothing. */
function hovers(root, nearest) {
  const ring = shape("circle", { class: "ring", r: 8, visibility: "hidden" });
  root.append(ring);
  root.look = () => {
    const box = root.getBoundingClientRect();
    const found = nearest(pointer.x - box.left, pointer.y - box.top);
    ring.setAttribute("visibility", found ? "visible" : "hidden");
    if (!found) { tip.hidden = true; return; }
    ring.setAttribute("cx", found.x); ring.setAttribute("cy", found.y);
    showTip(found.lines, pointer.x, pointer.y);
  };
  root.addEventListener("pointermove", event => { pointer = { x: event.clientX, y: event.clientY }; root.look(); });
  root.addEventListener("pointerleave", () => { pointer = null; tip.hidden = true; ring.setAttribute("visibility", "hidden"); });
}
function put(place, root, above = []) {
  place.replaceChildren(...above, root);
  if (pointer && document.elementsFromPoint(pointer.x, pointer.y).includes(root)) root.look();
}
function closest(things, reach) {
  return (x, y) => {
    let best = null, distance = reach * reach;
    for (const thing of things) {
      const far = (thing.x - x) ** 2 + (thing.y - y) ** 2;
      if (far <= distance) { best = thing; distance = far; }
    }
    return best && { x: best.x, y: best.y, lines: best.lines() };
  };
}

// ---- the charts

/* Candidates, sources and baselines on two objectives. things: [{point, kind, values}], kind being
   candidate, missed, member, source or baseline; axes: two of {label, direction}; above: elements. */
function scatter(place, things, axes, staircase, above) {
  const width = place.clientWidth, height = Math.max(300, Math.min(460, width * .55));
  const titles = axes.map(axis => `${axis.label} (${axis.direction === "maximize" ? "higher" : "lower"} is better)`);
  const { root, at, box } = plot(width, height, {
    x: range(things.map(t => t.values[0])), y: range(things.map(t => t.values[1]), .09),
    titleX: titles[0], titleY: titles[1], label: `Scores: ${axes[0].label} and ${axes[1].label}`,
  });
  const placed = things.map(t => ({ ...t, x: at.x(t.values[0]), y: at.y(t.values[1]) }));
  const of = kind => placed.filter(t => t.kind === kind);
  root.append(rings(of("missed").map(t => [t.x, t.y]), 3), cloud(of("candidate").map(t => [t.x, t.y]), 6));
  const members = of("member").sort((a, b) => a.x - b.x);
  if (staircase && members.length > 1) {
    const rightIsBetter = axes[0].direction === "maximize";
    const path = members.slice(1).map(t => rightIsBetter ? `V${t.y}H${t.x}` : `H${t.x}V${t.y}`);
    root.append(shape("path", { class: "step", d: `M${members[0].x} ${members[0].y}${path.join("")}`, opacity: .7 }));
  }
  for (const t of members) root.append(marker("member", t.x, t.y, 5.5));
  const plain = placed.filter(t => t.kind === "source" || t.kind === "baseline");
  for (const t of plain) {
    const mark = marker(t.kind, t.x, t.y, 7);
    if (t.hollow) mark.classList.add("hollow");
    root.append(mark);
  }
  names(root, box, plain.map(t => ({ text: t.name, kind: t.kind, x: t.x, y: t.y })), [...plain, ...members].map(t => [t.x, t.y]));
  hovers(root, closest(placed, 16));
  put(place, root, above);
}

/* Best value so far. course: {label, direction, steps: [[scored, value, trial]], beat};
   dots: every candidate's [scored, value] with lines(), or none. */
function progress(place, course, scored, dots, height, above) {
  const width = place.clientWidth, steps = course.steps, beat = course.beat;
  const values = [...steps.map(s => s[1]), ...dots.map(d => d.value), ...(beat ? [beat.value] : [])];
  const { root, at, box } = plot(width, height, {
    x: [0, Math.max(scored, 2) * 1.02], y: range(values, .1), whole: true,
    titleX: "scored candidates", label: `Best ${course.label} by scored candidates`,
  });
  const placed = dots.map(d => ({ x: at.x(d.scored), y: at.y(d.value), lines: d.lines, missed: d.missed }));
  const dotted = missed => placed.filter(d => Boolean(d.missed) === missed).map(d => [d.x, d.y]);
  if (dots.length) root.append(rings(dotted(true), 3), cloud(dotted(false), 6));
  if (beat) root.append(shape("path", { class: "beat " + beat.kind, d: `M${box.left} ${at.y(beat.value)}H${box.right}` }));
  if (steps.length) {
    const path = steps.slice(1).map(s => `H${at.x(s[0])}V${at.y(s[1])}`).join("");
    root.append(shape("path", { class: "step", d: `M${at.x(steps[0][0])} ${at.y(steps[0][1])}${path}H${at.x(scored)}` }));
    for (const s of steps) root.append(marker("member", at.x(s[0]), at.y(s[1]), 3.2));
  }
  const along = (x) => {
    const found = [...steps].reverse().find(s => at.x(s[0]) <= x + 3) || steps[0];
    if (!found) return null;
    const lines = [number(found[1]) + " " + course.label, `trial ${found[2]}, the best from ${found[0]} scored candidates on`];
    return { x: at.x(found[0]), y: at.y(found[1]), lines };
  };
  const near = closest(placed, 12);
  hovers(root, (x, y) => near(x, y) || along(x));
  put(place, root, above);
}
