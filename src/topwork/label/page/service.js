// Asks the program that keeps the labels, and tells what is saved and what is not.

const address = new URL(location.href);
const given = address.searchParams.get("token");
if (given) {
  sessionStorage.setItem("topwork-label-token", given);
  address.searchParams.delete("token");
  history.replaceState(null, "", address); // not to be seen over a shoulder, nor kept as a bookmark
}
const token = sessionStorage.getItem("topwork-label-token") || "";

export const events = new EventTarget(); // "state": the program told something new; "item": an image has changed
const tell = (name, detail) => events.dispatchEvent(new CustomEvent(name, { detail }));

/** The program answered, and said no: trying again would not help. */
class Refused extends Error {}

export const withToken = (path) => `${path}${path.includes("?") ? "&" : "?"}token=${encodeURIComponent(token)}`;
export const picture = (item, side) => withToken(`image/${item.id}?side=${side}`);

export async function ask(path, body) {
  let response;
  const headers = { "X-Topwork-Token": token };
  if (body !== undefined) headers["Content-Type"] = body instanceof Blob ? body.type : "application/json";
  try {
    const method = body === undefined ? "GET" : "POST";
    response = await fetch(path, { method, headers, body: body === undefined || body instanceof Blob ? body : JSON.stringify(body) });
  } catch {
    throw new Error("The program that keeps the labels does not answer. It has ended, or it is very busy.");
  }
  const answer = response.status === 204 ? null : await response.json().catch(() => ({}));
  if (response.ok) return answer;
  const reason = (answer && answer.error) || `The program answered ${response.status}.`;
  throw response.status < 500 ? new Refused(reason) : new Error(reason);
}

/* What is known of images */

const items = new Map();

/** The images of an answer, each always the same object, so that all views see what changes. */
export function know(found) {
  return found.map((news) => {
    const item = items.get(news.id) || news;
    items.set(news.id, Object.assign(item, news));
    tell("item", item);
    return item;
  });
}

/** Whether an image still wants a label. */
export const isOpen = (item) => item.label === null && !item.excluded && !item.skipped && item.pending === undefined;

/* Saving: one after another, so that the journal has the order in which a person answered */

const waiting = [];
let sending = false;
export let stalled = ""; // why nothing can be saved now

/**
 * Save a change: {items, pending: what to show till then, send: () => promise of the answer, done: (answer) => words,
 * failed: what to do where it can't be saved}. Returns whether it was taken on. It counts as saved when the answer came.
 */
export function save(change) {
  if (stalled) {
    showTrouble();
    document.getElementById("retry").focus();
    return false;
  }
  waiting.push(change);
  change.items.forEach(settle);
  send();
  return true;
}

async function send() {
  if (sending) return;
  sending = true;
  while (waiting.length && !stalled) {
    const [change] = waiting;
    try {
      const answer = await change.send();
      const words = change.done(answer);
      if (!change.items.length) await look(); // the next key must mean the classes as they are called now
      say(words);
      complain("");
      take(change);
    } catch (error) {
      if (error instanceof Refused) {
        take(change);
        change.failed();
        complain(`Not saved: ${error.message}`);
      } else {
        stalled = error.message;
      }
    }
    look();
  }
  sending = false;
  waiting.flatMap((change) => change.items).forEach(settle);
  showTrouble();
}

function take(change) {
  waiting.splice(waiting.indexOf(change), 1);
  change.items.forEach(settle);
}

function settle(item) {
  const last = waiting.findLast((change) => change.items.includes(item));
  item.pending = last && last.pending;
  tell("item", item);
}

/** Take back the last answer that is not saved; false where there is none. */
export function takeBack() {
  if (!stalled || !waiting.length) return false;
  const change = waiting.at(-1);
  take(change);
  change.failed();
  say("The last answer, which was not saved, is taken back.");
  if (!waiting.length) stalled = "";
  showTrouble();
  return true;
}

/* What the program tells by itself */

export let state = null;
let gone = "";
let timer = 0;
let asked = 0;
let latest;

/** Ask for the state now, and every second from then on; three times a second while something goes on behind. */
export function look() {
  latest = takeState();
  return latest;
}

async function takeState() {
  clearTimeout(timer);
  const turn = ++asked;
  try {
    const news = await ask(`api/state?after=${state ? state.version : -1}`);
    if (turn !== asked) return await latest; // a later question is on its way
    gone = "";
    if (news && (!state || news.version !== state.version)) {
      state = news;
      tell("state");
    }
  } catch (error) {
    gone = error.message;
  }
  showTrouble();
  clearTimeout(timer);
  const busy = state && (state.fitting || state.extracting || state.reviewing || (state.training && state.training.state === "running"));
  timer = setTimeout(look, busy ? 350 : 1000);
}

function showTrouble() {
  const reason = stalled || gone;
  const n = waiting.length;
  const lost = stalled ? `${n === 1 ? "1 answer is" : `${n} answers are`} not saved. ` : "Nothing is saved now. ";
  const text = reason && `${lost}${reason}`;
  const box = document.getElementById("trouble");
  document.getElementById("trouble-buttons").hidden = !stalled;
  if (document.getElementById("trouble-text").textContent !== text) document.getElementById("trouble-text").textContent = text;
  box.hidden = !reason;
}

document.getElementById("retry").onclick = () => {
  stalled = "";
  send();
};
document.getElementById("drop").onclick = () => {
  const dropped = waiting.splice(0);
  stalled = "";
  for (const change of dropped.reverse()) {
    change.items.forEach(settle);
    change.failed();
  }
  showTrouble();
  look();
};
addEventListener("beforeunload", (event) => {
  if (waiting.length) event.preventDefault(); // the browser asks whether to leave what is not saved
});

/* Words for the person */

export function say(text) {
  document.getElementById("said").textContent = text;
}

export function complain(text) {
  document.getElementById("complaint").textContent = text;
}
