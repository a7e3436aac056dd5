// What stands beside the images: the classes and their keys, how good it is, the learning curve, training.

import { ask, complain, events, save, say, state, withToken } from "./service.js";
import { at, counted, make, number, percent } from "./tiles.js";
import { fill } from "./gallery.js";

const RESERVED = "eu"; // keys that do something else

/** The key of each class beside its number: a letter of its name that no class before it has. */
function letters(names) {
  const taken = new Set(RESERVED);
  return names.map((name) => {
    const letter = [...name.toLowerCase()].find((each) => /\p{Letter}/u.test(each) && !taken.has(each));
    taken.add(letter);
    return letter;
  });
}

/** The class that a key stands for, if any; letters only where `spelt`. */
export function classOfKey(key, spelt) {
  const names = state ? state.classes.map((each) => each.name) : [];
  if (/^[1-9]$/.test(key)) return names[Number(key) - 1];
  return spelt && key.length === 1 ? names[letters(names).indexOf(key.toLowerCase())] : undefined;
}

/** Mark the class that the machine takes the image for. */
export function markLikely(name) {
  for (const button of at("classes").children) button.classList.toggle("likely", button.dataset.name === name);
}

/* Classes */

let shown = "";

function drawClasses() {
  const names = state.classes.map((each) => each.name);
  at("names").replaceChildren(...names.map((name) => new Option(name)));
  if (shown !== JSON.stringify(names)) {
    shown = JSON.stringify(names);
    const keys = letters(names);
    at("classes").replaceChildren(...names.map((name, i) => classButton(name, i, keys[i])));
    at("counts").replaceChildren(...names.map(countRow));
  }
  state.classes.forEach(({ name, person, machine }, i) => {
    const text = `${number(person)}${machine ? ` + ${number(machine)} by machine` : ""}`;
    at("counts").children[i].children[1].textContent = text;
    at("classes").children[i].title = `${name}: ${counted(person + machine, "image")}`;
  });
}

function classButton(name, i, letter) {
  const button = make("button");
  button.type = "button";
  button.dataset.name = name;
  const keys = [i < 9 ? String(i + 1) : "", letter || ""].filter((key) => key);
  if (keys.length) button.setAttribute("aria-keyshortcuts", keys.join(" "));
  const spelt = make("span");
  const where = letter ? name.toLowerCase().indexOf(letter) : -1;
  if (where < 0) spelt.textContent = name;
  else spelt.append(name.slice(0, where), make("u", name.slice(where, where + letter.length)), name.slice(where + letter.length));
  const digit = make("kbd", String(i + 1));
  digit.setAttribute("aria-hidden", "true");
  button.append(...(i < 9 ? [digit] : []), spelt);
  return button;
}

function countRow(name) {
  const row = make("li");
  const change = make("button", "Change");
  change.type = "button";
  change.setAttribute("aria-label", `Change ${name}`);
  change.onclick = () => openClass(name);
  row.append(make("span", name), make("span", "", "value"), change);
  return row;
}

let changing = "";

function openClass(name) {
  changing = name;
  at("class-title").textContent = name;
  at("rename").value = name;
  const others = state.classes.map((each) => each.name).filter((other) => other !== name);
  fill(at("merge"), others);
  at("merge-form").hidden = !others.length;
  at("class-dialog").showModal();
  at("rename").select();
}

function changeClass(body, words) {
  save({ items: [], send: () => ask("api/classes", body), done: () => words, failed: () => {} });
}

at("rename-form").onsubmit = () => {
  const to = at("rename").value.trim();
  if (to && to !== changing) changeClass({ do: "rename", name: changing, to }, `Saved: ${changing} is called ${to} now.`);
};
at("merge-form").onsubmit = () => {
  const to = at("merge").value;
  changeClass({ do: "merge", name: changing, to }, `Saved: all of ${changing} is ${to} now.`);
};
at("add-form").onsubmit = (event) => {
  event.preventDefault();
  const name = at("add").value.trim();
  if (name) changeClass({ do: "add", name }, `Saved: ${name} is a class now.`);
  at("add").value = "";
};

/* How good */

function drawEstimate() {
  const { estimate, curve, advice } = state;
  const parts = [];
  if (!estimate) parts.push(make("p", "An estimate comes when there are a few labels of two classes or more.", "soft"));
  else {
    const range = (of) => `95 % interval ${percent(of.low)} to ${percent(of.high)}`;
    parts.push(make("p", percent(estimate.accuracy), "big-number"));
    parts.push(make("p", `accuracy, cross-validated on ${counted(estimate.images, "labelled image")}; ${range(estimate)}`));
    if (estimate.random) parts.push(make("p", `On ${counted(estimate.random_images, "image")} drawn by chance: ${percent(estimate.random.accuracy)}; ${range(estimate.random)}`));
    if (estimate.note) parts.push(make("p", estimate.note, "soft"));
  }
  at("estimate").replaceChildren(...parts);
  at("curve").hidden = curve.length < 2;
  if (curve.length > 1) at("curve").replaceChildren(drawCurve(curve, estimate));
  at("advice").textContent = advice || "";
}

/** Accuracy over the number of labels, as a picture whose name tells the same. */
function drawCurve(curve, estimate) {
  const [width, height, left, bottom, top, right] = [320, 170, 40, 34, 10, 12];
  const draw = (tag, attributes, text = "") => {
    const element = document.createElementNS("http://www.w3.org/2000/svg", tag);
    for (const [name, value] of Object.entries(attributes)) element.setAttribute(name, value);
    element.textContent = text;
    return element;
  };
  const lowest = Math.min(...curve.map(([, accuracy]) => accuracy), estimate ? estimate.low : 1);
  const floor = Math.max(0, Math.floor(10 * lowest - 0.01) / 10);
  const most = curve.at(-1)[0];
  const x = (n) => left + ((width - left - right) * n) / most;
  const y = (accuracy) => top + ((height - top - bottom) * (1 - accuracy)) / (1 - floor);
  const said = `Learning curve: ${curve.map(([n, accuracy]) => `${percent(accuracy)} with ${n} labels`).join(", ")}.`;
  const svg = draw("svg", { viewBox: `0 0 ${width} ${height}`, role: "img", "aria-label": said });
  for (const accuracy of [floor, (floor + 1) / 2, 1]) {
    svg.append(draw("line", { class: "grid-line", x1: left, x2: width - right, y1: y(accuracy), y2: y(accuracy) }));
    svg.append(draw("text", { x: left - 6, y: y(accuracy) + 4, "text-anchor": "end" }, percent(accuracy)));
  }
  for (const n of new Set([curve[0][0], most])) svg.append(draw("text", { x: x(n), y: height - bottom + 15, "text-anchor": n === most ? "end" : "middle" }, number(n)));
  svg.append(draw("text", { x: (left + width - right) / 2, y: height - 4, "text-anchor": "middle" }, "labels"));
  svg.append(draw("polyline", { class: "line", points: curve.map(([n, accuracy]) => `${x(n)},${y(accuracy)}`).join(" ") }));
  if (estimate) svg.append(draw("path", { class: "span", d: `M${x(most) - 4} ${y(estimate.low)}h8m-4 0V${y(estimate.high)}m-4 0h8` }));
  for (const [n, accuracy] of curve) svg.append(draw("circle", { class: "dot", cx: x(n), cy: y(accuracy), r: 3 }));
  return svg;
}

/* Training */

function drawTraining() {
  const { training } = state;
  const running = Boolean(training) && training.state === "running";
  const done = Boolean(training) && training.state === "done";
  at("train").disabled = running || state.classes.filter((each) => each.person).length < 2;
  at("train").textContent = done ? "Train again" : "Train a classifier";
  at("training-share").hidden = !running;
  if (running && training.share !== null) at("training-share").value = training.share;
  else at("training-share").removeAttribute("value");
  const none = at("train").disabled ? "Label images of two classes first." : "Writes a run folder as topwork train does, with a report.";
  const text = !training ? none : running ? training.step : done ? `Written: ${training.run}` : `Training failed: ${training.error}`;
  if (at("training").textContent !== text) at("training").textContent = text;
  at("training").className = training && training.state === "failed" ? "bad" : "soft";
  at("trained").hidden = !done;
  if (done) {
    at("report").href = withToken(training.report.replace(/^\//, ""));
    at("try").href = withToken("try");
  }
}

at("train").onclick = async () => {
  at("train").disabled = true;
  at("training").textContent = "Training begins …";
  try {
    await ask("api/train", {});
    complain("");
  } catch (error) {
    at("train").disabled = false;
    complain(error.message);
  }
};

/* All of it */

let trained = "";

events.addEventListener("state", () => {
  const { folder, images, ready, unreadable, labelled, excluded, skipped, message, extracting } = state;
  const looked = ready + unreadable;
  at("folder").textContent = folder.split(/[\\/]/).findLast((part) => part);
  at("folder").title = folder;
  at("journal").textContent = `Labels are kept in ${state.journal}.`;
  const parts = [extracting ? `${number(looked)} of ${counted(images, "image")} looked at (${state.backbone})` : counted(images, "image")];
  parts.push(`${number(labelled)} labelled`);
  for (const [n, word] of [[skipped, "skipped"], [excluded, "excluded"], [unreadable, "can’t be read"]]) if (n) parts.push(`${number(n)} ${word}`);
  at("about").textContent = parts.join(" · ");
  if (at("notice").textContent !== (message || "")) at("notice").textContent = message || "";
  at("extracting").hidden = !extracting;
  Object.assign(at("extracting"), { max: images, value: looked });
  at("undo").disabled = !state.can_undo;
  drawClasses();
  drawEstimate();
  drawTraining();
  const now = state.training ? state.training.state : "";
  if (trained === "running" && now !== "running") say(now === "done" ? "The classifier is trained." : "Training failed.");
  trained = now;
});
