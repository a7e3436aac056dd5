// Many images: all of them, those like one, and those that the machine would label.

import { ask, complain, events, know, save, state } from "./service.js";
import { Selection, at, counted, number } from "./tiles.js";

const PAGE = 60;
const LIKE = 24;
const TAKE_OUT = "Click those that are not, to take them out. What you accept is marked as labelled by the machine, and never used for testing.";

let mode = "all"; // "all", "like" or "accept"
let accepting = null; // the class, and how certain

export const selection = new Selection(at("grid"), changed);
export const isAccepting = () => mode === "accept";

function changed() {
  const n = selection.items.length;
  at("grid-accept").textContent = accepting ? `Accept ${number(n)} as ${accepting.class}` : "";
  at("grid-accept").hidden = mode !== "accept";
  at("grid-accept").disabled = n === 0;
  at("grid-back").hidden = mode === "all";
  at("filters").hidden = mode !== "all";
  events.dispatchEvent(new Event("selected"));
}

/** All images as the filters say; `more` adds to those that are shown. */
export async function showAll({ more = false } = {}) {
  if (!more) {
    mode = "all";
    accepting = null;
  }
  const from = more ? selection.tiles.length : 0;
  const query = new URLSearchParams({ order: at("order").value, labelled: at("labelled").value, from, n: PAGE });
  if (at("class").value) query.set("class", at("class").value);
  const answer = await found(`api/gallery?${query}`);
  if (!answer || mode !== "all") return;
  if (more) selection.add(answer.items);
  else selection.show(answer.items);
  const shown = selection.tiles.length;
  titled(counted(answer.total, "image"), shown ? "Click images to select them, then label them all at once. Double-click one to look at it." : "");
  at("grid-more").hidden = shown >= answer.total;
  at("grid-more").textContent = `Show more (${number(answer.total - shown)} left)`;
}

export async function showLike(item) {
  mode = "like";
  at("grid-more").hidden = true;
  selection.show([]);
  titled(`More like ${item.name}`, "");
  const answer = await found(`api/like?id=${item.id}&n=${LIKE}`);
  if (!answer || mode !== "like") return;
  selection.show(answer.items);
  titled(`More like ${item.name}`, "Select those that belong together, then label them all at once.");
  at("grid-title").focus();
}

async function preview(name, above) {
  const answer = await found("api/accept", { class: name, above, preview: true });
  if (!answer) return;
  mode = "accept";
  accepting = { class: name, above };
  at("grid-more").hidden = true;
  selection.show(answer.items, true);
  const images = answer.total === 1 ? "1 image is" : `${number(answer.total)} images are`;
  titled(
    answer.total ? `${images} ${name}, the machine says` : `No image without a label is predicted as ${name} above ${100 * above} %`,
    answer.items.length < answer.total ? `The surest ${number(answer.items.length)} are shown. ${TAKE_OUT}` : answer.total ? TAKE_OUT : "",
  );
  at("grid-title").focus();
}

async function found(path, body) {
  try {
    const answer = await ask(path, body);
    complain("");
    answer.items = know(answer.items);
    return answer;
  } catch (error) {
    complain(error.message);
    return null;
  }
}

function titled(title, note) {
  at("grid-title").textContent = title;
  at("grid-note").textContent = note;
}

at("grid-accept").onclick = () => {
  const items = selection.items;
  const { class: name, above } = accepting;
  const taken = save({
    items,
    pending: name,
    send: () => ask("api/accept", { class: name, above, ids: items.map((item) => item.id) }),
    done: ({ saved }) => {
      for (const item of items) Object.assign(item, { label: name, source: "machine" });
      return `Saved: ${counted(saved, "image")} labelled ${name} by the machine.`;
    },
    failed: showAll,
  });
  if (taken) back();
};
const back = () => showAll().then(() => at("grid-title").focus());
at("grid-back").onclick = back;
at("grid-more").onclick = async () => {
  const first = selection.tiles.length;
  await showAll({ more: true });
  if (selection.tiles[first]) selection.aim(selection.tiles[first]);
};
at("grid-all").onclick = () => selection.all(true);
at("grid-none").onclick = () => selection.all(false);
for (const id of ["order", "labelled", "class"]) at(id).onchange = () => showAll();
at("accept").onsubmit = (event) => {
  event.preventDefault();
  preview(at("accept-class").value, at("accept-above").valueAsNumber / 100);
};

events.addEventListener("state", () => {
  const names = state.classes.map((each) => each.name);
  fill(at("class"), names, "all");
  fill(at("accept-class"), names);
  at("accept").hidden = names.length < 2;
});

/** The options of a choice, made anew only where they are others. */
export function fill(select, names, all = "") {
  if (select.names === names.join("\n")) return;
  const chosen = select.value;
  select.names = names.join("\n");
  select.replaceChildren(...(all ? [new Option(all, "")] : []), ...names.map((name) => new Option(name, name)));
  if (names.includes(chosen)) select.value = chosen;
}
