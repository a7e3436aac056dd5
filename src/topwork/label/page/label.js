// One by one: an image large, those before and after it in a strip, ready before they are wanted.

import { ask, events, isOpen, know, picture, state, complain } from "./service.js";
import { FROM, at, make, percent, tile } from "./tiles.js";

const ASKED = 12; // images, of a new choice
const READY = 5; // pictures that are loaded before they are wanted
const KEPT = 2; // images after this one that stay though the choice is new: they have been seen in the strip
const BEFORE = 3; // images in the strip before this one
const SIDE = 1024;

let queue = [];
let place = 0;
const pictures = new Map(); // image id to its large picture

export const current = () => queue[place];

/** Ask which images to label next, and put them behind those that come at once. */
let asking = false;
let again = false;
export async function refill() {
  again = asking;
  if (asking) return;
  asking = true;
  try {
    const answer = await ask(`api/next?n=${ASKED}`);
    const found = know(answer.items);
    const kept = [...queue.slice(0, place + 1), ...queue.slice(place + 1).filter(isOpen).slice(0, KEPT)];
    queue = [...kept, ...found.filter((item) => isOpen(item) && !kept.includes(item))];
    draw();
  } catch (error) {
    complain(error.message);
  }
  asking = false;
  if (again) refill();
}

/** Go on to the next image that wants a label. */
export function advance() {
  const ahead = queue.findIndex((item, i) => i > place && isOpen(item));
  place = ahead < 0 ? queue.length : ahead;
  draw();
}

export function step(by) {
  place = Math.min(queue.length - 1, Math.max(0, place + by));
  draw();
}

/** Show this image large, whichever it is. */
export function open(item) {
  if (queue.includes(item)) place = queue.indexOf(item);
  else queue.splice(place, 0, item);
  draw();
}

function load(item) {
  if (!pictures.has(item.id)) {
    const image = Object.assign(make("img"), { alt: item.name, src: picture(item, SIDE) });
    image.onerror = () => image.replaceWith(make("p", "This image can’t be shown."));
    pictures.set(item.id, image);
  }
  return pictures.get(item.id);
}

function draw() {
  const drop = Math.max(0, place - 100); // what was labelled long ago is found in the gallery
  queue.splice(0, drop);
  place -= drop;
  const item = current();
  const wanted = queue.slice(Math.max(0, place - 1), place + READY);
  for (const id of pictures.keys()) if (!wanted.some((other) => other.id === id)) pictures.delete(id);
  wanted.forEach(load);
  at("frame").replaceChildren(item ? load(item) : make("p", nothing()));
  const strip = queue.slice(Math.max(0, place - BEFORE), place + ASKED).map((other) => {
    const entry = tile(other);
    entry.firstChild.onclick = () => open(other);
    if (other === item) entry.firstChild.setAttribute("aria-current", "true");
    return entry;
  });
  at("strip").replaceChildren(...strip);
  describe();
  events.dispatchEvent(new Event("shown"));
}

function nothing() {
  if (!state) return "Waiting for the program …";
  if (state.extracting) return `${state.ready ? "The next images are" : "The images are"} being looked at. They come here when they are ready.`;
  return "No image is left that wants a label. “All images” shows what has been labelled; skipped images are there too.";
}

function describe() {
  const item = current();
  const lines = [];
  if (item) {
    lines.push(make("b", item.name));
    if (item.pending !== undefined) lines.push(" · not saved yet");
    else if (item.excluded) lines.push(" · excluded");
    else if (item.label !== null) lines.push(` · ${item.label}, ${FROM[item.source]}`);
    else if (item.predicted !== null) lines.push(` · probably ${item.predicted} (${percent(item.certainty)})`);
    if (isOpen(item) && item.why) lines.push(make("br"), `Why this one: ${item.why}.`);
  }
  at("caption").replaceChildren(...lines);
}

events.addEventListener("item", ({ detail }) => detail === current() && describe());
events.addEventListener("state", () => {
  if (!current()) at("frame").replaceChildren(make("p", nothing()));
});
