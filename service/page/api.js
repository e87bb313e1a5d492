// Requests to the service, and its clock.

let skew = 0; // milliseconds that the service's clock is ahead of this browser's

/** Now on the service's clock, in milliseconds. */
export const now = () => Date.now() + skew;

/** Fetch `path`, which begins with a slash and is relative to this page, as JSON; throws an Error with the service's message if it refuses. */
export async function read(path, options = {}) {
  let response;
  try {
    response = await fetch(`.${path}`, { signal: AbortSignal.timeout(15000), ...options });
  } catch {
    throw new Error("The service does not answer. This page retries by itself.");
  }
  const date = Date.parse(response.headers.get("date")); // in whole seconds
  if (date && Math.abs(date + 500 - now()) > 2000) skew = date + 500 - Date.now();
  const body = await response.json().catch(() => ({}));
  if (!response.ok) {
    throw Object.assign(new Error(body.detail ?? `HTTP ${response.status}`), { status: response.status, problem: body });
  }
  return body;
}

/** Parameters that have a value. */
export const given = (parameters) => Object.fromEntries(Object.entries(parameters).filter(([, value]) => value !== null && value !== undefined));

/** Address of a route with parameters; those without a value are left out. */
export const address = (path, parameters) => `${path}?${new URLSearchParams(given(parameters))}`;
