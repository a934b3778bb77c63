// SPDX-License-Identifier: Apache-2.0
// What has changed in the cloud: server-sent events name the tables, so that nothing is asked for again and again.

const AGAIN_MS = 3000;

let source = null;
let timer = 0;
const waiting = new Set(); // of callers that wait for a change in some tables: {tables, wake}

// Call `wake` each time some of the tables have changed.
export function watch(tables, wake) {
  waiting.add({ tables, wake });
}

// Call `changed` with the names of tables each time some have changed ("*" is any), and `lost` when the stream is
// interrupted; it is opened again by itself.
export function follow(changed, lost) {
  if (source) return;
  source = new EventSource("client/changes");
  source.addEventListener("message", ({ data }) => {
    const tables = new Set(JSON.parse(data));
    for (const waiter of [...waiting]) if (concerns(tables, waiter.tables)) waiter.wake();
    changed(tables);
  });
  source.addEventListener("error", ({ target }) => {
    if (target !== source) return;
    if (target.readyState === EventSource.CLOSED) {
      unfollow(); // refused: the session can have ended, or the daemon starts
      timer = setTimeout(() => follow(changed, lost), AGAIN_MS);
    }
    lost();
  });
}

export function unfollow() {
  clearTimeout(timer);
  source?.close();
  source = null;
}

export const concerns = (changed, tables) => changed.has("*") || tables.some((table) => changed.has(table));

// Return when one of the tables has changed, or after a time at most: an event can come before this is called.
export function nextChange(tables, atMostMs) {
  return new Promise((done) => {
    const waiter = { tables };
    const end = setTimeout(() => waiter.wake(), atMostMs);
    waiter.wake = () => {
      clearTimeout(end);
      waiting.delete(waiter);
      done();
    };
    waiting.add(waiter);
  });
}
