// Small pictures of images: what is known of each, which one is current, which are selected.

import { events, picture, stalled } from "./service.js";

export const at = (id) => document.getElementById(id);
export const make = (tag, text = "", name = "") => Object.assign(document.createElement(tag), { textContent: text, className: name });
export const percent = (value, digits = 0) => `${(100 * value).toFixed(digits)}\u00a0%`;
export const number = (value) => value.toLocaleString("en");
export const counted = (n, noun) => `${number(n)} ${noun}${n === 1 ? "" : "s"}`;
export const FROM = { person: "by a person", machine: "by the machine", camera: "by camera", folder: "from its folder" };
const LONG_PRESS = 500; // milliseconds

/** What is known of an image, and how sure that is. */
function tag(item) {
  if (item.pending !== undefined) return stalled ? [`not saved: ${item.pending}`, "lost"] : [`${item.pending} …`, "waits"];
  if (item.excluded) return ["excluded", ""];
  if (item.label !== null) return [item.label, item.source === "machine" ? "machine" : "saved"];
  if (item.skipped) return ["skipped", ""];
  return item.predicted === null ? ["", ""] : [`${item.predicted}?`, "guess"];
}

/** A list item with a button that shows the image. */
export function tile(item) {
  const button = make("button", "", "tile");
  button.type = "button";
  button.item = item;
  button.dataset.id = item.id;
  const image = Object.assign(make("img"), { alt: "", loading: "lazy", decoding: "async", draggable: false, src: picture(item, 256) });
  button.append(image, make("span", "", "tag"));
  draw(button);
  const entry = make("li");
  entry.append(button);
  return entry;
}

function draw(button) {
  const { item } = button;
  const [text, kind] = tag(item);
  const label = button.lastElementChild;
  label.textContent = text;
  label.className = `tag ${kind}`;
  if (kind === "guess") label.append(make("span", ` ${percent(item.certainty)}`, "sure"));
  button.classList.toggle("gone", item.excluded);
  const source = item.label !== null && item.source !== "person" ? `, ${FROM[item.source]}` : "";
  button.setAttribute("aria-label", `${item.name}${text && `, ${label.textContent}`}${source}`);
  button.title = item.name;
}

events.addEventListener("item", ({ detail }) => {
  for (const button of document.querySelectorAll(`.tile[data-id="${detail.id}"]`)) draw(button);
});

/** Tiles of which some are selected: by click, with Shift from the last one to this, by long press, by keys. */
export class Selection {
  constructor(list, changed) {
    this.list = list;
    this.changed = changed;
    this.last = null;
    list.addEventListener("click", (event) => {
      const button = event.target.closest(".tile");
      if (!button) return;
      if (this.pressed) this.pressed = false; // the click that ends a long press
      else if (event.shiftKey) this.until(button);
      else this.toggle(button);
    });
    list.addEventListener("keydown", (event) => this.key(event));
    list.addEventListener("pointerdown", (event) => {
      const button = event.target.closest(".tile");
      this.pressed = false;
      if (!button || event.pointerType === "mouse") return;
      const timer = setTimeout(() => {
        this.pressed = true;
        this.until(button);
      }, LONG_PRESS);
      for (const name of ["pointerup", "pointercancel", "pointermove"]) {
        list.addEventListener(name, (later) => (name !== "pointermove" || Math.hypot(later.movementX, later.movementY) > 4) && clearTimeout(timer), { signal: AbortSignal.timeout(2 * LONG_PRESS) });
      }
    });
    list.addEventListener("contextmenu", (event) => event.preventDefault()); // a long press would open it
  }

  get tiles() {
    return [...this.list.querySelectorAll(".tile")];
  }

  get items() {
    return this.tiles.filter((button) => button.getAttribute("aria-pressed") === "true").map((button) => button.item);
  }

  show(items, selected = false) {
    this.list.replaceChildren();
    this.last = null;
    this.add(items, selected);
  }

  add(items, selected = false) {
    const entries = items.map(tile);
    this.list.append(...entries);
    for (const entry of entries) {
      entry.firstChild.setAttribute("aria-pressed", String(selected));
      entry.firstChild.tabIndex = -1;
    }
    if (this.tiles.length) this.aim(this.tiles.find((button) => button.tabIndex === 0) || this.tiles[0], false);
    this.changed();
  }

  all(selected) {
    for (const button of this.tiles) button.setAttribute("aria-pressed", String(selected));
    this.changed();
  }

  toggle(button) {
    button.setAttribute("aria-pressed", String(button.getAttribute("aria-pressed") !== "true"));
    this.last = button;
    this.aim(button);
    this.changed();
  }

  until(button) {
    const tiles = this.tiles;
    const [from, to] = [tiles.indexOf(this.last || button), tiles.indexOf(button)].sort((a, b) => a - b);
    for (const between of tiles.slice(Math.max(0, from), to + 1)) between.setAttribute("aria-pressed", "true");
    this.last = button;
    this.aim(button);
    this.changed();
  }

  /** Tab comes to one tile only; arrows lead to the others. */
  aim(button, focus = true) {
    for (const other of this.list.querySelectorAll('.tile[tabindex="0"]')) other.tabIndex = -1;
    button.tabIndex = 0;
    if (focus) button.focus();
  }

  key(event) {
    const button = event.target.closest(".tile");
    if (!button || event.ctrlKey || event.altKey || event.metaKey) return;
    const tiles = this.tiles;
    const columns = Math.max(1, tiles.filter((other) => other.offsetTop === tiles[0].offsetTop).length);
    const steps = { ArrowLeft: -1, ArrowRight: 1, ArrowUp: -columns, ArrowDown: columns, Home: -tiles.length, End: tiles.length };
    if (!(event.key in steps)) return;
    event.preventDefault();
    event.stopPropagation();
    const there = tiles[Math.min(tiles.length - 1, Math.max(0, tiles.indexOf(button) + steps[event.key]))];
    if (event.shiftKey) {
      this.last ||= button;
      this.until(there);
    } else this.aim(there);
  }
}
