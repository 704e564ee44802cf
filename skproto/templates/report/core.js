// Data, elements, numbers and pictures. Text from the data becomes text nodes only.

const data = JSON.parse(document.getElementById("data").textContent);
const prototypes = data.prototypes;
const cases = data.cases;
const classes = data.classes;
const nPrototypes = prototypes.id.length;
const caseByName = new Map(cases.map((entry, j) => [entry.i, j]));
const SVG = "http://www.w3.org/2000/svg";
const PART_COLOURS = ["#56B4E9", "#E69F00", "#009E73", "#F0E442", "#CC79A7", "#D55E00"];
const ONLY_PART = "#F0E442";

const byId = (id) => document.getElementById(id);

function fill(element, attributes, children) {
  for (const [name, value] of Object.entries(attributes || {})) {
    if (value === null || value === undefined || value === false) continue;
    if (name === "style") {
      for (const [key, entry] of Object.entries(value)) element.style.setProperty(key, entry);
    } else if (name.startsWith("on")) {
      element.addEventListener(name.slice(2), value);
    } else {
      element.setAttribute(name, value === true ? "" : value);
    }
  }
  const shown = children.flat(Infinity);
  element.append(...shown.filter((child) => child !== null && child !== undefined && child !== false));
  return element;
}

const h = (tag, attributes, ...children) => fill(document.createElement(tag), attributes, children);
const s = (tag, attributes, ...children) => fill(document.createElementNS(SVG, tag), attributes, children);

// As the package words numbers: three significant digits, no exponent where readable.
function num(value, digits = 3) {
  if (value === null || value === undefined) return "unknown";
  if (Number.isInteger(value) && Math.abs(value) < 1e6) return String(value);
  const power = Math.floor(Math.log10(Math.abs(value)));
  if (power >= -4 && power < 6) return value.toFixed(Math.max(0, digits - 1 - power));
  return value.toExponential(digits - 1);
}

function sure(value) {
  if (value >= 0.995 && value < 1) return ">0.99";
  if (value > 0 && value < 0.005) return "<0.01";
  return value.toFixed(2);
}

function percent(value) {
  return value > 0 && value < 0.005 ? "<1%" : `${Math.round(100 * value)}%`;
}

// A class that is called by a number is named as a class.
const className = (k) => (/^-?[\d.]+$/.test(classes[k]) ? `class ${classes[k]}` : classes[k]);
const plural = (count, word) => `${count} ${word}${count === 1 ? "" : "s"}`;

function bar(share, kind) {
  const width = `${Math.max(0, Math.min(100, 100 * share)).toFixed(1)}%`;
  return h("span", { class: `bar ${kind}`, style: { width }, "aria-hidden": "true" });
}

// Pictures

function pictureUri(number) {
  const [kind, content] = data.pictures[number][0].split(",");
  return `data:image/${kind};base64,${content}`;
}

function thumbnail(number, alt) {
  const [, width, height] = data.pictures[number];
  return h("img", {
    src: pictureUri(number), alt, width, height,
    class: Math.max(width, height) < 100 ? "thumb coarse" : "thumb",
  });
}

function shade([rows, columns, content]) {
  const canvas = h("canvas", { width: columns, height: rows, "aria-hidden": "true" });
  const context = canvas.getContext("2d");
  const image = context.createImageData(columns, rows);
  const opacity = atob(content);
  for (let i = 0; i < opacity.length; i += 1) {
    image.data.set([213, 94, 0, opacity.charCodeAt(i)], 4 * i);
  }
  context.putImageData(image, 0, 0);
  return canvas;
}

const partColour = (part) => (part ? PART_COLOURS[(part - 1) % PART_COLOURS.length] : ONLY_PART);

function markShapes([top, left, bottom, right, part, effective, x, y, small], side) {
  const size = { x: left, y: top, width: right - left, height: bottom - top };
  const stroke = effective ? "white" : partColour(part);
  const shapes = [
    s("rect", { ...size, class: "halo" }),
    s("rect", { ...size, stroke, "stroke-dasharray": effective ? "4 3" : null }),
  ];
  if (part && small) {
    const path = `M${x} ${y}L${(left + right) / 2} ${(top + bottom) / 2}`;
    shapes.push(s("path", { d: path, class: "halo" }), s("path", { d: path, stroke: "white" }));
  }
  if (part) {
    const font = { "font-size": 0.13 * side, "stroke-width": 0.03 * side };
    shapes.push(s("text", { x, y: y + 0.045 * side, ...font }, String(part)));
  }
  return shapes;
}

function frame([number, , alt, marks, overlay, part]) {
  const [, width, height] = data.pictures[number];
  const style = { "aspect-ratio": `${width} / ${height}` };
  if (part) style.border = `3px solid ${partColour(part)}`;
  const coarse = Math.max(width, height) < 100 ? "coarse" : null;
  return h("span", { class: "picture", style },
    h("img", { src: pictureUri(number), alt, class: coarse }),
    overlay ? shade(overlay) : null,
    marks.length ? s("svg", { viewBox: `0 0 ${width} ${height}`, "aria-hidden": "true" },
      marks.map((mark) => markShapes(mark, Math.max(width, height)))) : null);
}

function strip(references, captions = true) {
  if (!references || !references.length) return null;
  return h("div", { class: "pictures" }, references.map((reference) => h("figure", {
    class: reference[5] ? "part" : null,
  }, frame(reference), captions || reference[5]
    ? h("figcaption", {}, reference[5] ? `part ${reference[5]}` : reference[1]) : null)));
}

// Words

const verdict = (entry) => (entry.y === entry.p ? "right" : "wrong");

function mark(entry) {
  const right = entry.y === entry.p;
  return h("span", { class: `mark ${verdict(entry)}`, "aria-hidden": "true" }, right ? "✓" : "✗");
}

const caseTitle = (entry) => `${data.unit === "row" ? "Case" : data.unit === "image" ? "Image" : "Text"} ${entry.i}`;

function facts(pairs) {
  const known = pairs.filter(([, value]) => value !== null && value !== undefined && value !== "");
  return h("dl", { class: "facts" }, known.map(([name, value]) => h("div", {}, h("dt", {}, name), h("dd", {}, value))));
}

// A list of which some entries are shown, and more at the press of a button.
class LongList {
  constructor({ list, more, status, size, noun, entry }) {
    Object.assign(this, { list, more, status, size, noun, entry });
    this.items = [];
    this.shown = 0;
    more.addEventListener("click", () => {
      const first = this.shown;
      this.reveal(this.shown + this.size);
      const next = this.list.querySelectorAll("[data-position]")[first];
      if (next) next.querySelector("button").focus();
    });
  }

  show(items, total) {
    this.items = items;
    this.shown = 0;
    this.list.replaceChildren();
    this.reveal(this.size);
    this.status.textContent = items.length === total
      ? plural(total, this.noun) : `${items.length} of ${plural(total, this.noun)}`;
  }

  reveal(limit) {
    const stop = Math.min(Math.max(limit, this.shown), this.items.length);
    const added = this.items.slice(this.shown, stop).map((item) => this.entry(item));
    this.list.append(...added);
    this.shown = stop;
    const rest = this.items.length - stop;
    this.more.hidden = rest === 0;
    this.more.textContent = `Show ${Math.min(rest, this.size)} more of ${rest}`;
  }

  // Return the element of an item, shown if it is in the list at all.
  find(item) {
    const position = this.items.indexOf(item);
    if (position < 0) return null;
    if (position >= this.shown) this.reveal(Math.ceil((position + 1) / this.size) * this.size);
    return this.list.querySelector(`[data-item="${item}"]`);
  }
}

function bringTo(element, button) {
  element.scrollIntoView({ block: "start" });
  button.focus({ preventScroll: true });
}
