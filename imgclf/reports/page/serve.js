// The page of `imgclf serve`. It sends images to its own server only, and keeps them in this tab only.
"use strict";

const TOP = 5; // number of most likely classes to show
const KEPT = 60; // maximum number of images in the session
const LIVE_SIDE = 480; // longer side of a live frame in pixels
const TRIES = 4; // attempts of a request while the server is too busy

const by = (id) => document.getElementById(id);
const shots = []; // {name, blob, url, record, map, isComputing, shown, button}, newest first
let current = null;
let model = null;
let stream = null;
let live = null; // a new object for each live session of the camera
let photos = 0;
let busy = 0;

// -- the server ------------------------------------------------------------------------------------------------------------

class Problem extends Error {}

async function ask(path, options = {}) {
  const token = sessionStorage.getItem("token");
  const headers = { ...options.headers, ...(token ? { Authorization: `Bearer ${token}` } : {}) };
  for (let attempt = 1; ; attempt++) {
    let response;
    try {
      response = await fetch(path, { ...options, headers });
    } catch {
      throw new Problem("The server does not respond. Is imgclf serve still running?");
    }
    if (response.status === 401) {
      sessionStorage.removeItem("token");
      openDoor(Boolean(token));
      throw new Problem(token ? "This is not the token of the server." : "");
    }
    if (response.status !== 503 || attempt === TRIES) return response;
    await new Promise((done) => setTimeout(done, 1000 * Math.min(5, Number(response.headers.get("Retry-After")) || 1)));
  }
}

async function refusal(response) {
  try {
    return new Problem(`The server refused the request: ${(await response.json()).error}.`);
  } catch {
    return new Problem(`The server returned status ${response.status}.`);
  }
}

async function predict(blob, name) {
  if (model && blob.size > model.limits.file_bytes) {
    throw new Problem(`${name} has ${megabytes(blob.size)}, more than the limit of ${megabytes(model.limits.file_bytes)} per image.`);
  }
  const form = new FormData();
  form.append("file", blob, name);
  const response = await ask(`predict?top=${TOP}`, { method: "POST", body: form });
  if (response.status !== 200 && response.status !== 422) throw await refusal(response);
  return (await response.json())[0];
}

const megabytes = (bytes) => `${(bytes / 2 ** 20).toFixed(bytes < 2 ** 20 ? 2 : 0)} MB`;

// -- display ---------------------------------------------------------------------------------------------------------------

function percent(fraction) {
  const text = (100 * fraction).toFixed(1); // show 100% and 0% only for exactly 1 and 0
  return fraction < 1 && text === "100.0" ? ">99.9%" : fraction > 0 && text === "0.0" ? "<0.1%" : `${text}%`;
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
  const probability = percent(record.probability);
  if (!isUnknown(record)) return `Probability ${probability}`;
  return `The most likely class, ${record.top[0].label}, has ${probability}; the threshold is ${percent(model?.threshold ?? 0)}`;
}

function showRecord(record, spoken = true) {
  const failed = record && record.error !== null;
  const verdict = by("verdict");
  verdict.className = !record ? "waiting" : failed ? "wrong" : "";
  verdict.textContent = !record ? "…" : failed ? "No prediction" : headline(record);
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
  const isMapped = Boolean(shot && shot.shown);
  show("empty", !shot && !stream);
  show("image", shot && !shot.unshown);
  show("unshown", shot && shot.unshown && !isMapped);
  show("look", shot && shot.record && shot.record.error === null);
  show("looked", isMapped);
  by("look").setAttribute("aria-pressed", String(isMapped));
  by("look").disabled = Boolean(shot && shot.isComputing);
  by("look").textContent = shot && shot.isComputing ? "Computing…" : "Saliency map";
  if (!shot) {
    by("image").removeAttribute("src");
    by("verdict").className = "waiting";
    by("verdict").textContent = "No image yet";
    by("sure").textContent = "Images are sent to this server only. It does not store them.";
    showBars([]);
  } else {
    const wanted = isMapped ? shot.map : shot.url;
    if (by("image").getAttribute("src") !== wanted) by("image").src = wanted;
    if (isMapped) show("image", true);
    by("image").alt = isMapped ? `${shot.name} with saliency map` : shot.name;
    by("unshown").textContent = `${shot.name}: this browser cannot show the image`;
    by("looked").textContent = isMapped
      ? `The bright regions support ${shot.record.top[0].label}: covering them lowers its probability.`
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
  focused?.button.focus(); // all buttons are new elements
}

function forget(shot) {
  URL.revokeObjectURL(shot.url);
  if (shot.map) URL.revokeObjectURL(shot.map);
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
    if (shots.includes(shot)) forget(...shots.splice(shots.indexOf(shot), 1)); // unless all images were deleted meanwhile
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

async function toggleMap() {
  const shot = current;
  if (shot.map) {
    shot.shown = !shot.shown;
    showShot(shot);
    return;
  }
  shot.isComputing = true;
  showShot(shot);
  say("Computing the saliency map");
  try {
    const label = encodeURIComponent(shot.record.top[0].label);
    const response = await ask(`explain?label=${label}`, { method: "POST", body: shot.blob });
    if (response.status !== 200) throw await refusal(response);
    shot.map = URL.createObjectURL(await response.blob());
    shot.shown = true;
  } catch (error) {
    if (!(error instanceof Problem)) throw error;
    problem(error.message);
  } finally {
    shot.isComputing = false;
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
    by("capture").click(); // browsers allow it on 127.0.0.1 and HTTPS only; elsewhere, open the phone's own camera
    return;
  }
  try {
    const given = await navigator.mediaDevices.getUserMedia({ video: { facingMode: "environment" }, audio: false });
    if (stream) return given.getTracks().forEach((track) => track.stop()); // requested twice, and one camera is on already
    stream = given;
  } catch (error) {
    problem(error.name === "NotAllowedError" ? "This page has no permission to use the camera." : "No camera is available.");
    return;
  }
  stream.getVideoTracks()[0].addEventListener("ended", () => {
    stopCamera(); // unplugged or in use elsewhere; the event does not occur when the page stops the camera
    problem("The camera was disconnected.");
  });
  by("video").srcObject = stream;
  await by("video").play();
  for (const id of ["video", "shoot", "live", "stop"]) show(id, true);
  for (const id of ["empty", "image", "unshown", "camera", "choose", "look", "looked"]) show(id, false);
  current = null;
  by("verdict").className = "waiting";
  by("verdict").textContent = "The camera is on";
  by("sure").textContent = "Take a photo, or press Live to predict continuously.";
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
  let announced = "";
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
      showRecord(record, label !== announced); // announce changes only, not every frame
      announced = label;
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

// -- the model card, the token form ---------------------------------------------------------------------------------------

function openDoor(tried) {
  show("door", true);
  by("token").value = "";
  by("token").focus();
  if (!tried) problem("");
}

async function loadModel() {
  const response = await ask("model");
  if (response.status !== 200) throw await refusal(response);
  model = await response.json();
  const { accuracy, preprocessing } = model;
  const between = ({ interval }) => `${percent(interval[0])} to ${percent(interval[1])}`;
  const correct = `${percent(accuracy.value)} (${between(accuracy)}) correct on ${accuracy.on} images`;
  by("about").textContent = [model.model, `${model.classes.length} classes`, correct].filter(Boolean).join(" · ");
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
    ["Training data", model.data && `${model.data}${model.images?.train ? `, ${model.images.train.toLocaleString("en")} images` : ""}`],
    ["Network", model.model && `${model.model}${model.parameters ? `, ${model.parameters.toLocaleString("en")} parameters` : ""}`],
    ["Input", `${preprocessing.width} × ${preprocessing.height} pixels (${preprocessing.aspect})`],
    ["Probabilities", model.calibrated ? "calibrated on the validation images" : "not calibrated"],
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

// -- events ----------------------------------------------------------------------------------------------------

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
by("look").addEventListener("click", toggleMap);
by("clear").addEventListener("click", () => {
  shots.splice(0).forEach(forget);
  showShot(null);
  say("All images of this session are deleted");
  by(stream ? "stop" : "choose").focus();
});
by("image").addEventListener("error", () => {
  if (!current || current.shown || !by("image").getAttribute("src")) return;
  current.unshown = true; // a format that only the model can read, or not an image
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
