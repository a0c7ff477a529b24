// The page of `imgclf serve`. It connects only to its own server, and keeps images only in this tab.
"use strict";

const TOP = 5; // number of most likely classes to show
const KEPT = 60; // maximum number of images in the history
const LIVE_SIDE = 480; // pixels on the longer side of a live frame
const TRIES = 4; // attempts of a request while the server is too busy

const by = (id) => document.getElementById(id);
const shots = []; // newest first: {name, blob, url, record, saliency, isLoading, isShown, hasNoPreview, button}
let current = null;
let model = null;
let stream = null;
let live = null; // a new object for each live session, so that an older loop notices that its session has ended
let captured = 0;
let busy = 0;

// -- the server ------------------------------------------------------------------------------------------------------------

class Problem extends Error {}

async function request(path, options = {}) {
  const token = sessionStorage.getItem("token");
  const headers = { ...options.headers, ...(token ? { Authorization: `Bearer ${token}` } : {}) };
  for (let attempt = 1; ; attempt++) {
    let response;
    try {
      response = await fetch(path, { ...options, headers });
    } catch {
      throw new Problem("The server does not respond. Is `imgclf serve` still running?");
    }
    if (response.status === 401) {
      sessionStorage.removeItem("token");
      showLogin(Boolean(token));
      throw new Problem(token ? "This server does not accept that token." : "");
    }
    if (response.status !== 503 || attempt === TRIES) return response;
    await new Promise((done) => setTimeout(done, 1000 * Math.min(5, Number(response.headers.get("Retry-After")) || 1)));
  }
}

async function problemOf(response) {
  try {
    return new Problem(`The server reported an error: ${(await response.json()).error}.`);
  } catch {
    return new Problem(`The server responded with status ${response.status}.`);
  }
}

async function predict(blob, name) {
  if (model && blob.size > model.limits.file_bytes) {
    throw new Problem(`${name} has ${megabytes(blob.size)}; the limit for one image is ${megabytes(model.limits.file_bytes)}.`);
  }
  const form = new FormData();
  form.append("file", blob, name);
  const response = await request(`predict?top=${TOP}`, { method: "POST", body: form });
  if (response.status !== 200 && response.status !== 422) throw await problemOf(response);
  return (await response.json())[0];
}

const megabytes = (bytes) => `${(bytes / 2 ** 20).toFixed(bytes < 2 ** 20 ? 2 : 0)} MB`;

// -- display ---------------------------------------------------------------------------------------------------------------

function percent(fraction) {
  const text = (100 * fraction).toFixed(1); // do not round to 0% or 100%
  return fraction < 1 && text === "100.0" ? ">99.9%" : fraction > 0 && text === "0.0" ? "<0.1%" : `${text}%`;
}
const show = (id, wanted) => (by(id).hidden = !wanted);

function problem(text) {
  by("problem").textContent = text;
  show("problem", text);
}

function announce(text) {
  if (by("status").textContent !== text) by("status").textContent = text;
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

function confidenceText(record) {
  const confidence = percent(record.probability);
  if (!isUnknown(record)) return `Confidence ${confidence}`;
  return `Below the threshold of ${percent(model?.threshold ?? 0)}: the most likely class is ${record.top[0].label} with ${confidence}`;
}

function showRecord(record, isAnnounced = true) {
  const failed = record && record.error !== null;
  const verdict = by("verdict");
  verdict.className = !record ? "waiting" : failed ? "wrong" : "";
  verdict.textContent = !record ? "…" : failed ? "This file cannot be classified" : headline(record);
  by("confidence").textContent = !record ? "" : failed ? sentence(record.error) : confidenceText(record);
  showBars(record && !failed ? record.top : []);
  if (record && isAnnounced) announce(failed ? `${record.input}: ${record.error}` : `${headline(record)}. ${confidenceText(record)}.`);
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
      row.append(element("span", "", "name"), element("span", "", "probability"), line);
      list.append(row);
    }
    row.children[0].textContent = pair.label;
    row.children[1].textContent = percent(pair.probability);
    row.querySelector("i").style.width = `${(100 * pair.probability).toFixed(2)}%`;
  });
}

function showShot(shot) {
  current = shot;
  const isMapShown = Boolean(shot && shot.isShown);
  show("empty", !shot && !stream);
  show("image", shot && !shot.hasNoPreview);
  show("no-preview", shot && shot.hasNoPreview && !isMapShown);
  show("saliency", shot && shot.record && shot.record.error === null);
  show("saliency-note", isMapShown);
  by("saliency").setAttribute("aria-pressed", String(isMapShown));
  by("saliency").disabled = Boolean(shot && shot.isLoading);
  by("saliency").textContent = shot && shot.isLoading ? "Computing…" : "Show saliency map";
  if (!shot) {
    by("image").removeAttribute("src");
    by("verdict").className = "waiting";
    by("verdict").textContent = "No image yet";
    by("confidence").textContent = "Images are sent to this server only. It does not store them.";
    showBars([]);
  } else {
    const wanted = isMapShown ? shot.saliency : shot.url;
    if (by("image").getAttribute("src") !== wanted) by("image").src = wanted;
    if (isMapShown) show("image", true);
    by("image").alt = isMapShown ? `${shot.name} with its saliency map` : shot.name;
    by("no-preview").textContent = `${shot.name}: this browser cannot display the file`;
    by("saliency-note").textContent = isMapShown
      ? `Highlighted areas matter most: covering them lowers the probability of ${shot.record.top[0].label}.`
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
      const note = shot.record && !failed ? percent(shot.record.probability) : shot.name;
      button.append(image, element("span", label, failed ? "failed" : ""), element("small", note));
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
  focused?.button.focus(); // every update replaces all buttons, so restore the focus
}

function release(shot) {
  URL.revokeObjectURL(shot.url);
  if (shot.saliency) URL.revokeObjectURL(shot.saliency);
}

// -- images --------------------------------------------------------------------------------------------------------------

function changeBusy(change) {
  busy += change;
  show("busy", busy > 0);
}

async function add(blob, name) {
  const shot = { name: name || "image", blob, url: URL.createObjectURL(blob), record: null };
  shots.unshift(shot);
  while (shots.length > KEPT) release(shots.pop());
  showShot(shot);
  showRecord(null);
  changeBusy(1);
  try {
    shot.record = await predict(blob, shot.name);
    if (shot === current) {
      showShot(shot);
      showRecord(shot.record);
    } else {
      showHistory();
    }
  } catch (error) {
    if (shots.includes(shot)) release(...shots.splice(shots.indexOf(shot), 1)); // the user may have removed all meanwhile
    if (shot === current) showShot(shots[0] || null);
    else showHistory();
    if (!(error instanceof Problem)) throw error;
    if (error.message) problem(error.message);
  } finally {
    changeBusy(-1);
  }
}

async function addAll(files) {
  if (!files.length) return;
  problem("");
  stopCamera();
  for (const file of files) await add(file, file.name);
}

async function toggleSaliency() {
  const shot = current;
  if (shot.saliency) {
    shot.isShown = !shot.isShown;
    showShot(shot);
    return;
  }
  shot.isLoading = true;
  showShot(shot);
  announce("Computing the saliency map");
  try {
    const label = encodeURIComponent(shot.record.top[0].label);
    const response = await request(`explain?label=${label}`, { method: "POST", body: shot.blob });
    if (response.status !== 200) throw await problemOf(response);
    shot.saliency = URL.createObjectURL(await response.blob());
    shot.isShown = true;
  } catch (error) {
    if (!(error instanceof Problem)) throw error;
    problem(error.message);
  } finally {
    shot.isLoading = false;
    if (shot === current) {
      showShot(shot);
      if (shot.isShown) announce(by("saliency-note").textContent);
    }
  }
}

// -- camera ----------------------------------------------------------------------------------------------------------------

async function startCamera() {
  problem("");
  if (!navigator.mediaDevices?.getUserMedia) {
    by("capture").click(); // browsers allow getUserMedia only on 127.0.0.1 and HTTPS; open the phone's camera app instead
    return;
  }
  try {
    const opened = await navigator.mediaDevices.getUserMedia({ video: { facingMode: "environment" }, audio: false });
    if (stream) return opened.getTracks().forEach((track) => track.stop()); // started twice: the camera is already on
    stream = opened;
  } catch (error) {
    problem(error.name === "NotAllowedError" ? "This page has no permission to use the camera." : "No usable camera was found.");
    return;
  }
  stream.getVideoTracks()[0].addEventListener("ended", () => {
    stopCamera(); // the camera was unplugged or its permission revoked; stopping it from this page sends no event
    problem("The camera was disconnected.");
  });
  by("video").srcObject = stream;
  await by("video").play();
  for (const id of ["video", "shoot", "live", "stop"]) show(id, true);
  for (const id of ["empty", "image", "no-preview", "camera", "choose", "saliency", "saliency-note"]) show(id, false);
  current = null;
  by("verdict").className = "waiting";
  by("verdict").textContent = "The camera is on";
  by("confidence").textContent = "Capture an image, or press Live to classify continuously.";
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
  captured += 1;
  stopCamera();
  by("camera").focus();
  await add(blob, `camera ${captured}.jpg`);
}

async function goLive() {
  const session = (live = live ? null : {});
  by("live").setAttribute("aria-pressed", String(Boolean(session)));
  show("rate", session);
  if (!session) return;
  by("rate").textContent = "…";
  problem("");
  let rate = 0;
  let last = performance.now();
  let announced = "";
  while (live === session) {
    if (document.hidden) {
      await new Promise((done) => document.addEventListener("visibilitychange", done, { once: true }));
      last = performance.now();
      continue;
    }
    try {
      const record = await predict(await frame(LIVE_SIDE), "frame.jpg");
      if (live !== session) return;
      const label = record.error ?? record.label;
      showRecord(record, label !== announced); // announce changes to screen readers, not every frame
      announced = label;
    } catch (error) {
      if (live !== session) return;
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

// -- model card and login --------------------------------------------------------------------------------------------------

function showLogin(wasTried) {
  show("login", true);
  by("token").value = "";
  by("token").focus();
  if (!wasTried) problem("");
}

async function loadModel() {
  const response = await request("model");
  if (response.status !== 200) throw await problemOf(response);
  model = await response.json();
  const { accuracy, preprocessing } = model;
  const intervalText = ({ interval }) => `${percent(interval[0])} to ${percent(interval[1])}`;
  const accuracyText = `${percent(accuracy.value)} (${intervalText(accuracy)}) correct on ${accuracy.on} images`;
  by("about").textContent = [model.model, `${model.classes.length} classes`, accuracyText].filter(Boolean).join(" · ");
  by("version").textContent = model.imgclf;
  document.title = `${model.run} · imgclf`;
  const of = accuracy.images ? ` of ${accuracy.images.toLocaleString("en")} ${accuracy.on} images` : ` (${accuracy.on})`;
  const { class_name: common, accuracy: trivial, verdict } = accuracy.baseline;
  const how = verdict === "not better" ? "not significantly better" : verdict;
  const rows = [
    ["Classes", model.classes.join(", "), true],
    ["Accuracy", `${percent(accuracy.value)}${of}, 95% interval ${intervalText(accuracy)}`, true],
    ["Baseline", `${percent(trivial)} (${intervalText(accuracy.baseline)}), always predicting ${common}; this model is ${how}`, true],
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
  show("login", false);
}

async function begin() {
  try {
    await loadModel();
  } catch (error) {
    if (!(error instanceof Problem)) throw error;
    if (error.message) problem(error.message);
  }
}

// -- user actions ----------------------------------------------------------------------------------------------------------

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
by("saliency").addEventListener("click", toggleSaliency);
by("clear").addEventListener("click", () => {
  shots.splice(0).forEach(release);
  showShot(null);
  announce("All images of this session were removed");
  by(stream ? "stop" : "choose").focus();
});
by("image").addEventListener("error", () => {
  if (!current || current.isShown || !by("image").getAttribute("src")) return;
  current.hasNoPreview = true; // a format that the browser does not support, or not an image
  showShot(current);
});
by("login").addEventListener("submit", async (event) => {
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
let depth = 0; // dragenter and dragleave also fire for child elements
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
  else problem("Only files can be dropped here. Links are not downloaded.");
});
document.addEventListener("keydown", (event) => {
  if (event.key === "Escape" && stream) {
    stopCamera();
    by("camera").focus();
  }
});

begin();
