"use strict";
const find = (id) => document.getElementById(id);
const { folder, rows } = JSON.parse(find("data").textContent);
const PAGE = 50;
let shown = rows;
let start = 0;

function cell(row, text, kind = "", heading = "") {
  const made = document.createElement("td");
  made.dataset.heading = heading;  // shown on narrow screens, where a row is a card
  made.className = kind;
  made.append(text);
  row.append(made);
}
const number = (value, digits) => (value === null ? "–" : value.toFixed(digits));
function signed(value) {
  if (value === null) { return "–"; }
  const text = Math.abs(value).toFixed(1);
  return Number(text) === 0 ? text : (value > 0 ? "+" : "−") + text;
}
function draw(entry) {
  const row = document.createElement("tr");
  const path = `${folder}/${encodeURIComponent(entry.case)}`;
  const refused = entry.light === "refused";
  const picture = document.createElement("img");
  Object.assign(picture, { alt: "", loading: "lazy", width: 96, height: 72, src: refused ? "data:," : `${path}.thumb.png` });
  cell(row, refused ? "" : picture);
  const name = document.createElement("a");
  name.textContent = entry.case;
  name.href = `${path}.html`;
  cell(row, name);
  const light = document.createElement("span");
  light.className = `light ${entry.light}`;
  light.textContent = entry.light === "none" ? "not judged" : entry.light;
  cell(row, light);
  cell(row, entry.says, "says");
  const foreign = entry.percentile === null ? "–" : String(Math.floor(entry.percentile));
  const numbers = { Agreement: number(entry.agreement, 2), "Volume, mL": number(entry.volume, 1),
    "Change, mL": signed(entry.change), "Foreign, %": foreign };
  for (const [heading, text] of Object.entries(numbers)) { cell(row, refused ? "" : text, "n", heading); }
  return row;
}
function update() {
  const end = Math.min(start + PAGE, shown.length);
  find("rows").replaceChildren(...shown.slice(start, end).map(draw));
  find("status").textContent = `${shown.length} of ${rows.length} cases`;
  find("place").textContent = shown.length ? `${start + 1} to ${end}` : "none";
  find("back").disabled = start === 0;
  find("next").disabled = end >= shown.length;
}
function filter() {
  const lights = new Set([...document.querySelectorAll("input[name=light]:checked")].map((box) => box.value));
  const words = find("find").value.toLowerCase();
  const group = find("group") ? find("group").value : "";
  shown = rows.filter((row) => lights.has(row.light) && (!group || row.group === group)
    && `${row.case} ${row.says}`.toLowerCase().includes(words));
  start = 0;
  update();
}
find("find").addEventListener("input", filter);
for (const box of document.querySelectorAll("input[name=light], #group")) { box.addEventListener("change", filter); }
find("back").addEventListener("click", () => { start -= PAGE; update(); });
find("next").addEventListener("click", () => { start += PAGE; update(); });
find("served").hidden = location.protocol !== "http:";
update();
