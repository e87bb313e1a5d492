// The choices of what is shown, kept in the page's address so that a link or a reload keeps them.

import { element } from "./dom.js";

export const PERIODS = { "1h": 1, "6h": 6, "24h": 24, "7d": 168, "30d": 720, "90d": 2160 };
const REFRESHES = [10, 30, 60, 120, 300];
const ZONES = { UTC: "UTC", local: "local time", "America/Sao_Paulo": "São Paulo" };
const DEFAULTS = { market: null, symbol: null, interval: null, period: "24h", refresh: 10, zone: "UTC" };

/** Read the choices from the address; a missing or invalid one has its default. */
export function readChoices() {
  const asked = new URLSearchParams(location.search);
  const one = (name, known) => (known.includes(asked.get(name)) ? asked.get(name) : DEFAULTS[name]);
  const refresh = Number(asked.get("refresh"));
  return {
    market: asked.get("market"),
    symbol: asked.get("symbol"), // of links made before markets had names
    interval: asked.get("interval"),
    period: one("period", Object.keys(PERIODS)),
    refresh: refresh >= 10 && refresh <= 300 ? refresh : DEFAULTS.refresh,
    zone: one("zone", Object.keys(ZONES)),
  };
}

function writeChoices(choices) {
  const chosen = Object.entries(choices).filter(([name, value]) => value !== null && value !== DEFAULTS[name]);
  const query = new URLSearchParams(chosen).toString();
  history.replaceState(null, "", query ? `?${query}${location.hash}` : location.pathname + location.hash);
}

/** The IANA name of a chosen zone. */
export const zoneOf = (choice) => (choice === "local" ? Intl.DateTimeFormat().resolvedOptions().timeZone : choice);

/** Fill the form, and call `changed` with the choices after every change. */
export function offerChoices(form, changed) {
  const choices = readChoices();
  for (const period of Object.keys(PERIODS)) {
    const input = element("input", { type: "radio", name: "period", value: period });
    input.checked = period === choices.period;
    form.querySelector("fieldset").append(element("label", {}, input, element("span", {}, period.replace(/(\d+)/, "$1 "))));
  }
  const refreshes = [...new Set([...REFRESHES, choices.refresh])].sort((a, b) => a - b);
  fill(form.elements.refresh, refreshes.map((seconds) => [seconds, `${seconds} s`]), choices.refresh);
  fill(form.elements.zone, Object.entries(ZONES), choices.zone);
  form.addEventListener("submit", (event) => event.preventDefault());
  form.addEventListener("change", ({ target }) => {
    if (target === form.elements.market) Object.assign(choices, chosenMarket(target));
    Object.assign(choices, {
      period: form.elements.period.value,
      refresh: Number(form.elements.refresh.value),
      zone: form.elements.zone.value,
    });
    writeChoices(choices);
    changed(choices);
  });
  return choices;
}

/** The market of the select; the default, which is first, has no name. */
function chosenMarket(select) {
  return { market: select.selectedIndex > 0 ? select.value : null, symbol: null, interval: null };
}

const seriesName = ({ symbol, interval }) => `${symbol}-${interval}`;
const names = (markets) => markets.map(({ market }) => market);

/** Offer the markets that are forecast here, and those that are only stored. @param status answer of /status */
export function offerMarkets(form, status) {
  const forecast = status.forecast_here.map(seriesName);
  const stored = status.markets.map(seriesName).filter((name) => !forecast.includes(name));
  const offered = [...new Set([...names(status.forecast_here), ...stored, status.market])];
  const select = form.elements.market;
  if ([...select.options].map((option) => option.value).join() === offered.join()) return;
  select.replaceChildren(...offered.map((one) => element("option", { value: one }, one.replace(/-h(\d+)$/, "-$1 ahead").replaceAll("-", " · "))));
  select.value = status.market;
}

/** Whether the market of a status is forecast here, and not only stored. */
export const isForecastHere = (status) => names(status.forecast_here).includes(status.market);

function fill(select, options, chosen) {
  select.replaceChildren(...options.map(([value, shown]) => element("option", { value }, String(shown))));
  select.value = String(chosen);
}
