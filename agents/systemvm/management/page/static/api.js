// SPDX-License-Identifier: Apache-2.0
// CloudStack's query API, as a browser speaks it: a session cookie that scripts cannot read, and a session key
// that another site's page does not know.

const KEY = "systemvm.sessionkey";
const USER = "systemvm.user";

export class ApiError extends Error {
  constructor(code, text) {
    super(text);
    this.code = code;
  }
}

async function post(parameters) {
  let answer;
  try {
    answer = await fetch("client/api", {
      method: "POST",
      credentials: "same-origin",
      headers: { "Content-Type": "application/x-www-form-urlencoded" },
      body: new URLSearchParams({ ...parameters, response: "json" }),
    });
  } catch {
    throw new ApiError(0, "The management daemon does not answer.");
  }
  const body = await answer.json().catch(() => ({}));
  const result = Object.values(body)[0] ?? {};
  if (!answer.ok || result.errorcode) {
    throw new ApiError(result.errorcode ?? answer.status, result.errortext ?? `HTTP ${answer.status}`);
  }
  return result;
}

export const loggedIn = () => sessionStorage.getItem(KEY) !== null && sessionStorage.getItem(USER) !== null;

// Who is logged in: {id, name, admin}. What each may do the daemon decides; the page asks for what it will answer.
export const user = () => JSON.parse(sessionStorage.getItem(USER));

export async function login(username, password) {
  const session = await post({ command: "login", username, password });
  sessionStorage.setItem(KEY, session.sessionkey);
  sessionStorage.setItem(USER, JSON.stringify({ id: session.userid, name: session.username, admin: session.type === "1" }));
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

// An asynchronous command, followed to its end; throws what the job failed with.
export async function job(command, parameters = {}) {
  const { jobid } = await call(command, parameters);
  for (;;) {
    const state = await call("queryAsyncJobResult", { jobid });
    if (state.jobstatus === 1) return state.jobresult;
    if (state.jobstatus === 2) throw new ApiError(state.jobresultcode, state.jobresult?.errortext ?? "The job failed.");
    await new Promise((wake) => setTimeout(wake, 700));
  }
}
