// The prototypes: cards or a table, sorted and filtered, each opening to its source.

const COLUMNS = [
  ["number", "Prototype", (k) => k, false],
  ["class", "Class", (k) => prototypes.label[k], false],
  ["wins", "Wins in training", (k) => prototypes.wins && prototypes.wins[k], true],
  ["won", "Wins here", (k) => prototypes.won[k], true],
  ["mean", "Mean activation", (k) => prototypes.mean[k], true],
  ["purity", "Purity", (k) => prototypes.purity[k], true],
  ["radius", "Radius", (k) => prototypes.radius && prototypes.radius[k], true],
  ["weight", "Weight", (k) => prototypes.weight && prototypes.weight[k], true],
  ["distance", "Distance to source", (k) => prototypes.distance[k], true],
].filter(([, , value]) => nPrototypes && value(0) !== undefined && value(0) !== null);

const gallery = { sort: "number", reverse: false, table: false, open: null, list: null };
const labelOf = (k) => (prototypes.label[k] < 0 ? "no class" : className(prototypes.label[k]));
const isDead = (k) => (prototypes.wins ? prototypes.wins[k] === 0 : true) && prototypes.won[k] === 0;

function sortedPrototypes() {
  const wanted = byId("p-class").value;
  const use = byId("p-use").value;
  const [, , value, largestFirst] = COLUMNS.find(([name]) => name === gallery.sort);
  const sign = (largestFirst ? -1 : 1) * (gallery.reverse ? -1 : 1);
  return prototypes.id.map((_, k) => k)
    .filter((k) => wanted === "" || prototypes.label[k] === Number(wanted))
    .filter((k) => use === "" || isDead(k) === (use === "dead"))
    .sort((a, b) => sign * ((value(a) ?? -Infinity) - (value(b) ?? -Infinity)) || a - b);
}

function purityText(k) {
  return prototypes.purity[k] === null ? "" : `purity ${percent(prototypes.purity[k])}`;
}

function cardFeatures(k) {
  if (!prototypes.telling || prototypes.tile) return null;
  const few = prototypes.telling[k].slice(0, 3);
  return h("ul", { class: "telling" }, few.map(([f, value]) => h("li", {},
    h("span", {}, data.features.name[f]), h("span", { class: "number" }, num(value)),
    prototypes.values ? deviationBar(deviation(f, value)) : null)));
}

function card(k) {
  const button = h("button", { type: "button", "aria-expanded": "false", class: "opener", onclick: () => togglePrototype(k) },
    prototypes.short[k]);
  const wins = prototypes.wins ? `wins ${num(prototypes.wins[k])}` : `wins ${prototypes.won[k]} here`;
  return h("article", { class: isDead(k) ? "card dead" : "card", "data-item": k, "data-position": "" },
    prototypes.tile ? strip(prototypes.tile[k], false) : null,
    prototypes.text && prototypes.text[k] ? h("p", { class: "snippet" }, prototypes.text[k]) : null,
    h("h3", {}, button), h("p", { class: "chip" }, labelOf(k)), cardFeatures(k),
    h("p", { class: "soft" }, [wins, purityText(k)].filter(Boolean).join(" · ")));
}

function tableRow(k) {
  const cells = COLUMNS.slice(1).map(([name, , value]) => h("td", { class: name === "class" ? null : "number" },
    name === "class" ? labelOf(k) : name === "purity" ? percent(value(k)) : num(value(k))));
  return h("tr", { "data-item": k, "data-position": "" },
    h("th", { scope: "row" }, h("button", { type: "button", class: "link", "aria-expanded": "false", onclick: () => togglePrototype(k) }, prototypes.short[k])), cells);
}

function headCell([name, title]) {
  const active = gallery.sort === name;
  const falling = COLUMNS.find(([other]) => other === name)[3] !== gallery.reverse;
  const order = falling ? "descending" : "ascending";
  const arrow = active ? (falling ? " ↓" : " ↑") : "";
  return h("th", { scope: "col", class: name === "number" || name === "class" ? null : "number", "aria-sort": active ? order : "none" },
    h("button", { type: "button", class: "sort", "data-sort": name, onclick: () => sortBy(name, active && !gallery.reverse, true) },
      title, h("span", { "aria-hidden": "true" }, arrow)));
}

function sortBy(name, reverse, fromHead) {
  gallery.sort = name;
  gallery.reverse = reverse;
  showPrototypes();
  if (fromHead) byId("p-list").querySelector(`[data-sort="${name}"]`).focus();
}

function showPrototypes() {
  gallery.open = null;
  byId("p-sort").value = gallery.sort;
  byId("p-direction").setAttribute("aria-pressed", String(gallery.reverse));
  byId("p-cards").setAttribute("aria-pressed", String(!gallery.table));
  byId("p-table").setAttribute("aria-pressed", String(gallery.table));
  const list = gallery.table ? h("tbody") : h("div", { class: prototypes.tile ? "cards pictured" : "cards" });
  gallery.list.list = list;
  gallery.list.entry = gallery.table ? tableRow : card;
  byId("p-list").replaceChildren(gallery.table
    ? h("div", { class: "scroll", role: "region", "aria-label": "Table of prototypes", tabindex: "0" },
      h("table", { class: "plain sortable" }, h("caption", {}, "Prototypes; a heading sorts them"),
        h("thead", {}, h("tr", {}, COLUMNS.map(headCell))), list))
    : list);
  gallery.list.show(sortedPrototypes(), nPrototypes);
}

// Details

function origin(k) {
  if (prototypes.place) return prototypes.place[k];
  const row = prototypes.row[k];
  const source = prototypes.source ? ` of class ${prototypes.source[k]}` : "";
  if (prototypes.case[k]) return `It is training ${data.unit} ${row}${source} itself.`;
  if (row < 0) return "It was learned.";
  return `It was learned; the nearest training ${data.unit} is ${row}${source}, at distance ${num(prototypes.distance[k])}.`;
}

function weightsText(k) {
  if (!prototypes.weights || classes.length > 8) return null;
  return classes.map((name, c) => `${name} ${num(prototypes.weights[k][c])}`).join(", ");
}

function nearestCases(k) {
  const [rows, similarities] = prototypes.near[k];
  const unit = data.unit;
  return [h("h5", {}, `The ${unit === "row" ? "cases" : `${unit}s`} nearest to it`),
    h("ol", { class: "near" }, rows.map((j, i) => {
      const entry = cases[j];
      const words = `${className(entry.y)}, ${verdict(entry)}`;
      return h("li", {}, h("button", { type: "button", onclick: () => openCase(j), "aria-label": `${caseTitle(entry)}: ${words}; activation ${num(similarities[i], 2)}` },
        entry.t === undefined ? null : thumbnail(entry.t, ""),
        h("span", {}, h("b", {}, entry.i), " ", className(entry.y), " ", mark(entry)),
        entry.x ? h("span", { class: "snippet" }, entry.x) : null,
        h("span", { class: "soft" }, num(similarities[i], 2))));
    }))];
}

function prototypeValues(k) {
  if (prototypes.values) {
    const columns = [["prototype", prototypes.values[k]]];
    if (prototypes.samples && !prototypes.case[k]) columns.push([`row ${prototypes.row[k]}`, prototypes.samples[k]]);
    return featureTable(columns, "Values, the most unusual first");
  }
  if (!prototypes.telling) return null;
  const words = data.unit === "text";
  return tellingTable(prototypes.telling[k], words ? "Its strongest words" : "What it stands out by", words ? "word" : "feature");
}

function prototypePanel(k) {
  const text = prototypes.text && prototypes.text[k];
  const words = strongWords(prototypes.telling && prototypes.telling[k]);
  const values = prototypeValues(k);
  return h("div", { class: "panel", role: "region", "aria-label": `Prototype ${prototypes.short[k]}` },
    h("p", { class: "origin" }, origin(k)),
    prototypes.pictures ? strip(prototypes.pictures[k]) : null,
    text ? markedText(text, data.unit === "text" ? words : new Set()) : null,
    h("div", { class: "columns" },
      h("div", {}, facts([
        ["Class", labelOf(k)], ["Id", String(prototypes.id[k])],
        ["Wins in training", prototypes.wins && num(prototypes.wins[k])], ["Wins here", String(prototypes.won[k])],
        ["Purity", `${percent(prototypes.purity[k])} of the nearest cases have its class`],
        ["Activation", `mean ${num(prototypes.mean[k], 2)}, nearest case ${num(prototypes.best[k], 2)}`],
        ["Radius", prototypes.radius && `${num(prototypes.radius[k])}: the distance at which a case is half like it`],
        ["Weights", weightsText(k)],
        ["Editing", prototypes.locked && prototypes.locked[k] ? "locked" : null],
      ]), values === null ? null : nearestCases(k)),
      h("div", {}, values === null ? nearestCases(k) : values)));
}

function closePrototype() {
  if (gallery.open === null) return;
  const { element, panel } = gallery.open;
  element.querySelector("button").setAttribute("aria-expanded", "false");
  element.classList.remove("open");
  panel.remove();
  gallery.open = null;
}

function togglePrototype(k) {
  const isOpen = gallery.open !== null && gallery.open.k === k;
  closePrototype();
  if (isOpen) return;
  const element = gallery.list.find(k);
  let panel = prototypePanel(k);
  if (gallery.table) panel = h("tr", { class: "detail" }, h("td", { colspan: COLUMNS.length }, panel));
  element.after(panel);
  element.classList.add("open");
  element.querySelector("button").setAttribute("aria-expanded", "true");
  gallery.open = { k, element, panel };
}

function openPrototype(k) {
  if (gallery.list.items.indexOf(k) < 0) {
    byId("p-class").value = "";
    byId("p-use").value = "";
    showPrototypes();
  }
  if (gallery.open === null || gallery.open.k !== k) togglePrototype(k);
  const { element } = gallery.open;
  bringTo(element, element.querySelector("button"));
}

function startGallery() {
  byId("p-sort").append(...COLUMNS.map(([name, title]) => h("option", { value: name }, title.toLowerCase())));
  gallery.sort = prototypes.wins ? "wins" : "won";
  gallery.list = new LongList({
    list: h("div"), more: byId("p-more"), status: byId("p-status"), size: 48, noun: "prototype", entry: card,
  });
  byId("p-tools").addEventListener("submit", (event) => event.preventDefault());
  byId("p-class").addEventListener("change", showPrototypes);
  byId("p-use").addEventListener("change", showPrototypes);
  byId("p-sort").addEventListener("change", (event) => sortBy(event.target.value, false));
  byId("p-direction").addEventListener("click", () => sortBy(gallery.sort, !gallery.reverse));
  byId("p-cards").addEventListener("click", () => { gallery.table = false; showPrototypes(); });
  byId("p-table").addEventListener("click", () => { gallery.table = true; showPrototypes(); });
  if (nPrototypes) showPrototypes();
  else byId("p-status").textContent = "The model has no prototypes left.";
}
