"use strict";
// The cards behind the tables' cells, and the filters of the claims. Texts only ever become text nodes.

const dialog = document.querySelector("dialog");

function node(namespace, tag, attributes, children) {
  const made = document.createElementNS(namespace, tag);
  for (const [name, value] of Object.entries(attributes)) made.setAttribute(name, value);
  made.append(...children.filter((child) => child !== null));
  return made;
}
const html = (tag, attributes, ...children) => node("http://www.w3.org/1999/xhtml", tag, attributes, children);
const svg = (tag, attributes, ...children) => node("http://www.w3.org/2000/svg", tag, attributes, children);

// ---- card ----

function showCard(card) {
  const close = html("button", { type: "button", class: "close", "aria-label": "Close" }, "✕");
  close.addEventListener("click", () => dialog.close());
  document.querySelector("#card").replaceChildren(
    html("header", {}, html("h2", { id: "card-title" }, card.title), close),
    html("p", {}, card.verdict && html("span", { class: "verdict", "data-verdict": card.verdict }, card.verdict),
      " ", card.sentence ?? ""),
    ...reminder(),
    html("div", { class: "strip" }),
    html("h3", {}, "Seeds"),
    html("ol", { class: "seeds" }, ...card.seeds.map((seed) => seedItem(seed, decimals(card)))),
  );
  dialog.showModal();
  dialog.scrollTop = 0;
  const draw = () => document.querySelector("#card .strip").replaceChildren(...strip(card));
  draw();
  window.onresize = draw;
}

function reminder() {
  const headline = document.querySelector("nav .reminder");
  return headline ? [html("p", { class: "banner" }, `${headline.textContent}: this judges the pipeline, not the paper.`)] : [];
}

function seedItem(seed, digits) {
  const result = seed.value === null
    ? html("span", { class: "failed" }, `failed: ${seed.failed}`)
    : html("b", {}, seed.value.toFixed(digits));
  const command = html("code", {}, seed.command);
  const copy = html("button", { type: "button", class: "copy" }, "Copy");
  copy.addEventListener("click", async () => {
    try {
      await navigator.clipboard.writeText(seed.command);
      copy.textContent = "Copied";
    } catch {
      getSelection().selectAllChildren(command);
      copy.textContent = "Press Ctrl+C";
    }
  });
  const manifest = Object.entries(seed.manifest).map(([name, value]) =>
    html("div", {}, html("dt", {}, name), html("dd", {}, typeof value === "string" ? value : JSON.stringify(value))));
  return html("li", {},
    html("p", {}, `seed ${seed.seed}: `, result),
    html("div", { class: "command" }, html("pre", { tabindex: "0" }, command), copy),
    html("p", { class: "source" }, "Run ", html("code", {}, seed.run), " · MLflow", ...mlflow(seed)),
    html("details", {}, html("summary", {}, "Manifest"), html("dl", {}, ...manifest)));
}

function mlflow(seed) {
  if (!seed.mlflow_page?.startsWith("http")) return [": ", seed.mlflow];
  const link = html("a", { href: seed.mlflow_page, target: "_blank", rel: "noopener" }, seed.mlflow);
  return [new URL(seed.mlflow_page).hostname === "127.0.0.1" ? " (after make ui): " : ": ", link];
}

// ---- strip: the seeds, our interval and the paper's spread on one axis ----

function numbers(card) {
  const spread = card.paper?.std ?? 0;
  const paper = card.paper ? [card.paper.mean - spread, card.paper.mean + spread] : [];
  return [...card.seeds.map((seed) => seed.value), card.mean, card.low, card.high, ...paper].filter(Number.isFinite);
}

function decimals(card) {
  const all = numbers(card);
  const span = Math.max(...all) - Math.min(...all) || Math.max(...all.map(Math.abs)) || 1;
  return Math.min(Math.max(3 - Math.floor(Math.log10(span)), 0), 9);
}

function strip(card) {
  const all = numbers(card);
  if (!all.length) return [];
  const width = document.querySelector("#card .strip").clientWidth;
  const digits = decimals(card);
  const text = (value) => value.toFixed(digits).replace("-", "−");
  const margin = 0.06 * (Math.max(...all) - Math.min(...all)) || Math.abs(all[0]) / 10 || 1;
  const [low, high] = [Math.min(...all) - margin, Math.max(...all) + margin];
  const x = (value) => 8 + ((value - low) / (high - low)) * (width - 16);

  const parts = [];
  const labels = [];
  let y = 0;
  const label = (content) => {
    y += 18;
    labels.push(content);
    parts.push(svg("text", { x: 0, y }, content));
  };

  const finished = card.seeds.filter((seed) => seed.value !== null).sort((a, b) => a.value - b.value);
  const failed = card.seeds.length - finished.length;
  label(`Seeds: ${finished.length} finished${failed ? `, ${failed} failed` : ""}`);
  const dots = stack(finished.map((seed) => x(seed.value)), 11);
  y += 14 + 11 * Math.max(0, ...dots.map(([, level]) => level));
  dots.forEach(([position, level], i) => parts.push(
    svg("circle", { class: "seed", cx: position, cy: y - 11 * level, r: 5 },
      svg("title", {}, `seed ${finished[i].seed}: ${text(finished[i].value)}`))));
  y += 14;

  if (Number.isFinite(card.mean)) {
    const interval = Number.isFinite(card.low);
    label(`Mean ${text(card.mean)}, ` + (interval ? `95 % t interval [${text(card.low)}, ${text(card.high)}]` : "below three seeds: no interval"));
    y += 15;
    if (interval) {
      const [left, right] = [x(card.low), x(card.high)];
      parts.push(svg("path", { class: "ours", d: `M${left} ${y - 6}v12M${left} ${y}H${right}M${right} ${y - 6}v12` }));
    }
    parts.push(svg("circle", { class: "mean", cx: x(card.mean), cy: y, r: 4.5 }));
    y += 14;
  }

  if (card.paper) {
    const { mean, std, seeds } = card.paper;
    label(`Paper ${text(mean)}` + (std === null ? "" : ` ± ${text(std)}`) + (seeds === null ? "" : `, ${seeds} seeds`));
    y += 15;
    const [left, right] = [x(mean - (std ?? 0)), x(mean + (std ?? 0))];
    parts.push(
      svg("rect", { class: "theirs", x: left, y: y - 6, width: right - left, height: 12 }),
      svg("path", { class: "their-mean", d: `M${x(mean)} ${y - 7}l5 7l-5 7l-5 -7z` }));
    y += 14;
  }

  y += 6;
  parts.push(svg("path", { class: "axis", d: `M0 ${y}H${width}` }));
  const marks = ticks(low, high, Math.max(3, Math.floor(width / 80)));
  for (const mark of marks.values) {
    parts.unshift(svg("path", { class: "grid", d: `M${x(mark)} 0V${y}` }));
    parts.push(
      svg("path", { class: "axis", d: `M${x(mark)} ${y}v4` }),
      svg("text", { class: "tick", x: x(mark), y: y + 17 }, mark.toFixed(marks.decimals).replace("-", "−")));
  }
  y += 35;
  parts.push(svg("text", { x: width, y, "text-anchor": "end", class: "tick unit" }, card.unit));
  return [svg("svg", { width, height: y + 5, role: "img", "aria-label": labels.join(". ") }, ...parts)];
}

// [position, level] of dots on a line, sorted: a dot that would cover another goes one level up.
function stack(positions, diameter) {
  const ends = [];
  return positions.map((position) => {
    let level = ends.findIndex((end) => position - end >= diameter);
    if (level < 0) level = ends.length;
    ends[level] = position;
    return [position, level];
  });
}

function ticks(low, high, count) {
  const raw = (high - low) / count;
  const power = 10 ** Math.floor(Math.log10(raw));
  const step = power * [1, 2, 5, 10].find((factor) => factor * power >= raw);
  const first = Math.ceil(low / step);
  const values = Array.from({ length: Math.floor(high / step) - first + 1 }, (_, i) => (first + i) * step);
  return { values, decimals: Math.max(0, -Math.floor(Math.log10(step) + 1e-9)) };
}

for (const cell of document.querySelectorAll("[data-card]")) {
  cell.addEventListener("click", () => showCard(JSON.parse(cell.dataset.card)));
}
dialog.addEventListener("click", (event) => event.target === dialog && dialog.close()); // outside the card
dialog.addEventListener("close", () => (window.onresize = null));

// ---- claims ----

function filterClaims(filters) {
  const verdict = filters.querySelector(":checked[name=verdict]").value;
  const kind = filters.querySelector("[name=kind]").value;
  const words = filters.querySelector("[name=text]").value.toLowerCase().split(/\s+/);
  const rows = [...document.querySelectorAll("#claims-table tbody tr")];
  for (const row of rows) {
    const text = row.textContent.toLowerCase();
    row.hidden = !(
      (!verdict || row.dataset.verdict === verdict) &&
      (!kind || row.dataset.kind === kind) &&
      words.every((word) => text.includes(word)));
  }
  filters.querySelector("output").value = `${rows.filter((row) => !row.hidden).length} of ${rows.length} claims`;
}

const filters = document.querySelector(".filters");
filters?.addEventListener("input", () => filterClaims(filters));
if (filters) filterClaims(filters); // a reloaded page keeps its fields
