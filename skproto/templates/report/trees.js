// A tree that is walked node by node, and what classes look for in components.

const walk = { tree: 0, path: [0], follows: null };
const tree = () => data.trees[walk.tree];
const here = () => walk.path[walk.path.length - 1];

function go(path, moved = true) {
  walk.path = path;
  showWalk();
  if (moved) byId("t-walk").querySelector("h3").focus();
}

function ownPath() {
  return walk.follows === null ? null : cases[walk.follows].k[walk.tree];
}

function answerOf(node, child) {
  return tree().right[node] === child ? "yes" : "no";
}

function crumbs() {
  const items = walk.path.map((node, step) => {
    const name = step === 0 ? "Start" : `${answerOf(walk.path[step - 1], node)}`;
    const what = tree().prototype[node] < 0 ? "leaf" : prototypes.short[tree().prototype[node]];
    const last = step === walk.path.length - 1;
    return h("li", {}, step ? h("b", {}, `${name} → `) : null, last
      ? h("span", { "aria-current": "step" }, what)
      : h("button", { type: "button", class: "link", onclick: () => go(walk.path.slice(0, step + 1)) }, what));
  });
  return h("nav", { "aria-label": "Path through the tree" }, h("ol", { class: "crumbs" }, items));
}

function spread(values, caption) {
  const order = values.map((_, k) => k).sort((a, b) => values[b] - values[a]).slice(0, 6);
  return h("table", { class: "classes" }, h("caption", {}, caption),
    h("tbody", {}, order.map((k) => h("tr", {}, h("th", { scope: "row" }, classes[k]),
      h("td", { class: "number" }, sure(values[k])), h("td", { class: "track" }, bar(values[k], "for"))))));
}

function question(node) {
  const k = tree().prototype[node];
  const own = ownPath();
  const step = own === null ? -1 : own.indexOf(node);
  const taken = step < 0 ? null : own[step + 1];
  const present = walk.follows === null ? null : cases[walk.follows].l[k] / 1000;
  const choice = (child, word) => h("button", {
    type: "button", class: taken === child ? "answer taken" : "answer", onclick: () => go([...walk.path, child]),
  }, h("b", {}, word), h("span", {}, ` ${percent(tree().mass[child])} of the training data`),
  taken === child ? h("span", { class: "note" }, `case ${cases[walk.follows].i} goes here`) : null);
  const radius = prototypes.radius ? ` (within ${num(prototypes.radius[k])})` : "";
  return [h("h3", { tabindex: "-1" }, `Is it like ${prototypes.short[k]}${radius}?`),
    h("p", { class: "soft" }, origin(k), " ", h("button", { type: "button", class: "link", onclick: () => openPrototype(k) }, "open prototype")),
    prototypes.pictures ? strip(prototypes.pictures[k]) : cardFeatures(k),
    present === null ? null : h("p", { class: "follows" }, `Case ${cases[walk.follows].i}: present with probability ${sure(present)}`, bar(present, "for")),
    h("div", { class: "answers" }, choice(tree().right[node], "Yes"), choice(tree().left[node], "No"))];
}

function leafCases(leaf) {
  const found = cases.map((_, j) => j).filter((j) => cases[j].k[walk.tree].at(-1) === leaf);
  const wrong = found.filter((j) => verdict(cases[j]) === "wrong").length;
  if (!found.length) return h("p", {}, "None of the cases on this page gets here.");
  return [h("p", {}, `${plural(found.length, "case")} on this page end here, ${wrong} of them wrong:`),
    h("ul", { class: "chips" }, found.slice(0, 30).map((j) => h("li", {}, h("button", { type: "button", onclick: () => openCase(j),
      "aria-label": `${caseTitle(cases[j])}, ${verdict(cases[j])}` }, cases[j].i, " ", mark(cases[j])))),
    found.length > 30 ? h("li", { class: "soft" }, `and ${found.length - 30} more`) : null)];
}

function answerLeaf(node) {
  const leaf = tree().leaf[node];
  const values = tree().leaves[leaf];
  const best = values.indexOf(Math.max(...values));
  return [h("h3", { tabindex: "-1" }, `Leaf ${leaf}: ${className(best)}`),
    h("p", { class: "soft" }, `${percent(tree().mass[node])} of the training data reach this leaf.`), leafCases(node)];
}

// The whole tree as a map: a line to the left is no, to the right yes.
function treeMap() {
  const { left, right } = tree();
  const at = [];
  let leaves = 0;
  let deepest = 0;
  const place = (node, depth) => {
    deepest = Math.max(deepest, depth);
    if (left[node] < 0) {
      at[node] = [leaves, depth];
      leaves += 1;
      return;
    }
    place(left[node], depth + 1);
    place(right[node], depth + 1);
    at[node] = [(at[left[node]][0] + at[right[node]][0]) / 2, depth];
  };
  place(0, 0);
  const step = Math.max(12, Math.min(44, 620 / leaves));
  const x = (node) => (at[node][0] + 0.5) * step;
  const y = (node) => 14 + at[node][1] * 34;
  const walked = new Set(walk.path);
  const own = new Set(ownPath() || []);
  const lines = [];
  const nodes = [];
  at.forEach((_, node) => {
    if (left[node] >= 0) {
      for (const child of [left[node], right[node]]) {
        const kind = walked.has(child) && walked.has(node) ? "walked" : own.has(child) ? "own" : "";
        lines.push(s("path", { d: `M${x(node)} ${y(node)}L${x(child)} ${y(child)}`, class: kind }));
      }
    }
    const kind = node === here() ? "here" : walked.has(node) ? "walked" : own.has(node) ? "own" : "";
    nodes.push(left[node] < 0
      ? s("rect", { x: x(node) - 4.5, y: y(node) - 4.5, width: 9, height: 9, class: kind })
      : s("circle", { cx: x(node), cy: y(node), r: node === here() ? 7 : 5, class: kind }));
  });
  const width = Math.max(leaves * step, 60);
  const height = 28 + deepest * 34;
  const words = `Map of the tree: ${plural(leaves, "leaf").replace("leafs", "leaves")}, ${deepest} questions deep at most. You are ${plural(walk.path.length - 1, "answer")} deep.`;
  return h("figure", { class: "map" }, h("div", { class: "scroll", role: "region", "aria-label": "Map of the tree", tabindex: "0" },
    s("svg", { viewBox: `0 0 ${width} ${height}`, width, height, role: "img", "aria-label": words, class: leaves <= 24 ? "small" : null }, lines, nodes)),
  h("figcaption", {}, "No goes left, yes goes right; squares are leaves. ", h("span", { class: "key walked" }, "your path"),
    walk.follows === null ? null : [", ", h("span", { class: "key own" }, `path of case ${cases[walk.follows].i}`)], "."));
}

function showWalk() {
  const node = here();
  const inner = tree().left[node] >= 0;
  byId("t-clear").hidden = walk.follows === null;
  byId("t-walk").replaceChildren(crumbs(), h("div", { class: "columns" },
    h("div", { class: "node" }, inner ? question(node) : answerLeaf(node),
      walk.path.length > 1 ? h("p", {}, h("button", { type: "button", class: "link", onclick: () => go(walk.path.slice(0, -1)) }, "Back one step"),
        " · ", h("button", { type: "button", class: "link", onclick: () => go([0]) }, "Start again")) : null),
    h("div", {}, treeMap(), spread(tree().below[node], inner ? "Classes of the training data that get here" : "What this leaf says"))));
}

function followCase(j) {
  walk.follows = j;
  byId("t-case").value = cases[j].i;
  byId("t-status").textContent = `Following case ${cases[j].i}.`;
  go([0]);
  byId("tree").scrollIntoView({ block: "start" });
}

function startTree() {
  if (!data.trees.length) return;
  const which = byId("t-which");
  which.append(...data.trees.map((_, t) => h("option", { value: t }, String(t))));
  byId("t-which-label").hidden = data.trees.length === 1;
  which.addEventListener("change", () => { walk.tree = Number(which.value); go([0], false); });
  byId("t-tools").addEventListener("submit", (event) => {
    event.preventDefault();
    const wanted = byId("t-case").value.trim();
    const j = caseByName.get(wanted);
    if (j === undefined) byId("t-status").textContent = `There is no case ${wanted} on this page.`;
    else followCase(j);
  });
  byId("t-clear").addEventListener("click", () => {
    walk.follows = null;
    byId("t-case").value = "";
    byId("t-status").textContent = "";
    go([0]);
  });
  showWalk();
}

// Reasoning

const reasoning = { sort: 3 };

function showReasoning() {
  const c = Number(byId("r-class").value);
  const { presence, absence } = data.reasoning;
  const rows = presence.map((row, k) => [k, row[c], absence[k][c], row[c] + absence[k][c]])
    .filter((row) => row[3] >= 0.0005).sort((a, b) => b[reasoning.sort] - a[reasoning.sort] || a[0] - b[0]);
  const largest = Math.max(...rows.map((row) => Math.max(row[1], row[2])), 0) || 1;
  const head = (title, column) => h("th", { scope: "col", class: "number", "aria-sort": reasoning.sort === column ? "descending" : "none" },
    h("button", { type: "button", class: "sort", "data-column": column, onclick: () => {
      reasoning.sort = column;
      showReasoning();
      byId("r-table").querySelector(`[data-column="${column}"]`).focus();
    } }, title, h("span", { "aria-hidden": "true" }, reasoning.sort === column ? " ↓" : "")));
  const cell = (value, kind) => h("td", { class: "number" }, value >= 0.0005 ? [num(value, 2), bar(value / largest, kind)] : h("span", { class: "soft" }, "–"));
  byId("r-table").replaceChildren(h("div", { class: "scroll", role: "region", "aria-label": "Table of reasoning", tabindex: "0" },
    h("table", { class: "plain reasoning" }, h("caption", {}, `What ${className(c)} looks for; a heading sorts the components`),
      h("thead", {}, h("tr", {}, h("th", { scope: "col" }, "component"), h("th", { scope: "col" }, "its class"),
        head("if present", 1), head("if absent", 2), head("in all", 3))),
      h("tbody", {}, rows.map(([k, present, absent, all]) => h("tr", {},
        h("th", { scope: "row" }, prototypes.tile ? strip(prototypes.tile[k], false) : null,
          h("button", { type: "button", class: "link", onclick: () => openPrototype(k) }, prototypes.short[k])),
        h("td", {}, labelOf(k)), cell(present, "for"), cell(absent, "absent"), h("td", { class: "number" }, num(all, 2))))))));
}

function startReasoning() {
  if (data.reasoning === null) return;
  byId("r-tools").addEventListener("submit", (event) => event.preventDefault());
  byId("r-class").addEventListener("change", showReasoning);
  showReasoning();
}
