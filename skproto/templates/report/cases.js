// The cases with their explanations: filtered, sorted, searched and opened.

const caseView = { list: null, open: null };

function chosenCases() {
  const [right, truth, predicted, sort] = ["c-right", "c-true", "c-predicted", "c-sort"].map((id) => byId(id).value);
  const found = cases.map((_, j) => j)
    .filter((j) => right === "" || verdict(cases[j]) === right)
    .filter((j) => truth === "" || cases[j].y === Number(truth))
    .filter((j) => predicted === "" || cases[j].p === Number(predicted));
  const names = new Intl.Collator("en", { numeric: true });
  if (sort === "index") found.sort((a, b) => names.compare(cases[a].i, cases[b].i));
  if (sort === "sure") found.sort((a, b) => cases[b].c[0][1] - cases[a].c[0][1] || a - b);
  if (sort === "radius") found.sort((a, b) => (cases[b].r ?? Infinity) - (cases[a].r ?? Infinity) || a - b);
  return found;
}

function predictedShare(entry) {
  const found = entry.c.find(([k]) => k === entry.p);
  return found ? found[1] : 0;
}

function caseRow(j) {
  const entry = cases[j];
  const right = entry.y === entry.p;
  const share = predictedShare(entry);
  const result = right ? [className(entry.p)] : [className(entry.p), h("span", { class: "soft" }, `, truly ${classes[entry.y]}`)];
  return h("li", { class: `case ${verdict(entry)}`, "data-item": j, "data-position": "" },
    h("h3", {}, h("button", { type: "button", class: "opener", "aria-expanded": "false", onclick: () => toggleCase(j) },
      mark(entry), entry.t === undefined ? null : thumbnail(entry.t, ""),
      h("span", { class: "name" }, caseTitle(entry), h("span", { class: "hidden" }, `, ${verdict(entry)}:`)),
      h("span", { class: "result" }, result),
      h("span", { class: "sure" }, h("span", { class: "number" }, sure(share)), bar(share, right ? "for" : "against")),
      entry.x ? h("span", { class: "snippet" }, entry.x) : null)));
}

function caseValues(entry) {
  const parts = [];
  if (entry.f) {
    const lead = (entry.d || [])[0] ?? entry.e.map((row) => row[4]).find((k) => k >= 0);
    const columns = [["this case", entry.f]];
    if (lead !== undefined && prototypes.values) columns.push(["first prototype", prototypes.values[lead]]);
    parts.push(featureTable(columns, "Values of this case, the most unusual first"));
  }
  if (entry.w) {
    const words = data.unit === "text";
    parts.push(tellingTable(entry.w, words ? "Its strongest words" : "What it stands out by", words ? "word" : "feature"));
  }
  if (entry.o) {
    parts.push(h("div", { class: "scroll", role: "region", "aria-label": "As it was given", tabindex: "0" }, h("table", { class: "plain" }, h("caption", {}, "As it was given"),
      h("tbody", {}, entry.o.map((value, f) => h("tr", {}, h("th", { scope: "row" }, data.given[f]), h("td", { class: "number" }, value)))))));
  }
  if (!parts.length) return null;
  return h("div", { class: "values" }, parts);
}

const NOTES = { total: "Total", certified: "Certified", margin: "Margin", leaf: "Leaf", others: "Other leaves", caution: "Caution", trees: "Trees", winner: "Winner", "runner-up": "Runner-up", abstains: "Abstains" };

function casePanel(j) {
  const entry = cases[j];
  const right = entry.y === entry.p;
  const said = `${entry.s === classes[entry.p] ? className(entry.p) : entry.s}, with probability ${sure(predictedShare(entry))}`;
  const head = right ? `Predicted ${said}; this is right.` : `Predicted ${said}; the truth is ${className(entry.y)}.`;
  return h("div", { class: "panel", role: "region", "aria-label": caseTitle(entry) },
    h("p", { class: "origin" }, head),
    entry.x ? markedText(entry.x, countingWords(entry)) : null,
    h("div", { class: entry.t === undefined ? "columns wide" : "columns wide pictured" },
      h("div", {}, entry.t === undefined || entry.g ? null : h("div", { class: "whole" }, thumbnail(entry.t, caseTitle(entry))),
        strip(entry.g), classBars(entry),
        h("dl", { class: "facts notes" }, entry.n.map(([tag, text]) => h("div", {}, h("dt", {}, NOTES[tag] || tag), h("dd", {}, text)))),
        entry.k ? h("button", { type: "button", onclick: () => followCase(j) }, "Follow it through the tree") : null,
        caseValues(entry)),
      h("div", {}, entry.b ? reasoningOfCase(entry) : null,
        entry.b ? h("details", {}, h("summary", {}, "In words"), evidence(entry)) : evidence(entry),
        entry.e.some((row) => row[7]) && data.notes.length ? h("p", { class: "soft note" }, `${data.notes.join("; ")}.`) : null)));
}

function closeCase() {
  if (caseView.open === null) return;
  const { element, panel } = caseView.open;
  element.querySelector("button").setAttribute("aria-expanded", "false");
  element.classList.remove("open");
  panel.remove();
  caseView.open = null;
}

function toggleCase(j) {
  const isOpen = caseView.open !== null && caseView.open.j === j;
  closeCase();
  if (isOpen) return;
  const element = caseView.list.find(j);
  const panel = casePanel(j);
  element.append(panel);
  element.classList.add("open");
  element.querySelector("button").setAttribute("aria-expanded", "true");
  caseView.open = { j, element, panel };
}

function showCases() {
  caseView.open = null;
  caseView.list.show(chosenCases(), cases.length);
}

function filterCases(values) {
  for (const id of ["c-right", "c-true", "c-predicted"]) byId(id).value = values[id] ?? "";
  showCases();
}

function openCase(j) {
  if (caseView.list.items.indexOf(j) < 0) filterCases({});
  if (caseView.open === null || caseView.open.j !== j) toggleCase(j);
  const { element } = caseView.open;
  bringTo(element, element.querySelector("button"));
}

function searchCase(event) {
  event.preventDefault();
  const wanted = byId("c-search").value.trim();
  if (wanted === "") return;
  const j = caseByName.get(wanted);
  if (j === undefined) {
    byId("c-status").textContent = `There is no case ${wanted} on this page.`;
    return;
  }
  openCase(j);
}

function startCases() {
  caseView.list = new LongList({
    list: byId("c-list"), more: byId("c-more"), status: byId("c-status"), size: 50, noun: "case", entry: caseRow,
  });
  for (const id of ["c-right", "c-true", "c-predicted", "c-sort"]) byId(id).addEventListener("change", showCases);
  byId("c-tools").addEventListener("submit", searchCase);
  for (const button of document.querySelectorAll("[data-true]")) {
    button.addEventListener("click", () => {
      filterCases({ "c-true": button.dataset.true, "c-predicted": button.dataset.predicted });
      bringTo(byId("cases"), byId("c-list").querySelector("button") || byId("c-right"));
    });
  }
  showCases();
}
