"use strict";
// Keeps the page current: fetches it again, takes over what changed, draws two charts.  The history lives here
// only; a hidden page asks nothing.
(() => {
const EVERY_MS = 2000, KEPT_S = 180, WINDOW_S = 9;      // latencies are those of the last WINDOW_S seconds
const WIDTH = 600, HEIGHT = 140, TOP = 8;
const byId = id => document.getElementById(id);
const samples = [], points = [];

function percentile(counts, share) {
  const wanted = share * counts.reduce((sum, [, count]) => sum + count, 0);
  let seen = 0, bottom = 0;
  if (!wanted) return null;
  for (const [top, count] of counts) {
    if (count && seen + count >= wanted) return bottom + (top - bottom) * (wanted - seen) / count;
    seen += count;
    bottom = top;
  }
  return bottom;
}

function learn(sample) {
  let last = samples[samples.length - 1];
  if (last && (sample["start time"] !== last["start time"] || sample.requests < last.requests)) {
    samples.length = points.length = 0;                 // another master: its counters start anew
    last = undefined;
  }
  if (last && sample.now <= last.now) return;
  samples.push(sample);
  if (!last) return;
  const seconds = sample.now - last.now;
  while (samples.length > 2 && sample.now - samples[1].now >= WINDOW_S) samples.shift();
  const before = samples[0]["latency buckets"];
  const counts = sample["latency buckets"].map(([top, count], index) => [top, Math.max(0, count - before[index][1])]);
  points.push({at: sample.now, rate: (sample.requests - last.requests) / seconds,
               wrong: Math.max(0, sample.errors - last.errors) / seconds,
               p50: percentile(counts, .5), p95: percentile(counts, .95)});
  while (points[0].at < sample.now - KEPT_S) points.shift();
}

function ceiling(most) {
  const power = 10 ** Math.floor(Math.log10(most));
  return [1, 1.5, 2, 3, 5, 7.5, 10].map(step => step * power).find(step => step >= most);
}

const digits = (number, most) => number.toLocaleString("en", {maximumFractionDigits: most});
const rate = number => digits(number, number < 10 ? 1 : 0);
const time = ms => ms === null || ms === undefined ? "\u2013"
  : ms >= 1000 ? digits(ms / 1000, 1) + " s" : digits(ms, ms < 1 ? 2 : ms < 10 ? 1 : 0) + " ms";

// The chart is as long as what is known, from ten seconds up.
const span = () => Math.min(KEPT_S, Math.max(10, points[points.length - 1].at - points[0].at));

// A line is broken where there is no value, and where the page was hidden for a while.
function line(key, y) {
  const now = points[points.length - 1].at, shown = span();
  let path = "", from = null;
  for (const point of points) {
    if (point[key] === null) { from = null; continue; }
    const x = (WIDTH * (1 - (now - point.at) / shown)).toFixed(1);
    path += (from === null || point.at - from > 15 ? "M" : "L") + x + " " + y(point[key]).toFixed(1);
    from = point.at;
  }
  return path;
}

function area(path) {
  return path.split("M").slice(1).map(part => {
    const spots = part.split("L"), start = spots[0].split(" ")[0], end = spots[spots.length - 1].split(" ")[0];
    return "M" + part + "L" + end + " " + HEIGHT + "L" + start + " " + HEIGHT + "Z";
  }).join("");
}

// Levels: where a line across the chart stands, from 0 (below) to 1, and what it says.
const linear = (most, label) => ({place: value => value / most, levels: [[.5, label(most / 2)], [1, label(most)]]});

// Medians and outliers are far apart: every factor of ten gets the same height.
function logarithmic(least, most, label) {
  const low = Math.floor(Math.log10(least)), steps = Math.max(1, Math.ceil(Math.log10(most)) - low);
  return {place: value => Math.max(0, (Math.log10(Math.max(value, 1e-9)) - low) / steps),
          levels: Array.from({length: steps}, (_, step) => [(step + 1) / steps, label(10 ** (low + step + 1))])};
}

function draw(id, series, scale) {
  const plot = byId(id), svg = plot.querySelector("svg");
  const y = value => HEIGHT - (HEIGHT - TOP) * scale.place(value);
  const paths = [["grid", scale.levels.map(([at]) => `M0 ${HEIGHT - (HEIGHT - TOP) * at}H${WIDTH}`).join("")]];
  series.forEach(([key, kind], index) => {
    const path = line(key, y);
    if (!index) paths.push(["area", area(path)]);
    paths.push([kind, path]);
  });
  while (svg.childNodes.length < paths.length)
    svg.append(document.createElementNS("http://www.w3.org/2000/svg", "path"));
  paths.forEach(([kind, path], index) => {
    svg.childNodes[index].setAttribute("class", kind);
    svg.childNodes[index].setAttribute("d", path);
  });
  plot.querySelectorAll(".tick").forEach(tick => tick.remove());
  for (const [at, text] of scale.levels) {
    const tick = document.createElement("span");
    tick.className = "tick";
    tick.textContent = text;
    tick.style.top = 100 * (1 - at * (1 - TOP / HEIGHT)) + "%";
    plot.append(tick);
  }
}

function paint() {
  const last = points[points.length - 1];
  if (!last) return;
  byId("charts").hidden = false;
  const values = (...keys) => points.flatMap(point => keys.map(key => point[key])).filter(value => value);
  const failed = values("wrong").length ? [["wrong", "errors"]] : [];
  draw("rates", [["rate", "first"], ...failed], linear(ceiling(Math.max(1, ...values("rate"))), most => rate(most) + "/s"));
  const times = values("p50", "p95");
  draw("times", [["p50", "first"], ["p95", "second"]],
       logarithmic(Math.min(1, ...times), Math.max(10, ...times), time));
  for (const place of document.querySelectorAll(".since"))
    place.textContent = span() < 60 ? Math.round(span()) + " s ago" : digits(span() / 60, 1) + " min ago";
  byId("rate").textContent = rate(last.rate);
  byId("wrong").textContent = rate(last.wrong);
  byId("p50").textContent = time(last.p50);
  byId("p95").textContent = time(last.p95);
  document.title = rate(last.rate) + "/s \u00b7 luafcgid2 status";
}

// Takes over what differs, node by node, so that a selection or a scrolled table stays as it is.
function renew(old, fresh) {
  if (old.nodeType === Node.ELEMENT_NODE) {
    for (const {name} of [...old.attributes]) if (!fresh.hasAttribute(name)) old.removeAttribute(name);
    for (const {name, value} of fresh.attributes) if (old.getAttribute(name) !== value) old.setAttribute(name, value);
  } else if (old.data !== fresh.data) {
    old.data = fresh.data;
  }
  [...fresh.childNodes].forEach((child, index) => {
    const present = old.childNodes[index];
    if (!present) old.append(document.importNode(child, true));
    else if (present.nodeName !== child.nodeName) present.replaceWith(document.importNode(child, true));
    else renew(present, child);
  });
  while (old.childNodes.length > fresh.childNodes.length) old.lastChild.remove();
}

async function ask() {
  try {
    const answer = await fetch(location.href, {cache: "no-store", signal: AbortSignal.timeout(10000)});
    if (!answer.ok) throw new Error(answer.statusText);
    const fresh = new DOMParser().parseFromString(await answer.text(), "text/html");
    learn(JSON.parse(fresh.getElementById("data").textContent));
    for (const part of document.querySelectorAll("[data-live]")) renew(part, fresh.getElementById(part.id));
    paint();
    byId("lost").hidden = true;
  } catch {
    byId("lost").hidden = false;
  }
}

async function run() {
  if (!document.hidden) await ask();
  setTimeout(run, EVERY_MS);
}

learn(JSON.parse(byId("data").textContent));
setTimeout(run, 500);
})();
