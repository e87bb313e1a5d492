// Drift of the inputs from training, and the last runs of every job.

import { now } from "../api.js";
import { element, figure, state, table, text } from "../dom.js";
import { ago, count, dayTime, fixed, hhmm, percent } from "../format.js";
import { lyingBars } from "../svg_charts.js";

/** @param answers of /monitoring, /jobs and /quality */
export function drawDrift({ monitoring, jobs, quality }, body) {
  if (!monitoring.checks.length && !jobs.runs.length) return "No check and no flow has run yet.";
  const { issuing } = monitoring;
  const champion = issuing.champion;
  body.replaceChildren(
    element("div", { class: "figures" },
      figure("Missed forecasts", count(champion?.missed ?? 0), champion ? `among ${count(champion.n + champion.missed)} that were due` : ""),
      figure("Issued", champion?.lateness_p95_s == null ? "–" : `${fixed(champion.lateness_p95_s, 1)} s`, "after the close, 95 %"),
      figure("Gaps", `${count(quality.gaps_open)} open`, `${count(quality.gaps_repaired)} repaired, ${count(quality.outages)} outages`, quality.gaps_open ? "worse" : ""),
      figure("Candles", `${count(quality.doubtful)} doubtful`, `${count(quality.revisions)} corrected`, quality.doubtful ? "worse" : "")),
    ...driftOf(monitoring.checks),
    ...historyOf(monitoring.checks),
    ...alertsOf(monitoring.alerts),
    element("h3", { class: "apart" }, "Last runs"),
    table("Last runs of each flow", ["flow", "last", "before", "took", "message"], runsOf(jobs.runs), [4]),
    ...missesOf(monitoring.misses),
    ...gapsOf(quality));
  return null;
}

function driftOf(checks) {
  const measured = checks.find(({ numbers }) => numbers.drift?.distances);
  if (!measured) return [];
  const { distances, limits, drifted, share } = measured.numbers.drift;
  const rows = Object.entries(distances).map(([name, value]) => ({ name, value, limit: limits?.[name] })).sort((a, b) => b.value - a.value).slice(0, 10);
  const pages = measured.reports.map((page) => element("a", { href: `.${page}` }, page.replace(/.*-(\w+)\.html$/, "Evidently: $1")));
  return [
    element("h3", { class: "apart" }, `Inputs: ${drifted.length ? `${drifted.join(", ")} drifted` : "none drifted"} (${percent(share, 0)})`),
    lyingBars(`Distance of inputs from training: ${rows.map(({ name, value }) => `${name} ${fixed(value, 2)}`).join(", ")}.`, rows, (value) => fixed(value, 2)),
    element("p", { class: "sub links" }, `${dayTime(measured.checked_at)}; the mark is each input's limit. `, ...pages.flatMap((page) => [page, " "])),
  ];
}

function historyOf(checks) {
  if (!checks.length) return [];
  const verdicts = checks.slice(0, 12).map((check) =>
    element("li", { title: check.reasons.join("\n") }, state(check.verdict), ` ${hhmm(check.checked_at)}${check.action === "none" ? "" : ` → ${check.action}`}`));
  return [element("h3", { class: "apart" }, "Verdicts, newest first"), element("ul", { class: "list verdicts" }, ...verdicts)];
}

function alertsOf(alerts) {
  if (!alerts.length) return [];
  return [element("h3", { class: "apart" }, "Alerts"), element("ul", { class: "list" }, ...alerts.slice(0, 5).map((alert) =>
    element("li", {}, state(alert.state), ` ${dayTime(alert.opened_at)} · ${alert.kind}: ${alert.message}`)))];
}

function runsOf(runs) {
  const byJob = Map.groupBy(runs, (run) => run.job);
  return [...byJob].map(([job, [last, ...before]]) => {
    const took = last.finished_at ? `${fixed((Date.parse(last.finished_at) - Date.parse(last.started_at)) / 1000, 1)} s` : "running";
    return [job, element("span", {}, state(last.status), ` ${ago(last.finished_at ?? last.started_at, now())}`),
      element("span", {}, ...before.map((run) => state(run.status))), took, last.message.slice(0, 160)];
  });
}

function missesOf(misses) {
  if (!misses.length) return [];
  return [element("h3", { class: "apart" }, "Missed forecasts"),
    text("p", "sub", misses.slice(0, 12).map((miss) => `${dayTime(miss.open_time)} (${miss.role}: ${miss.reason})`).join("; "))];
}

function gapsOf({ newest_gaps: gaps, newest_revisions: revisions }) {
  const listed = gaps.slice(0, 5).map((gap) => element("li", {}, state(gap.state), ` ${dayTime(gap.start)} to ${dayTime(gap.end)}`));
  const replaced = revisions.slice(0, 5).map((one) => element("li", {}, state("corrected"), ` ${dayTime(one.open_time)}, from ${one.source}`));
  return listed.length + replaced.length ? [element("h3", { class: "apart" }, "Gaps and corrections"), element("ul", { class: "list" }, ...listed, ...replaced)] : [];
}
