// ---- what the page knows

const EVERY = 2000, MOST_ROWS = 300;
const known = { epoch: "", points: [], view: null, at: 0 };
const drawn = new Map();
const get = id => document.getElementById(id);

/* Whether something differs from what was drawn under this key; the page only touches what does. */
function changed(key, value) {
  const text = JSON.stringify(value);
  if (drawn.get(key) === text) return false;
  drawn.set(key, text);
  return true;
}
function listed(rows) { return rows.length > MOST_ROWS ? `; the first ${MOST_ROWS} are listed` : ""; }
function show(id, visible) { get(id).hidden = !visible; return visible; }
function say(id, text) { if (get(id).textContent !== text) get(id).textContent = text; }
function plural(count, word) { return `${thousands(count)} ${word}${count === 1 ? "" : "s"}`; }
function clock(seconds) { return new Date(seconds * 1000).toLocaleTimeString([], { hour12: false }); }
function cell(text, kind) { return element("td", text, kind); }
function row(...cells) { const made = element("tr"); made.append(...cells); return made; }

/* Marks before texts: [[kind, text], …]. */
function legend(entries) {
  const made = element("div", undefined, "legend");
  for (const [kind, text] of entries) {
    const mark = shape("svg", { width: 14, height: 14, "aria-hidden": "true" });
    mark.append(kind === "candidate" ? cloud([[7, 7]], 7) : kind === "missed" ? rings([[7, 7]], 4) : marker(kind, 7, 7, 5));
    const entry = element("span");
    entry.append(mark, text);
    made.append(entry);
  }
  return made;
}

// ---- top of the page

const WORDS = {
  finished: "The study has finished. Extend it: ",
  interrupted: "The search was stopped; every finished trial is kept. Go on: ",
  killed: "The process that worked on this study has died; every finished trial is kept. Go on: ",
};
const TONES = { finished: "good", interrupted: "pause", killed: "bad" };

function banner(tone, ...parts) {
  const place = get("banner");
  place.className = "banner " + tone;
  place.replaceChildren(...parts);
  place.hidden = false;
}
function drawState(view) {
  if (!changed("state", [view.state, view.name, view.objectives.map(o => [o.label, o.direction]), view.report, view.resume])) return;
  document.title = `${view.name} · ${view.state} · evomerge`;
  say("name", view.name);
  get("state").className = "state " + view.state;
  say("state", view.state);
  const aims = view.objectives.map(o => `${o.direction} ${o.label}`).join(", ") + (view.constraints.length ? "; keeping " + view.constraints.join(", ") : "");
  const about = get("about");
  about.replaceChildren(aims);
  if (view.report) {
    const link = element("a", view.state === "finished" ? "report" : "report as last written");
    link.href = "report";
    about.append(" · ", link);
  }
  if (view.state === "running") show("banner", false);
  else banner(TONES[view.state], WORDS[view.state], element("code", view.resume));
}
function drawProgress(view) {
  const { phase, limits } = view;
  show("progress", phase !== null || limits.length > 0);
  const of = phase && phase.total !== null ? " of " + thousands(phase.total) : "";
  const what = { preparing: "Preparing", "sources and baselines": "Sources and baselines", search: "Search", validation: "Validation of the best", test: "Test of the final front" };
  say("phase", phase ? what[phase.name] : "Budget");
  const parts = [];
  if (phase && phase.name === "preparing") parts.push("models are being loaded, or the report is being written");
  else if (phase) parts.push(`${thousands(phase.done)}${of} ${phase.name === "search" ? "candidates" : "trials"} done`);
  if (view.rate !== null) parts.push(`${Number(view.rate.toPrecision(3))} a minute`);
  if (view.left !== null) parts.push(`about ${duration(view.left)} left of the search`);
  say("pace", parts.join(" · "));
  if (!changed("limits", limits)) return;
  const place = get("limits");
  if (place.childElementCount !== 3 * limits.length) {
    place.replaceChildren(...limits.flatMap(() => {
      const bar = element("div", undefined, "bar");
      bar.append(element("i"));
      return [element("span"), bar, element("span")];
    }));
  }
  limits.forEach(({ what: name, used, total }, k) => {
    const [title, bar, figures] = [0, 1, 2].map(j => place.children[3 * k + j]);
    title.textContent = name;
    bar.firstChild.style.width = Math.min(100, 100 * used / total) + "%";
    figures.textContent = (name === "minutes" ? used.toFixed(1) : thousands(used)) + " of " + thousands(total);
  });
}
function drawTiles(view) {
  const { counts, objectives, front } = view;
  const tiles = [
    [thousands(counts.complete), "candidates scored", counts.open ? `${thousands(counts.open)} open` : ""],
    [thousands(counts.failed), "failed", counts.failed ? plural(view.failure_reasons, "reason") : ""],
  ];
  if (objectives.length > 1) tiles.push([thousands(front.length), "on the front", ""]);
  if (view.constraints.length) tiles.push([thousands(view.feasible), "meet the constraints", view.nearest ? `trial ${view.nearest.trial} misses them least, by ${number(view.nearest.violation)}` : ""]);
  tiles.push([duration(view.seconds), "worked", `${thousands(view.item_evaluations)} item evaluations`]);
  for (const o of objectives.slice(0, 4)) {
    if (!o.steps.length) continue;
    const [, value, trial] = o.steps[o.steps.length - 1];
    tiles.push([number(value), `best ${o.label}`, `trial ${trial}` + (o.beat ? `; ${o.beat.name} ${number(o.beat.value)}` : "")]);
  }
  if (!changed("tiles", tiles)) return;
  get("tiles").replaceChildren(...tiles.map(([value, what, remark]) => {
    const tile = element("div", undefined, "tile");
    tile.append(element("b", value), element("span", what), element("small", remark));
    return tile;
  }));
}

// ---- front and history

function told(name, trial, values, errors, view, more, violation) {
  const scores = view.objectives.map((o, k) => `${o.label}: ${estimate(values[k], errors[k])}`);
  if (violation) scores.push(`misses the constraints by ${number(violation)} all together`);
  return [name, `trial ${trial}` + (more ? ", " + more : ""), ...scores];
}
function chosenAxes(view) {
  const labels = view.objectives.map(o => o.label);
  show("axes", labels.length > 2);
  if (changed("axes", labels)) {
    for (const [id, first] of [["axis-x", 0], ["axis-y", 1]]) {
      get(id).replaceChildren(...labels.map((label, k) => {
        const option = element("option", label);
        option.value = k;
        return option;
      }));
      get(id).value = first;
    }
  }
  return labels.length > 2 ? [Number(get("axis-x").value), Number(get("axis-y").value)] : [0, 1];
}
function drawScatter(view) {
  const [a, b] = chosenAxes(view), members = new Set(view.front);
  const scored = view.plain.filter(p => p.values.length);
  const key = [a, b, known.points.length, view.epoch, scored.length, get("front-chart").clientWidth];
  if (!changed("scatter", key)) return;
  const candidates = known.points.map(([trial, name, values, errors, violation]) => ({
    kind: members.has(trial) ? "member" : violation ? "missed" : "candidate", name, values: [values[a], values[b]],
    lines: () => told(name, trial, values, errors, view, members.has(trial) ? "on the front" : "", violation),
  }));
  const plain = scored.map(p => ({
    kind: p.kind, name: p.name, values: [p.values[a], p.values[b]], hollow: p.violation > 0,
    lines: () => told(p.name, p.trial, p.values, p.errors, view, p.kind, p.violation),
  }));
  say("front-title", "Pareto front, search items");
  say("front-lead", "No candidate is better than a front candidate in one objective without being worse in another.");
  const missed = known.points.length - view.feasible, dominated = known.points.length - members.size - missed;
  const marks = legend([
    ["member", `front candidates (${thousands(members.size)})`], ["candidate", `dominated (${thousands(dominated)})`],
    ...(view.constraints.length ? [["missed", `miss a constraint (${thousands(missed)})`]] : []),
    ["source", "source models"], ["baseline", "baselines"],
  ]);
  scatter(get("front-chart"), [...candidates, ...plain], [view.objectives[a], view.objectives[b]], view.objectives.length === 2, [marks]);
}
function drawSingle(view) {
  const [course] = view.objectives;
  if (!changed("scatter", [known.points.length, view.epoch, course.beat, get("front-chart").clientWidth])) return;
  say("front-title", `Best ${course.label} so far, search items`);
  say("front-lead", course.direction === "maximize" ? "Higher is better." : "Lower is better.");
  const dots = known.points.map(([trial, name, values, errors, violation], k) => ({
    scored: k + 1, value: values[0], missed: violation > 0,
    lines: () => told(name, trial, values, errors, view, `scored as number ${k + 1}`, violation),
  }));
  const entries = [["member", "best so far"], ["candidate", view.constraints.length ? "candidates" : "every candidate"]];
  if (view.constraints.length) entries.push(["missed", `miss a constraint (${thousands(known.points.length - view.feasible)})`]);
  if (course.beat) entries.push([course.beat.kind, `dashed: ${course.beat.name}, ${number(course.beat.value)}`]);
  progress(get("front-chart"), course, known.points.length, dots, 380, [legend(entries)]);
}
function drawFront(view) {
  const several = view.objectives.length > 1;
  const something = known.points.length > 0 || several && view.plain.some(p => p.values.length);
  if (!show("front", something)) return;
  if (several) drawScatter(view); else drawSingle(view);
  const rows = several ? view.front.map(trial => known.byTrial.get(trial)) : [];
  if (!show("front-rows", rows.length > 0) || !changed("rows", [view.epoch, view.front])) return;
  say("front-rows-title", `${plural(rows.length, "candidate")} on the front, best in ${view.objectives[0].label} first${listed(rows)}`);
  const labels = view.objectives.map(o => element("th", o.label, "n"));
  get("front-head").replaceChildren(element("th", "trial", "n"), element("th", "name"), ...labels);
  get("front-body").replaceChildren(...rows.slice(0, MOST_ROWS).map(([trial, name, values, errors]) =>
    row(cell(trial, "n"), cell(name, "wide"), ...values.map((value, k) => cell(estimate(value, errors[k]), "n")))));
}
function drawHistory(view) {
  const courses = view.objectives.filter(o => o.steps.length);
  if (!show("history", view.objectives.length > 1 && courses.length > 0)) return;
  const place = get("history-panels");
  if (!changed("history", [courses, known.points.length, place.clientWidth])) return;
  while (place.childElementCount > courses.length) place.lastChild.remove();
  while (place.childElementCount < courses.length) {
    const panel = element("div", undefined, "panel");
    panel.append(element("h3"), element("p"), element("div", undefined, "chart"));
    place.append(panel);
  }
  courses.forEach((course, k) => {
    const [title, note, chart] = place.children[k].children, [, value, trial] = course.steps[course.steps.length - 1];
    title.textContent = course.label;
    note.textContent = `${number(value)}, trial ${trial}` + (course.beat ? `; dashed: ${course.beat.name} ${number(course.beat.value)}` : "");
    progress(chart, course, known.points.length, [], 190);
  });
}

// ---- workers and troubles

function share(part) {
  const made = element("div", undefined, "share"), bar = element("div", undefined, "bar"), fill = element("i");
  fill.style.width = 100 * part + "%";
  bar.append(fill);
  made.append(bar, element("span", Math.round(100 * part) + " %"));
  return made;
}
function drawWorkers(view) {
  const { workers } = view;
  if (!show("workers", workers.length > 0) || !changed("workers", [workers, view.state])) return;
  const counts = ["busy", "idle", "starting", "lost"].map(c => [workers.filter(w => w.condition === c).length, c]);
  const total = key => workers.reduce((sum, w) => sum + w[key], 0);
  const mean = Math.min(1, total("busy") / (total("ready") || 1));
  const said = counts.filter(([n]) => n).map(([n, c]) => `${n} ${c}`).join(", ");
  say("workers-lead", `${view.state === "running" ? "" : "As last seen: "}${said}; ${Math.round(100 * mean)} % of their time spent on candidates${listed(workers)}.`);
  get("workers-body").replaceChildren(...workers.slice(0, MOST_ROWS).map(w => {
    const busy = cell();
    busy.append(share(w.utilisation));
    const does = w.condition === "busy" && w.trial !== null ? `busy with trial ${w.trial}` : w.condition;
    return row(cell(w.name, "name"), cell(does, w.condition), cell(w.node, "wide"), cell(thousands(w.jobs), "n"), cell(w.restarts, "n"), busy);
  }));
}
function drawTroubles(view) {
  if (show("failures", view.failures.length > 0) && changed("failures", view.failures)) {
    const hidden = view.failure_reasons - view.failures.length;
    say("failures-lead", hidden ? `The latest reasons; ${plural(hidden, "earlier one")} not shown.` : "");
    get("failures-body").replaceChildren(...view.failures.map(f =>
      row(cell(f.count, "n"), cell(f.stage), cell(f.reason, "wide"), cell(f.latest, "n"))));
  }
  if (show("incidents", view.incidents.length > 0) && changed("incidents", view.incidents)) {
    const hidden = view.incident_count - view.incidents.length;
    say("incidents-lead", "What befell workers, latest first" + (hidden ? `; ${plural(hidden, "earlier one")} not shown.` : "."));
    get("incidents-body").replaceChildren(...view.incidents.map(i =>
      row(cell(clock(i.at), "when"), cell(i.worker, "name"), cell(i.what, "wide"), cell(i.trial ?? "", "n"))));
  }
}

// ---- keeping up to date

function draw() {
  const view = known.view;
  for (const part of [drawState, drawProgress, drawTiles, drawFront, drawHistory, drawWorkers, drawTroubles]) part(view);
  say("updated", `As of ${clock(known.at)}.`);
}
function lost(why) {
  drawn.delete("state");
  get("state").className = "state lost";
  say("state", "connection lost");
  banner("bad", `Connection lost: ${why}. ` + (known.view ? `What is shown is from ${clock(known.at)}. ` : "") + "Trying again every two seconds.");
}
function take(view) {
  if (view.epoch !== known.epoch || view.first > known.points.length) {
    known.epoch = view.epoch;
    known.points = [];
    known.byTrial = new Map();
    if (view.first > 0) return false;  // another study now: ask for all of it
  }
  for (const point of view.points.slice(known.points.length - view.first)) {
    known.points.push(point);
    known.byTrial.set(point[0], point);
  }
  known.view = view;
  known.at = view.now;
  return true;
}
async function look() {
  let answer, view;
  try {
    answer = await fetch(`state.json?epoch=${encodeURIComponent(known.epoch)}&since=${known.points.length}`, { cache: "no-store", signal: AbortSignal.timeout(10000) });
    view = await answer.json();
  } catch {
    return lost("evomerge serve no longer answers");
  }
  if (!answer.ok) return lost(view.error || "the study cannot be read");
  if (take(view)) draw();
}
async function keepUp() {
  if (!document.hidden) await look();
  setTimeout(keepUp, EVERY);
}
document.addEventListener("visibilitychange", () => { if (!document.hidden) look(); });
for (const id of ["axis-x", "axis-y"]) get(id).addEventListener("change", () => { if (known.view) drawFront(known.view); });
// only what depends on the width: a banner's coming changes the height, and is to stay
new ResizeObserver(() => { if (known.view) { drawFront(known.view); drawHistory(known.view); } }).observe(document.body);
keepUp();
