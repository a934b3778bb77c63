// SPDX-License-Identifier: Apache-2.0
// A client of CloudStack's query API for browsers: a session cookie that scripts cannot read, and a session key
// that pages of other sites do not have.

import { nextChange } from "./live.js";

const KEY = "systemvm.sessionkey";
const USER = "systemvm.user";
// A job can end between the question and the wait for a change.
const LOST_EVENT_MS = 2000;

const PASSING = new Set([0, 429, 503]);

export class ApiError extends Error {
  // `retryAfterMs` is how long the daemon asks to wait, `parameter` the one whose value it refused.
  constructor(code, text, hint, { retryAfterMs = 0, parameter = "" } = {}) {
    super(hint ? `${text}: ${hint}` : text);
    this.code = code;
    this.retryAfterMs = retryAfterMs;
    this.parameter = parameter;
  }

  // Whether the same call can succeed later: no connection, too many calls, or a daemon that is busy.
  get passes() {
    return PASSING.has(this.code);
  }
}

// A parameter that is undefined is not sent.
async function post(parameters) {
  const given = Object.entries({ ...parameters, response: "json" }).filter(([, value]) => value !== undefined);
  let answer;
  try {
    answer = await fetch("client/api", {
      method: "POST",
      credentials: "same-origin",
      headers: { "Content-Type": "application/x-www-form-urlencoded" },
      body: new URLSearchParams(given),
    });
  } catch {
    throw new ApiError(0, "cannot reach the management daemon");
  }
  const body = await answer.json().catch(() => ({}));
  const result = Object.values(body)[0] ?? {};
  if (!answer.ok || result.errorcode) {
    throw new ApiError(result.errorcode ?? answer.status, result.errortext ?? `HTTP ${answer.status}`, result.hint,
      { retryAfterMs: 1000 * (Number(answer.headers.get("Retry-After")) || 0), parameter: result.parameter });
  }
  return result;
}

// The commands that the user is allowed to call; see `learnCommands`.
let permitted = new Set();
export const commands = () => permitted;

// Ask which commands the user is allowed to call. The page offers nothing else.
export async function learnCommands() {
  const { api = [] } = await call("listApis", { namesonly: "true" });
  permitted = new Set(api.map(({ name }) => name));
}

export const loggedIn = () => sessionStorage.getItem(KEY) !== null && sessionStorage.getItem(USER) !== null;

// The user who is logged in: {id, name, account, domainid, admin, administrator, secondFactor}; a domain administrator is no admin. Before the session can be used, `secondFactor` is
// "code", or "missing" for who must set it up. The daemon decides what each user is allowed to do; the page calls
// only what the daemon permits.
export const user = () => JSON.parse(sessionStorage.getItem(USER));

export async function login(username, password, domain) {
  const session = await post({ command: "login", username, password, ...(domain ? { domain } : {}) });
  sessionStorage.setItem(KEY, session.sessionkey);
  sessionStorage.setItem(USER, JSON.stringify({ id: session.userid, name: session.username, account: session.account, domainid: session.domainid, admin: session.type === "1", administrator: session.type !== "0",
    secondFactor: session.is2faverified === "true" ? "" : session.providerfor2fa ? "code" : "missing" }));
}

// The second factor of the session is verified.
export function verified() {
  sessionStorage.setItem(USER, JSON.stringify({ ...user(), secondFactor: "" }));
}

export async function logout() {
  try {
    await call("logout");
  } finally {
    sessionStorage.removeItem(KEY);
    sessionStorage.removeItem(USER);
  }
}

export function forget() {
  sessionStorage.removeItem(KEY);
  sessionStorage.removeItem(USER);
}

export function call(command, parameters = {}) {
  return post({ command, ...parameters, sessionkey: sessionStorage.getItem(KEY) ?? "" });
}

// All rows of a list, page by page.
export async function allRows(command, key, parameters = {}) {
  const pagesize = 500;
  const found = [];
  for (let page = 1; ; page += 1) {
    const { [key]: rows = [] } = await call(command, { ...parameters, page: String(page), pagesize: String(pagesize) });
    found.push(...rows);
    if (rows.length < pagesize) return found;
  }
}

// Run an asynchronous command and wait for its job; throws the job's error. A job is not lost with a question about it.
export async function job(command, parameters = {}) {
  const { jobid } = await call(command, parameters);
  return followJob(jobid);
}

async function askAbout(jobid) {
  for (;;) {
    try {
      return await call("queryAsyncJobResult", { jobid });
    } catch (error) {
      if (!(error instanceof ApiError) || !error.passes) throw error;
      await new Promise((done) => setTimeout(done, error.retryAfterMs || LOST_EVENT_MS));
    }
  }
}

export async function followJob(jobid) {
  for (;;) {
    const { jobstatus, jobresultcode, jobresult } = await askAbout(jobid);
    if (jobstatus === 1) return jobresult;
    if (jobstatus === 2) throw new ApiError(jobresultcode, jobresult?.errortext ?? "job failed", jobresult?.hint, { parameter: jobresult?.parameter });
    await nextChange(["async_jobs"], LOST_EVENT_MS);
  }
}
