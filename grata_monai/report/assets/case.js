"use strict";
const find = (id) => document.getElementById(id);
const page = document.body;
const FLICKER_MS = 600;
const about = JSON.parse(find("case").textContent);
const labels = Object.keys(about.colours);  // none where there is one label only

/* Outlines: radio buttons, keys and the flicker switch all set one attribute. */
function show(which) {
  page.dataset.show = which;
  document.querySelector(`input[name=show][value=${which}]`).checked = true;
}
let timer = null;
function flicker(on) {
  clearInterval(timer);
  timer = on ? setInterval(() => show(page.dataset.show === "kept" ? "source" : "kept"), FLICKER_MS) : null;
  find("flicker").setAttribute("aria-pressed", String(on));
  show(on ? "source" : "both");
}
function toggleViews() {
  const box = find("views");
  if (box) { page.dataset.views = box.checked ? "on" : "off"; }
}
function toggleLarger() {
  const on = page.classList.toggle("large");
  find("larger").setAttribute("aria-pressed", String(on));
}
const stopAndShow = (which) => { if (timer) { flicker(false); } show(which); };
for (const input of document.querySelectorAll("input[name=show]")) {
  input.addEventListener("change", () => stopAndShow(input.value));
}
if (find("views")) { find("views").addEventListener("change", toggleViews); }
find("flicker").addEventListener("click", () => flicker(timer === null));
find("larger").addEventListener("click", toggleLarger);
const KEYS = {
  b: () => stopAndShow("both"), k: () => stopAndShow("kept"), o: () => stopAndShow("source"), n: () => stopAndShow("none"),
  m: () => { const box = find("views"); if (box) { box.checked = !box.checked; toggleViews(); } },
  f: () => flicker(timer === null), l: toggleLarger,
};
document.addEventListener("keydown", (event) => {
  const typing = event.target.matches("input[type=text], input[type=search], textarea, select, canvas");
  if (!typing && !event.ctrlKey && !event.metaKey && !event.altKey && event.key in KEYS) { KEYS[event.key](); }
});

/* The viewer is unpacked only when it is asked for: the page opens at once. */
function decode(id) {
  return Uint8Array.from(atob(find(id).textContent), (letter) => letter.charCodeAt(0));
}
/* Every label in the colour of its outlines; the background, 0, stays clear. */
function paintLabels() {
  const parts = labels.map((label) => about.colours[label].match(/[0-9A-F]{2}/g).map((part) => parseInt(part, 16)));
  const channel = (k) => [0, ...parts.map((part) => part[k])];
  return { I: [0, ...labels.map(Number)], R: channel(0), G: channel(1), B: channel(2), A: [0, ...parts.map(() => 255)],
    labels: ["", ...labels.map((label) => about.names[label])] };
}
async function openViewer() {
  const says = find("viewer-says");
  const canvas = document.createElement("canvas");
  if (!canvas.getContext("webgl2") || !window.DecompressionStream) {
    says.textContent = "This browser has no WebGL 2; the slices above show the case.";
    return;
  }
  says.textContent = "Opening …";
  try {
    const stream = new Blob([decode("niivue")]).stream().pipeThrough(new DecompressionStream("gzip"));
    const script = document.createElement("script");
    script.textContent = await new Response(stream).text();
    document.head.append(script);
    const view = document.createElement("canvas");
    view.setAttribute("aria-label", "Image and kept mask in three planes and 3D");
    view.setAttribute("role", "img");
    find("viewer").append(view);
    const viewer = new niivue.Niivue({ backColor: [0, 0, 0, 1], show3Dcrosshair: true, logLevel: "silent", isRadiologicalConvention: true });
    await viewer.attachToCanvas(view);
    for (const [id, colormap, opacity] of [["image", "gray", 1], ["mask", "blue", 0.45]]) {
      const volume = await niivue.NVImage.loadFromBase64({ base64: find(id).textContent, name: `${id}.nii.gz`, colormap, opacity });
      if (id === "mask" && labels.length) { volume.setColormapLabel(paintLabels()); }
      viewer.addVolume(volume);
    }
    viewer.setSliceType(viewer.sliceTypeMultiplanar);
    page.dataset.viewer = "open";
    says.textContent = `Scroll through slices with the wheel; drag to turn the 3D view. ${labels.length ? "Colours are the kept mask's, as above" : "Blue is the kept mask"}.`;
  } catch (error) {
    find("viewer").replaceChildren();
    says.textContent = `The viewer could not be opened (${error.message}); the slices above show the case.`;
  }
}
find("open-viewer").addEventListener("click", openViewer);

/* Accept, edit or reject: only where `python -m grata_monai review` serves the page. */
async function listReviews() {
  const answer = await fetch(`/reviews?case=${encodeURIComponent(about.case)}`);
  if (!answer.ok) { throw new Error(await answer.text()); }
  find("reviews").replaceChildren(...(await answer.json()).map((entry) => {
    const item = document.createElement("li");
    item.textContent = `${entry.time}: ${entry.decision} by ${entry.reader}${entry.remark ? `, ${entry.remark}` : ""}`;
    return item;
  }));
}
if (location.protocol === "http:") {
  const form = find("review-form");
  listReviews().then(() => { find("review").hidden = false; }, () => {});
  form.addEventListener("submit", async (event) => {
    event.preventDefault();
    const entry = { case: about.case, digest: about.digest, decision: event.submitter.value, reader: form.reader.value, remark: form.remark.value };
    const answer = await fetch("/reviews", { method: "POST", headers: { "Content-Type": "application/json", "X-Grata-Review": "1" }, body: JSON.stringify(entry) });
    find("review-says").textContent = answer.ok ? `Kept in the log: ${entry.decision}.` : await answer.text();
    if (answer.ok) { await listReviews(); }
  });
}
