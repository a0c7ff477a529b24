// The page of `imgclf serve`: it talks to its own server only, and keeps images in this tab only.
"use strict";

const TOP = 5; // likeliest classes shown
const KEPT = 60; // images of the session
const LIVE_SIDE = 480; // pixels of a live frame's longer side
const TRIES = 4; // of a request that the server is too busy for

const by = (id) => document.getElementById(id);
const shots = []; // {name, blob, url, record, look, looking, shown, button}: the newest first
let current = null;
let model = null;
let stream = null;
let live = null; // an object of its own for each time that the camera goes live
let photos = 0;
let busy = 0;

// -- the server ------------------------------------------------------------------------------------------------------------

class Problem extends Error {}

async function ask(path, options = {}) {
  const token = sessionStorage.getItem("token");
  const headers = { ...options.headers, ...(token ? { Authorization: `Bearer ${token}` } : {}) };
  for (let attempt = 1; ; attempt++) {
    let answer;
    try {
      answer = await fetch(path, { ...options, headers });
    } catch {
      throw new Problem("The server does not answer. Is imgclf serve still running?");
    }
    if (answer.status === 401) {
      sessionStorage.removeItem("token");
      openDoor(Boolean(token));
      throw new Problem(token ? "That is not the token of this server." : "");
    }
    if (answer.status !== 503 || attempt === TRIES) return answer;
    await new Promise((done) => setTimeout(done, 1000 * Math.min(5, Number(answer.headers.get("Retry-After")) || 1)));
  }
}

async function refusal(answer) {
  try {
    return new Problem(`The server says: ${(await answer.json()).error}.`);
  } catch {
    return new Problem(`The server answered with ${answer.status}.`);
  }
}

async function predict(blob, name) {
  if (model && blob.size > model.limits.file_bytes) {
    throw new Problem(`${name} has ${megabytes(blob.size)}, more than the ${megabytes(model.limits.file_bytes)} of one image.`);
  }
  const form = new FormData();
  form.append("file", blob, name);
  const answer = await ask(`predict?top=${TOP}`, { method: "POST", body: form });
  if (answer.status !== 200 && answer.status !== 422) throw await refusal(answer);
  return (await answer.json())[0];
}

const megabytes = (bytes) => `${(bytes / 2 ** 20).toFixed(bytes < 2 ** 20 ? 2 : 0)} MB`;

// -- what is shown ---------------------------------------------------------------------------------------------------------

function percent(share) {
  const text = (100 * share).toFixed(1); // never quite sure, never quite impossible
  return share < 1 && text === "100.0" ? ">99.9%" : share > 0 && text === "0.0" ? "<0.1%" : `${text}%`;
}
const show = (id, wanted) => (by(id).hidden = !wanted);

function problem(text) {
  by("problem").textContent = text;
  show("problem", text);
}

function say(text) {
  if (by("spoken").textContent !== text) by("spoken").textContent = text;
}

function element(kind, content, className) {
  const made = document.createElement(kind);
  if (content !== undefined) made.textContent = content;
  if (className) made.className = className;
  return made;
}

function isUnknown(record) {
  return record.label !== record.top[0].label;
}

function headline(record) {
  return isUnknown(record) ? "Unknown" : record.label;
}

function words(record) {
  const sure = percent(record.probability);
  if (!isUnknown(record)) return `${sure} sure`;
  return `Not sure enough: ${record.top[0].label} is likeliest with ${sure}, and ${percent(model?.threshold ?? 0)} is asked for`;
}

function showRecord(record, spoken = true) {
  const failed = record && record.error !== null;
  const verdict = by("verdict");
  verdict.className = !record ? "waiting" : failed ? "wrong" : "";
  verdict.textContent = !record ? "…" : failed ? "This cannot be predicted" : headline(record);
  by("sure").textContent = !record ? "" : failed ? sentence(record.error) : words(record);
  showBars(record && !failed ? record.top : []);
  if (record && spoken) say(failed ? `${record.input}: ${record.error}` : `${headline(record)}. ${words(record)}.`);
}

const sentence = (text) => `${text[0].toUpperCase()}${text.slice(1)}.`;

function showBars(top) {
  const list = by("bars");
  while (list.children.length > top.length) list.lastChild.remove();
  top.forEach((pair, place) => {
    let row = list.children[place];
    if (!row) {
      row = element("li");
      const line = element("span", undefined, "line");
      line.append(element("i"));
      row.append(element("span", "", "name"), element("span", "", "share"), line);
      list.append(row);
    }
    row.children[0].textContent = pair.label;
    row.children[1].textContent = percent(pair.probability);
    row.querySelector("i").style.width = `${(100 * pair.probability).toFixed(2)}%`;
  });
}

function showShot(shot) {
  current = shot;
  const looked = Boolean(shot && shot.shown);
  show("empty", !shot && !stream);
  show("image", shot && !shot.unshown);
  show("unshown", shot && shot.unshown && !looked);
  show("look", shot && shot.record && shot.record.error === null);
  show("looked", looked);
  by("look").setAttribute("aria-pressed", String(looked));
  by("look").disabled = Boolean(shot && shot.looking);
  by("look").textContent = shot && shot.looking ? "Looking…" : "Where the model looks";
  if (!shot) {
    by("image").removeAttribute("src");
    by("verdict").className = "waiting";
    by("verdict").textContent = "No image yet";
    by("sure").textContent = "Images go to this server only, and it keeps none of them.";
    showBars([]);
  } else {
    const wanted = looked ? shot.look : shot.url;
    if (by("image").getAttribute("src") !== wanted) by("image").src = wanted;
    if (looked) show("image", true);
    by("image").alt = looked ? `${shot.name}, lit up where the model looks` : shot.name;
    by("unshown").textContent = `${shot.name}: no image that this browser can show`;
    by("looked").textContent = looked
      ? `Lit up is what speaks for ${shot.record.top[0].label}: covered, it makes the model less sure.`
      : "";
    showRecord(shot.record, false);
  }
  showHistory();
}

function showHistory() {
  show("history", shots.length);
  const focused = shots.find((shot) => shot.button && shot.button === document.activeElement);
  by("shots").replaceChildren(
    ...shots.map((shot) => {
      const button = element("button");
      const image = element("img");
      const failed = shot.record && shot.record.error !== null;
      const label = !shot.record ? "…" : failed ? "failed" : headline(shot.record);
      button.type = "button";
      button.setAttribute("aria-current", String(shot === current));
      button.setAttribute("aria-label", `${shot.name}: ${label}`);
      image.src = shot.url;
      image.alt = "";
      image.addEventListener("error", () => image.classList.add("blank"));
      const certain = shot.record && !failed ? percent(shot.record.probability) : shot.name;
      button.append(image, element("span", label, failed ? "failed" : ""), element("small", certain));
      button.addEventListener("click", () => {
        stopCamera();
        problem("");
        showShot(shot);
        showRecord(shot.record);
      });
      shot.button = button;
      const item = element("li");
      item.append(button);
      return item;
    }),
  );
  focused?.button.focus(); // the buttons are made anew, whoever's image has changed
}

function forget(shot) {
  URL.revokeObjectURL(shot.url);
  if (shot.look) URL.revokeObjectURL(shot.look);
}

// -- images --------------------------------------------------------------------------------------------------------------

function working(by_) {
  busy += by_;
  show("busy", busy > 0);
}

async function add(blob, name) {
  const shot = { name: name || "image", blob, url: URL.createObjectURL(blob), record: null };
  shots.unshift(shot);
  while (shots.length > KEPT) forget(shots.pop());
  showShot(shot);
  showRecord(null);
  working(1);
  try {
    shot.record = await predict(blob, shot.name);
    if (shot === current) {
      showShot(shot);
      showRecord(shot.record);
    } else {
      showHistory();
    }
  } catch (error) {
    if (shots.includes(shot)) forget(...shots.splice(shots.indexOf(shot), 1)); // unless all were forgotten meanwhile
    if (shot === current) showShot(shots[0] || null);
    else showHistory();
    if (!(error instanceof Problem)) throw error;
    if (error.message) problem(error.message);
  } finally {
    working(-1);
  }
}

async function addAll(files) {
  if (!files.length) return;
  problem("");
  stopCamera();
  for (const file of files) await add(file, file.name);
}

async function look() {
  const shot = current;
  if (shot.look) {
    shot.shown = !shot.shown;
    showShot(shot);
    return;
  }
  shot.looking = true;
  showShot(shot);
  say("Looking");
  try {
    const label = encodeURIComponent(shot.record.top[0].label);
    const answer = await ask(`explain?label=${label}`, { method: "POST", body: shot.blob });
    if (answer.status !== 200) throw await refusal(answer);
    shot.look = URL.createObjectURL(await answer.blob());
    shot.shown = true;
  } catch (error) {
    if (!(error instanceof Problem)) throw error;
    problem(error.message);
  } finally {
    shot.looking = false;
    if (shot === current) {
      showShot(shot);
      if (shot.shown) say(by("looked").textContent);
    }
  }
}

// -- camera ----------------------------------------------------------------------------------------------------------------

async function startCamera() {
  problem("");
  if (!navigator.mediaDevices?.getUserMedia) {
    by("capture").click(); // not on this address (browsers give it on 127.0.0.1 and HTTPS only): the phone's own camera instead
    return;
  }
  try {
    const given = await navigator.mediaDevices.getUserMedia({ video: { facingMode: "environment" }, audio: false });
    if (stream) return given.getTracks().forEach((track) => track.stop()); // asked for twice: one camera is on already
    stream = given;
  } catch (error) {
    problem(error.name === "NotAllowedError" ? "The camera is not allowed for this page." : "There is no camera that could be used.");
    return;
  }
  stream.getVideoTracks()[0].addEventListener("ended", () => {
    stopCamera(); // unplugged, or taken away; not heard when the page itself stops it
    problem("The camera was taken away.");
  });
  by("video").srcObject = stream;
  await by("video").play();
  for (const id of ["video", "shoot", "live", "stop"]) show(id, true);
  for (const id of ["empty", "image", "unshown", "camera", "choose", "look", "looked"]) show(id, false);
  current = null;
  by("verdict").className = "waiting";
  by("verdict").textContent = "The camera is on";
  by("sure").textContent = "Take a photo, or go live to predict as it moves.";
  showBars([]);
  showHistory();
  by("shoot").focus();
}

function stopCamera() {
  if (!stream) return;
  live = null;
  stream.getTracks().forEach((track) => track.stop());
  stream = null;
  by("video").srcObject = null;
  for (const id of ["video", "shoot", "live", "stop", "rate"]) show(id, false);
  for (const id of ["camera", "choose"]) show(id, true);
  by("live").setAttribute("aria-pressed", "false");
  showShot(current);
}

function frame(side) {
  const video = by("video");
  const scale = Math.min(1, side / Math.max(video.videoWidth, video.videoHeight));
  const canvas = element("canvas");
  canvas.width = Math.max(1, Math.round(video.videoWidth * scale));
  canvas.height = Math.max(1, Math.round(video.videoHeight * scale));
  canvas.getContext("2d").drawImage(video, 0, 0, canvas.width, canvas.height);
  return new Promise((done) => canvas.toBlob(done, "image/jpeg", side === LIVE_SIDE ? 0.85 : 0.95));
}

async function shoot() {
  problem("");
  const blob = await frame(4096);
  photos += 1;
  stopCamera();
  by("camera").focus();
  await add(blob, `photo ${photos}.jpg`);
}

async function goLive() {
  const mine = (live = live ? null : {});
  by("live").setAttribute("aria-pressed", String(Boolean(mine)));
  show("rate", mine);
  if (!mine) return;
  by("rate").textContent = "…";
  problem("");
  let rate = 0;
  let last = performance.now();
  let heard = "";
  while (live === mine) {
    if (document.hidden) {
      await new Promise((done) => document.addEventListener("visibilitychange", done, { once: true }));
      last = performance.now();
      continue;
    }
    try {
      const record = await predict(await frame(LIVE_SIDE), "frame.jpg");
      if (live !== mine) return;
      const label = record.error ?? record.label;
      showRecord(record, label !== heard); // a screen reader hears changes, not every frame
      heard = label;
    } catch (error) {
      if (live !== mine) return;
      live = null;
      by("live").setAttribute("aria-pressed", "false");
      show("rate", false);
      if (!(error instanceof Problem)) throw error;
      problem(error.message);
      return;
    }
    const now = performance.now();
    rate = rate ? 0.9 * rate + 0.1 * (1000 / (now - last)) : 1000 / (now - last);
    last = now;
    by("rate").textContent = `${rate.toFixed(1)} images/s`;
    await new Promise(requestAnimationFrame);
  }
}

// -- the model's card, the door --------------------------------------------------------------------------------------------

function openDoor(tried) {
  show("door", true);
  by("token").value = "";
  by("token").focus();
  if (!tried) problem("");
}

async function loadModel() {
  const answer = await ask("model");
  if (answer.status !== 200) throw await refusal(answer);
  model = await answer.json();
  const { accuracy, preprocessing } = model;
  const between = ({ interval }) => `${percent(interval[0])} to ${percent(interval[1])}`;
  const right = `${percent(accuracy.value)} (${between(accuracy)}) correct on ${accuracy.on} images`;
  by("about").textContent = [model.model, `${model.classes.length} classes`, right].filter(Boolean).join(" · ");
  by("version").textContent = model.imgclf;
  document.title = `${model.run} · imgclf`;
  const of = accuracy.images ? ` of ${accuracy.images.toLocaleString("en")} ${accuracy.on} images` : ` (${accuracy.on})`;
  const { class_name: common, accuracy: trivial, verdict } = accuracy.baseline;
  const how = verdict === "not better" ? "not significantly better" : verdict;
  const rows = [
    ["Classes", model.classes.join(", "), true],
    ["Accuracy", `${percent(accuracy.value)}${of}, 95% interval ${between(accuracy)}`, true],
    ["Baseline", `${percent(trivial)} (${between(accuracy.baseline)}), always predicting ${common}; this model is ${how}`, true],
    ["Trained", model.trained && new Date(model.trained).toLocaleString("en", { dateStyle: "medium", timeStyle: "short" })],
    ["On the data", model.data && `${model.data}${model.images?.train ? `, ${model.images.train.toLocaleString("en")} images` : ""}`],
    ["Network", model.model && `${model.model}${model.parameters ? `, ${model.parameters.toLocaleString("en")} parameters` : ""}`],
    ["It is given", `${preprocessing.width} × ${preprocessing.height} pixels (${preprocessing.aspect})`],
    ["Probabilities", model.calibrated ? "calibrated on the validation images" : "as the network gives them"],
    ["Unknown below", model.threshold ? percent(model.threshold) : null],
    ["Run", model.run],
  ];
  by("card").replaceChildren(
    ...rows
      .filter((row) => row[1])
      .map(([name, value, wide]) => {
        const pair = element("div", undefined, wide ? "wide" : "");
        pair.append(element("dt", name), element("dd", value));
        return pair;
      }),
  );
  show("door", false);
}

async function begin() {
  try {
    await loadModel();
  } catch (error) {
    if (!(error instanceof Problem)) throw error;
    if (error.message) problem(error.message);
  }
}

// -- what a person does ----------------------------------------------------------------------------------------------------

by("choose").addEventListener("click", () => by("files").click());
for (const id of ["files", "capture"]) {
  by(id).addEventListener("change", async () => {
    const files = [...by(id).files];
    by(id).value = "";
    await addAll(files);
  });
}
by("camera").addEventListener("click", startCamera);
by("shoot").addEventListener("click", shoot);
by("live").addEventListener("click", goLive);
by("stop").addEventListener("click", () => {
  stopCamera();
  by("camera").focus();
});
by("look").addEventListener("click", look);
by("clear").addEventListener("click", () => {
  shots.splice(0).forEach(forget);
  showShot(null);
  say("All images of this session are forgotten");
  by(stream ? "stop" : "choose").focus();
});
by("image").addEventListener("error", () => {
  if (!current || current.shown || !by("image").getAttribute("src")) return;
  current.unshown = true; // a format that the model reads and the browser does not, or no image at all
  showShot(current);
});
by("door").addEventListener("submit", async (event) => {
  event.preventDefault();
  sessionStorage.setItem("token", by("token").value.trim());
  problem("");
  await begin();
  if (model) by("choose").focus();
});
document.addEventListener("paste", (event) => {
  const files = [...event.clipboardData.files];
  if (files.length) {
    event.preventDefault();
    addAll(files);
  } else if (event.target !== by("token")) {
    problem("There is no image in the clipboard.");
  }
});
let depth = 0;
document.addEventListener("dragenter", (event) => {
  event.preventDefault();
  depth += 1;
  by("frame").classList.add("over");
});
document.addEventListener("dragleave", () => {
  depth = Math.max(0, depth - 1);
  if (!depth) by("frame").classList.remove("over");
});
document.addEventListener("dragover", (event) => event.preventDefault());
document.addEventListener("drop", (event) => {
  event.preventDefault();
  depth = 0;
  by("frame").classList.remove("over");
  const files = [...event.dataTransfer.files];
  if (files.length) addAll(files);
  else problem("Only files can be dropped here; nothing is fetched from the web.");
});
document.addEventListener("keydown", (event) => {
  if (event.key === "Escape" && stream) {
    stopCamera();
    by("camera").focus();
  }
});

begin();
