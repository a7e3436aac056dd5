// Review: each finding with its images, the given label, the likely one and why; one key decides.

import { ask, complain, know, save, state } from "./service.js";
import { Selection, at, counted, percent } from "./tiles.js";

const PAGE = 30;
const WORDS = {
  "label issue": "Is this label right?",
  "sure mistake": "The machine is sure of another class",
  copy: "The same image several times",
  "near copy": "Nearly the same image several times",
  strange: "Unlike all other images",
};

let findings = [];
let place = 0;
let total = 0;
const selection = new Selection(at("finding"), describe);

const finding = () => findings[place];
const isCopy = () => finding().kind.endsWith("copy");

/** Load the findings that are not decided yet. */
export async function showReview() {
  try {
    const answer = await ask(`api/review?from=0&n=${PAGE}`);
    complain("");
    findings = answer.items.map((each) => ({ ...each, items: know(each.items) }));
    total = answer.total;
    place = 0;
    draw();
  } catch (error) {
    complain(error.message);
  }
}

/** Load them again if none is shown, since more may have come. */
export function waitForFindings() {
  if (!findings.length) showReview();
}

function draw() {
  const found = finding();
  for (const id of ["keep", "relabel", "leave-out", "later"]) at(id).hidden = !found;
  selection.show(found ? found.items : []);
  if (found) return;
  const looks = state !== null && (state.extracting || state.reviewing);
  at("finding-title").textContent = total ? "The rest is left for later" : looks ? "Copies and strange images are being looked for …" : "Nothing is left to review";
  at("finding-why").textContent = total ? "← leads back to it." : "Doubtful labels show up when some dozens of images have labels.";
  at("finding-note").textContent = "";
}

/** Which images a decision is about: those selected, or what is usual for this kind of finding. */
function meant(what) {
  const { items } = finding();
  if (selection.items.length) return selection.items;
  return what === "exclude" && isCopy() ? items.slice(1) : items;
}

function describe() {
  const found = finding();
  if (!found) return;
  at("finding-title").textContent = `${WORDS[found.kind] || found.kind} (${place + 1} of ${total})`;
  const likely = found.likely === null ? "" : ` Likely: ${found.likely}${found.probability === null ? "" : ` (${percent(found.probability)})`}.`;
  at("finding-why").textContent = `${found.given === null ? "" : `Given: ${found.given}.`}${likely} Why: ${found.why}.`.trim();
  const button = (id, text, key) => {
    at(id).textContent = `${text} `;
    at(id).append(Object.assign(document.createElement("kbd"), { textContent: key }));
  };
  button("keep", found.given === null || isCopy() ? "Keep as it is" : `Keep ${found.given}`, "K");
  button("relabel", `Relabel as ${found.likely}`, "R");
  at("relabel").hidden = found.likely === null;
  button("leave-out", `Exclude ${counted(meant("exclude").length, "image")}`, "E");
  at("finding-note").textContent = `The buttons of the classes relabel too.${found.items.length > 1 ? " Select images to decide about these alone." : ""}`;
}

/** Decide "keep", "relabel" (with the label) or "exclude", and go on to the next finding. */
export function decide(what, label = finding() && finding().likely) {
  const found = finding();
  if (!found || (what === "relabel" && label === null)) return;
  const items = meant(what);
  const body = { key: found.key, do: what, ids: items.map((item) => item.id) };
  if (what === "relabel") body.label = label;
  const words = { keep: "kept", relabel: `labelled ${label}`, exclude: "excluded" }[what];
  const taken = save({
    items,
    pending: words,
    send: () => ask("api/review", body),
    done: () => {
      for (const item of items) {
        if (what === "relabel") Object.assign(item, { label, source: "person" });
        if (what === "exclude") item.excluded = true;
      }
      if (!findings.length) showReview();
      return `Saved: ${items.length === 1 ? items[0].name : counted(items.length, "image")} ${words}.`;
    },
    failed: showReview,
  });
  if (!taken) return;
  findings.splice(place, 1);
  total -= 1;
  draw();
}

export function move(by) {
  place = Math.min(findings.length, Math.max(0, place + by));
  draw();
}

at("keep").onclick = () => decide("keep");
at("relabel").onclick = () => decide("relabel");
at("leave-out").onclick = () => decide("exclude");
at("later").onclick = () => move(1);
