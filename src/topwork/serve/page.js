"use strict";
const SIDE = 448; // of a picture on the page, in its own pixels
const AT_ONCE = 3; // requests: more would only wait in the service's queue
const TRIES = 6; // where the service says that it is busy
const RUNNERS_UP = 4;

const at = (id) => document.getElementById(id);
const make = (tag, text = "", name = "") => Object.assign(document.createElement(tag), { textContent: text, className: name });
const percent = (value) => `${(100 * value).toFixed(1)}\u00a0%`;
const pause = (seconds) => new Promise((done) => setTimeout(done, 1000 * seconds));

/* Asking the service */

let token = sessionStorage.getItem("topwork-token") || "";
let tokenGiven = null; // a promise while the form is open

function wantToken() {
  tokenGiven ??= new Promise((done) => {
    at("token-note").textContent = token ? "The service did not take that token." : "";
    at("token-form").hidden = false;
    at("token").focus();
    at("token-form").onsubmit = (event) => {
      event.preventDefault();
      token = at("token").value.trim();
      sessionStorage.setItem("topwork-token", token);
      at("token").value = "";
      at("token-form").hidden = true;
      tokenGiven = null;
      done();
    };
  });
  return tokenGiven;
}

async function ask(path, file = null) {
  for (let attempt = 1; ; ) {
    const used = token;
    const headers = used ? { Authorization: `Bearer ${used}` } : {};
    if (file) headers["Content-Type"] = file.type.startsWith("image/") ? file.type : "application/octet-stream";
    let response;
    try {
      response = await fetch(path, { method: file ? "POST" : "GET", body: file, headers });
    } catch {
      throw new Error("The service can't be reached, or the file can't be read any more.");
    }
    if (response.status === 401) {
      if (used === token) await wantToken();
      continue;
    }
    if (response.status === 503 && attempt < TRIES) {
      attempt += 1;
      await pause(Number(response.headers.get("Retry-After")) || 1);
      continue;
    }
    const answer = await response.json().catch(() => ({}));
    if (!response.ok) throw new Error(answer.detail || `The service answered ${response.status}.`);
    return answer;
  }
}

/* One photo */

class Card {
  constructor(file) {
    this.file = file;
    this.name = file.name || "photo";
    this.canvas = make("canvas");
    this.canvas.width = this.canvas.height = SIDE;
    this.context = this.canvas.getContext("2d", { willReadFrequently: true });
    this.canvas.setAttribute("role", "img");
    this.canvas.setAttribute("aria-label", `The photo ${this.name}`);
    this.caption = make("figcaption");
    this.title = make("h2", "Waiting …");
    this.body = make("div");
    this.why = make("button", "Why?");
    this.why.type = "button";
    this.why.hidden = true;
    this.why.setAttribute("aria-label", `Why this answer for ${this.name}?`);
    this.why.onclick = () => this.toggleHeat();
    const remove = make("button", "Remove");
    remove.type = "button";
    remove.setAttribute("aria-label", `Remove ${this.name}`);
    remove.onclick = () => this.remove();
    const buttons = make("p", "", "buttons");
    buttons.append(this.why, remove);
    const figure = make("figure");
    figure.append(this.canvas, this.caption);
    const words = make("div");
    words.append(make("p", this.name, "soft name"), this.title, this.body, buttons);
    this.element = make("li", "", "card");
    this.element.append(figure, words);
    this.element.card = this;
  }

  remove() {
    const next = this.element.nextElementSibling || this.element.previousElementSibling;
    this.gone = true;
    this.element.remove();
    count();
    (next ? next.querySelector("button:last-of-type") : at("choose")).focus();
  }

  async run() {
    this.title.textContent = "Looking …";
    await this.draw();
    try {
      const most = facts && facts.limits.image_bytes;
      if (most && this.file.size > most) {
        const size = (this.file.size / 1e6).toFixed(1);
        throw new Error(`It has ${size} megabytes; this service takes ${most / 1e6} at most.`);
      }
      const { predictions } = await ask(`predict?runners_up=${RUNNERS_UP}`, this.file);
      this.show(predictions[0]);
    } catch (error) {
      this.fail(error.message);
    }
  }

  /** What the network sees: the centre square, upright. */
  async draw() {
    let picture;
    try {
      picture = await createImageBitmap(this.file);
    } catch {
      this.canvas.className = "blank";
      this.caption.textContent = "This browser can't show it.";
      return;
    }
    const side = Math.min(picture.width, picture.height);
    const context = this.context;
    context.imageSmoothingQuality = "high";
    context.fillStyle = "#fff"; // as the service lays transparency on white
    context.fillRect(0, 0, SIDE, SIDE);
    context.drawImage(picture, (picture.width - side) / 2, (picture.height - side) / 2, side, side, 0, 0, SIDE, SIDE);
    if (picture.width !== picture.height) this.caption.textContent = "What counts: the centre square.";
    picture.close();
  }

  show(answer) {
    this.answer = answer;
    const all = [{ class: answer.class, probability: answer.probability }, ...answer.runners_up];
    this.title.textContent = answer.unknown ? "Unknown" : `${answer.class}, ${percent(answer.probability)}`;
    if (answer.unknown) {
      this.element.classList.add("unknown");
      const note = "It is unlike the photos that this classifier learned from, so none of its classes may be right. The nearest:";
      this.body.append(make("p", note));
    }
    const bars = make("ol", "", "bars");
    for (const item of all) {
      const bar = make("span", "", "bar");
      const filled = make("i");
      filled.style.width = `${100 * item.probability}%`;
      bar.setAttribute("aria-hidden", "true");
      bar.append(filled);
      const row = make("li");
      row.append(make("span", item.class), bar, make("span", percent(item.probability), "value"));
      bars.append(row);
    }
    this.body.append(bars);
    this.why.hidden = false;
    say(`${this.name}: ${this.title.textContent}`);
  }

  fail(reason) {
    this.title.textContent = "No answer";
    this.body.append(make("p", reason, "bad"));
    say(`${this.name}: ${reason}`);
  }

  async toggleHeat() {
    const context = this.context;
    if (this.plain) {
      context.putImageData(this.plain, 0, 0);
      this.plain = null;
      this.caption.textContent = this.said;
      this.why.textContent = "Why?";
      return;
    }
    this.why.disabled = true;
    this.why.textContent = "Looking …";
    try {
      const found = await ask(`explain?class=${encodeURIComponent(this.answer.class)}`, this.file);
      this.canvas.className = "";
      this.said = this.caption.textContent;
      this.plain = context.getImageData(0, 0, SIDE, SIDE);
      context.putImageData(heated(this.plain, found.heat), 0, 0);
      this.caption.textContent = `Orange speaks for ${found.class}, blue against it.`;
      this.why.textContent = "Hide why";
      say(`${this.name}: ${this.caption.textContent}`);
    } catch (error) {
      this.why.textContent = "Why?";
      this.body.append(make("p", error.message, "bad"));
      say(error.message);
    }
    this.why.disabled = false;
    this.why.focus();
  }
}

/** The picture in grey, what speaks for the class laid over it in orange, what speaks against it in blue. */
function heated(plain, heat) {
  const strongest = Math.max(1e-12, ...heat.flat().map(Math.abs));
  const [rows, columns] = [heat.length, heat[0].length];
  const result = new ImageData(SIDE, SIDE);
  for (let y = 0; y < SIDE; y++) {
    for (let x = 0; x < SIDE; x++) {
      const place = 4 * (y * SIDE + x);
      const strength = between(heat, ((y + 0.5) * rows) / SIDE - 0.5, ((x + 0.5) * columns) / SIDE - 0.5) / strongest;
      const share = 0.65 * Math.abs(strength);
      const [r, g, b, a] = plain.data.subarray(place, place + 4);
      const grey = a ? (r + g + b) / 3 : 160;
      const colour = strength > 0 ? [255, 120, 0] : [0, 90, 255];
      for (let c = 0; c < 3; c++) result.data[place + c] = grey * (1 - share) + colour[c] * share;
      result.data[place + 3] = 255;
    }
  }
  return result;
}

/** The value at a place between those of a grid. */
function between(grid, y, x) {
  const [rows, columns] = [grid.length, grid[0].length];
  const [top, left] = [Math.floor(y), Math.floor(x)];
  const value = (i, j) => grid[Math.min(rows - 1, Math.max(0, i))][Math.min(columns - 1, Math.max(0, j))];
  const [down, right] = [smooth(y - top), smooth(x - left)];
  const upper = value(top, left) * (1 - right) + value(top, left + 1) * right;
  const lower = value(top + 1, left) * (1 - right) + value(top + 1, left + 1) * right;
  return upper * (1 - down) + lower * down;
}

const smooth = (t) => t * t * (3 - 2 * t);

/* All photos */

const waiting = [];
let running = 0;

function add(files) {
  at("message").textContent = "";
  const cards = Array.from(files, (file) => new Card(file));
  at("results").prepend(...cards.map((card) => card.element));
  waiting.push(...cards);
  if (cards.length > 1) say(`${cards.length} photos`);
  count();
  pump();
}

function pump() {
  while (running < AT_ONCE && waiting.length) {
    const card = waiting.shift();
    if (card.gone) continue;
    running += 1;
    card.run().finally(() => {
      running -= 1;
      pump();
    });
  }
}

function count() {
  at("clear").hidden = at("results").children.length < 2;
}

function say(text) {
  at("said").textContent = text;
}

function complain(text) {
  at("message").textContent = text;
}

/* Ways in: files, drop, paste, camera */

at("choose").onclick = () => at("files").click();
at("files").onchange = () => {
  add(at("files").files);
  at("files").value = "";
};
at("clear").onclick = () => {
  for (const element of [...at("results").children]) element.card.gone = true;
  at("results").replaceChildren();
  count();
  at("choose").focus();
};

document.addEventListener("dragover", (event) => {
  event.preventDefault();
  at("drop").classList.add("over");
});
document.addEventListener("dragleave", (event) => {
  if (!event.relatedTarget) at("drop").classList.remove("over");
});
document.addEventListener("drop", (event) => {
  event.preventDefault(); // else the browser would leave the page and open the file
  at("drop").classList.remove("over");
  if (event.dataTransfer.files.length) add(event.dataTransfer.files);
  else complain("That was no file. Save the picture first, then drop the file.");
});
document.addEventListener("paste", (event) => {
  if (event.target === at("token")) return;
  if (event.clipboardData.files.length) add(event.clipboardData.files);
  else complain("There is no picture in the clipboard.");
});

let stream = null;

function closeCamera() {
  for (const track of stream ? stream.getTracks() : []) track.stop();
  stream = at("video").srcObject = null;
  at("viewer").hidden = true;
  at("camera").focus();
}

at("camera").hidden = !(navigator.mediaDevices && navigator.mediaDevices.getUserMedia); // wants https, or this machine
at("camera").onclick = async () => {
  if (stream) return;
  at("message").textContent = "";
  try {
    stream = await navigator.mediaDevices.getUserMedia({ video: { facingMode: "environment" } });
  } catch (error) {
    complain(error.name === "NotFoundError" ? "There is no camera." : "The camera can't be used. Allow it in the browser, then try again.");
    return;
  }
  at("video").srcObject = stream;
  at("viewer").hidden = false;
  at("shoot").focus();
};
at("close").onclick = closeCamera;
at("viewer").addEventListener("keydown", (event) => {
  if (event.key === "Escape") closeCamera();
});
let shots = 0;
at("shoot").onclick = () => {
  const video = at("video");
  if (!video.videoWidth) return; // the first picture has not come yet
  const canvas = Object.assign(make("canvas"), { width: video.videoWidth, height: video.videoHeight });
  canvas.getContext("2d").drawImage(video, 0, 0);
  canvas.toBlob((blob) => add([new File([blob], `camera ${++shots}.jpg`, { type: "image/jpeg" })]), "image/jpeg", 0.92);
  closeCamera();
};

/* What this service knows */

let facts = null;

ask("metadata").then(
  (found) => {
    facts = found;
    const names = found.class_names;
    const shown = names.slice(0, 12).join(", ");
    at("about").textContent = `It knows ${names.length} classes${names.length > 12 ? ", such as" : ":"} ${shown}${names.length > 12 ? " …" : "."}`;
  },
  (error) => complain(error.message),
);
