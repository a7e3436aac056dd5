// The page: which view is open, what a label, a skip, an exclusion or an undo is about, and the keys.

import { ask, events, isOpen, know, look, save, say, state, takeBack } from "./service.js";
import { at, counted } from "./tiles.js";
import { advance, current, open, refill, step } from "./label.js";
import { isAccepting, selection, showAll, showLike } from "./gallery.js";
import { decide, move, showReview, waitForFindings } from "./review.js";
import { classOfKey, markLikely } from "./panel.js";
import "./camera.js";

const VIEWS = ["label", "all", "review"];
let view = "";

/** Open the view that the address names. */
function show(load = true) {
  const asked = location.hash.slice(1);
  view = VIEWS.includes(asked) ? asked : "label";
  for (const name of VIEWS) {
    at(`view-${name}`).hidden = name !== view;
    const link = document.querySelector(`nav a[href="#${name}"]`);
    if (name === view) link.setAttribute("aria-current", "page");
    else link.removeAttribute("aria-current");
  }
  at("actions").hidden = at("name-form").hidden = view === "review"; // it has its own buttons
  describe();
  if (!load) return;
  if (view === "label") refill();
  else if (view === "all") showAll();
  else showReview();
}

function go(name, load) {
  history.pushState(null, "", `#${name}`);
  show(load);
}

/* What is labelled */

function targets() {
  if (view === "all") return isAccepting() ? [] : selection.items;
  return current() ? [current()] : [];
}

const named = (items) => (items.length === 1 ? items[0].name : counted(items.length, "image"));

/** Do something with the images that are meant, and go on. Once saved, `after` is known of each, and `what` is said. */
function change(pending, path, body, after, what) {
  const items = targets();
  if (!items.length) {
    say(view === "all" ? "Select images first." : "There is no image to label.");
    return;
  }
  const taken = save({
    items,
    pending,
    send: () => ask(path, body(items)),
    done: () => {
      for (const item of items) Object.assign(item, after);
      return `Saved: ${named(items)} ${what(items)}.`;
    },
    failed: () => view === "label" && open(items[0]),
  });
  if (!taken) return;
  if (view === "all") selection.all(false);
  else advance();
}

function label(name) {
  if (view === "review") return decide("relabel", name);
  const body = (items) => ({ items: items.map(({ id }) => ({ id, label: name })) });
  return change(name, "api/label", body, { label: name, source: "person", excluded: false, skipped: false }, (items) => `${items.length === 1 ? "is" : "are"} ${name}`);
}

const ids = (items) => ({ ids: items.map((item) => item.id) });
const exclude = () => change("excluded", "api/exclude", ids, { excluded: true }, () => "excluded");
const skip = () => change("skipped", "api/skip", ids, { skipped: true }, () => "skipped");

function confirmLikely() {
  const item = current();
  if (item && isOpen(item) && item.predicted !== null) label(item.predicted);
}

function undo() {
  if (takeBack()) return;
  if (at("undo").disabled) {
    say("There is nothing to undo.");
    return;
  }
  save({
    items: [],
    send: () => ask("api/undo", {}),
    done: ({ undone }) => {
      const items = know(undone);
      if (view === "label" && items.length) open(items[0]);
      if (view === "review") showReview();
      return items.length ? `Undone: ${named(items)}.` : "Undone.";
    },
    failed: () => {},
  });
}

/* What the buttons are about */

function describe() {
  const items = targets();
  const item = view === "label" && items[0];
  let text = "";
  if (view === "all") text = `Label ${counted(items.length, "selected image")}:`;
  if (view === "review") text = "Relabel as:";
  at("what").textContent = text;
  at("work").hidden = view === "all" && !items.length;
  at("like").hidden = items.length !== 1;
  at("grid-open").hidden = view !== "all" || items.length !== 1;
  at("grid-none").hidden = view !== "all" || !items.length;
  at("skip").hidden = view !== "label";
  at("exclude").hidden = view === "all" && !items.length;
  at("exclude").disabled = at("skip").disabled = !items.length;
  markLikely(item && isOpen(item) ? item.predicted : null);
}

/* Buttons */

at("classes").onclick = (event) => {
  const button = event.target.closest("button");
  if (button) label(button.dataset.name);
};
for (const id of ["classes", "actions"]) {
  at(id).onmousedown = (event) => event.preventDefault(); // keeps the focus where it was: Space would press the button again
}
at("skip").onclick = skip;
at("exclude").onclick = exclude;
at("undo").onclick = undo;
at("like").onclick = () => {
  const [item] = targets();
  go("all", false);
  showLike(item);
};
at("grid-open").onclick = () => lookAt(selection.items[0]);
at("grid").ondblclick = (event) => {
  const button = event.target.closest(".tile");
  if (button) lookAt(button.item);
};
at("name-form").onsubmit = (event) => {
  event.preventDefault();
  const name = at("name").value.trim();
  at("name").value = "";
  if (name) label(name);
  else at("name").blur();
};
at("name").onfocus = () => (at("name").placeholder = "Type its class; Esc goes back to the keys");
at("name").onblur = () => (at("name").placeholder = "Type another class");

function lookAt(item) {
  if (isAccepting()) return;
  open(item);
  go("label");
}

/* Keys */

at("keys").checked = localStorage.getItem("topwork-label-keys") !== "off";
at("keys").onchange = () => localStorage.setItem("topwork-label-keys", at("keys").checked ? "on" : "off");

const COMMON = { u: undo, "+": () => at("name").focus() };
const KEYS = {
  label: { ...COMMON, " ": skip, Enter: confirmLikely, e: exclude, ArrowLeft: () => step(-1), ArrowRight: () => step(1) },
  all: { ...COMMON, e: exclude },
  review: { ...COMMON, " ": () => move(1), ArrowLeft: () => move(-1), ArrowRight: () => move(1), k: () => decide("keep"), r: () => decide("relabel"), e: () => decide("exclude") },
};

document.addEventListener("keydown", (event) => {
  const { key, target } = event;
  if (key === "Escape" && target === at("name")) at("name").blur();
  if (!at("keys").checked || event.ctrlKey || event.altKey || event.metaKey || target.closest("input, select, dialog")) return;
  if (key === "Enter" && target.closest("#grid .tile")) {
    event.preventDefault();
    lookAt(target.item);
    return;
  }
  if ((key === " " || key === "Enter") && target.closest("button, a, summary")) return;
  const own = KEYS[view][key.length === 1 ? key.toLowerCase() : key];
  const name = own ? undefined : classOfKey(key, view !== "review");
  if (!own && name === undefined) return;
  event.preventDefault();
  if (event.repeat && !key.startsWith("Arrow")) return; // a key that is held would label image after image
  if (own) own();
  else label(name);
});

/* Beginning */

for (const name of ["selected", "item", "shown"]) events.addEventListener(name, describe);
events.addEventListener("state", () => {
  describe();
  if (view === "label") refill();
  if (view === "review") waitForFindings();
});
addEventListener("hashchange", () => show());
addEventListener("popstate", () => show());
show(false);
look().then(() => view !== "label" && state && show());
