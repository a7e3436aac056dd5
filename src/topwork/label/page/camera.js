// The camera adds images to a class: one for each click, several while the button is held.

import { ask, save } from "./service.js";
import { at, counted, make } from "./tiles.js";

const EVERY = 250; // milliseconds between photos while the button is held

let stream = null;
let taken = 0;
let timer = 0;
let held = 0; // photos of this press: the click that ends it takes none

function say(text) {
  at("camera-said").textContent = text;
}

at("camera").hidden = !(navigator.mediaDevices && navigator.mediaDevices.getUserMedia); // wants https, or this machine
at("camera").onclick = async () => {
  taken = 0;
  say("Hold the button to take several.");
  at("camera-dialog").showModal();
  try {
    stream = await navigator.mediaDevices.getUserMedia({ video: { facingMode: "environment" } });
  } catch (error) {
    say(error.name === "NotFoundError" ? "There is no camera." : "The camera can’t be used. Allow it in the browser, then try again.");
    return;
  }
  at("video").srcObject = stream;
};
at("camera-close").onclick = () => at("camera-dialog").close();
at("camera-dialog").onclose = () => {
  clearInterval(timer);
  for (const track of stream ? stream.getTracks() : []) track.stop();
  stream = at("video").srcObject = null;
};

function shoot() {
  const video = at("video");
  const name = at("camera-class").value.trim();
  if (!video.videoWidth || !name) return; // the first picture has not come yet
  held += 1;
  const canvas = Object.assign(make("canvas"), { width: video.videoWidth, height: video.videoHeight });
  canvas.getContext("2d").drawImage(video, 0, 0);
  canvas.toBlob(
    (photo) => {
      const change = {
        items: [],
        send: () => ask(`api/camera?label=${encodeURIComponent(name)}`, photo),
        done: () => {
          taken += 1;
          say(`${counted(taken, "photo")} saved.`);
          return `Saved: a photo of ${name}.`;
        },
        failed: () => say("The photo is not saved."),
      };
      if (!save(change)) at("camera-dialog").close(); // the page behind says why
    },
    "image/jpeg",
    0.92,
  );
}

at("camera-form").onsubmit = (event) => {
  event.preventDefault();
  if (!held) shoot();
  held = 0;
};
at("shoot").addEventListener("pointerdown", () => {
  held = 0;
  clearInterval(timer);
  timer = setInterval(shoot, EVERY);
});
for (const name of ["pointerup", "pointercancel", "pointerleave"]) at("shoot").addEventListener(name, () => clearInterval(timer));
