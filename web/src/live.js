// What the server says of itself, as it comes.
import {Cell} from "./html.js";
import {key, live as listen} from "./server.js";

const kSeconds = 60;  // of history

// {model, now, history, failure}: what it runs, the latest figures, and those of the last minute, oldest first.
export const live = new Cell({model: null, now: null, history: [], failure: ""});
export const looked_at = new Cell("");  // the request whose experts are asked for

let controller = null;

function begin() {
  controller?.abort();
  controller = new AbortController();
  if (!document.hidden) follow(looked_at.value, controller.signal);
}

async function follow(request, signal) {
  for (let seconds = 1; !signal.aborted; seconds = Math.min(2 * seconds, 15)) {
    try {
      for await (const event of listen(request, signal)) {
        seconds = 1;
        take(event, request);
      }
    } catch (error) {
      if (signal.aborted) return;
      live.set({...live.value, failure: error.message});
      if (error.advice === "key") return;
    }
    await new Promise((resolve) => setTimeout(resolve, 1000 * seconds));
  }
}

function take({name, ...event}, request) {
  const before = live.value;
  if (name === "model") return live.set({...before, model: event, failure: ""});
  // A map that has not changed is not sent again.
  const answer = event.answer ? {request, map: event.answer} : before.now?.answer;
  const now = {...event, at: Date.now() / 1000, all: event.all ?? before.now?.all, answer};
  live.set({...before, now, history: [...before.history.filter((each) => each.at > now.at - kSeconds), now], failure: ""});
}

export function follow_machine() {
  begin();
  looked_at.watch(begin);
  key.watch(begin);
  document.addEventListener("visibilitychange", begin);
}
