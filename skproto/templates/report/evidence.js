// Evidence for one case, features of a case or a prototype, texts with their words.

function comparison(compared) {
  if (!compared || !compared.length) return null;
  const [heading, rows] = compared;
  return h("table", { class: "compared" },
    h("thead", {}, h("tr", {}, h("th", { scope: "col" }, heading),
      h("th", { scope: "col", class: "number" }, "this case"), h("th", { scope: "col", class: "number" }, "prototype"))),
    h("tbody", {}, rows.map(([name, own, other]) => h("tr", {}, h("td", {}, name),
      h("td", { class: "number" }, own), h("td", { class: "number" }, other)))));
}

function evidenceRow(row, largest, isStep) {
  const [group, words, value, shown, prototype, note, compared, pictures] = row;
  const against = group === "for" || group === "winner" ? false : group === "against" || group === "runner-up" || value < 0;
  const kind = isStep || !against ? "for" : "against";
  const open = prototype < 0 ? null : h("button", {
    type: "button", class: "link", onclick: () => openPrototype(prototype),
    "aria-label": `Open prototype ${prototype + 1}: ${prototypes.short[prototype]}`,
  }, "open prototype");
  return h("li", {},
    h("div", { class: "said" }, isStep ? h("b", { class: "step" }, `${group}.`) : null, words, " ", open),
    h("div", { class: "amount" }, h("span", { class: "value" }, shown), bar(Math.abs(value) / largest, kind)),
    note ? h("p", { class: "soft note" }, note) : null,
    strip(pictures), comparison(compared));
}

const GROUPS = { for: "Speaks for it", against: "Speaks against it" };

function evidence(entry) {
  const groups = [];
  for (const row of entry.e) {
    const step = /^\d+$/.test(row[0]);
    const name = step ? "The path through the tree" : GROUPS[row[0]] || row[0];
    if (!groups.length || groups[groups.length - 1].name !== name) groups.push({ name, step, rows: [] });
    groups[groups.length - 1].rows.push(row);
  }
  const largest = Math.max(...entry.e.map((row) => Math.abs(row[2])), 0) || 1;
  return h("div", { class: "groups" }, groups.map(({ name, step, rows }) => h("div", {}, h("h5", {}, name),
    h(step ? "ol" : "ul", { class: "evidence" }, rows.map((row) => evidenceRow(row, step ? 1 : largest, step))))));
}

function classBars(entry) {
  return h("table", { class: "classes" }, h("caption", {}, "Probability of the classes"),
    h("tbody", {}, entry.c.map(([k, value]) => h("tr", { class: k === entry.p ? "chosen" : null },
      h("th", { scope: "row" }, classes[k], k === entry.y ? h("span", { class: "soft" }, " (true)") : null),
      h("td", { class: "number" }, sure(value)),
      h("td", { class: "track" }, bar(value, k === entry.p ? "for" : "other"))))));
}

// Values of a row: deviation from what is ordinary, in units of the scale.
function deviation(f, value) {
  const { center, scale } = data.features;
  return center && value !== null ? (value - center[f]) / scale[f] : 0;
}

function deviationBar(z) {
  const width = `${Math.min(50, 50 * Math.abs(z) / 3).toFixed(1)}%`;
  const style = z < 0 ? { width, right: "50%" } : { width, left: "50%" };
  return h("span", { class: "deviation", "aria-hidden": "true" }, h("i", { class: z < 0 ? "low" : "high", style }));
}

const FEW = 8;

// A table of features: [title, values] for each column, the first decides the order.
function featureTable(columns, caption) {
  const names = data.features.name;
  const lead = columns[0][1];
  const order = names.map((_, f) => f).sort((a, b) => Math.abs(deviation(b, lead[b])) - Math.abs(deviation(a, lead[a])));
  const usual = data.features.center ? [["ordinary", data.features.center]] : [];
  const body = h("tbody");
  const row = (f) => h("tr", {}, h("th", { scope: "row" }, names[f]),
    [...columns, ...usual].map(([, values]) => h("td", { class: "number" }, num(values[f]))),
    data.features.center ? h("td", { class: "track" }, deviationBar(deviation(f, lead[f]))) : null);
  body.append(...order.slice(0, FEW).map(row));
  const rest = order.slice(FEW);
  const more = rest.length ? h("button", { type: "button", class: "link", onclick: (event) => {
    body.append(...rest.map(row));
    event.target.remove();
  } }, `Show all ${names.length} features`) : null;
  return h("div", { class: "scroll", role: "region", "aria-label": caption, tabindex: "0" },
    h("table", { class: "plain" }, h("caption", {}, caption),
      h("thead", {}, h("tr", {}, h("th", { scope: "col" }, "feature"),
        [...columns, ...usual].map(([title]) => h("th", { scope: "col", class: "number" }, title)),
        data.features.center ? h("th", { scope: "col" }, h("span", { class: "soft" }, "low · high")) : null)),
      body), more);
}

function tellingTable(pairs, caption, title) {
  if (!pairs || !pairs.length) return null;
  const largest = Math.max(...pairs.map(([, value]) => Math.abs(value))) || 1;
  return h("div", { class: "scroll", role: "region", "aria-label": caption, tabindex: "0" }, h("table", { class: "plain" }, h("caption", {}, caption),
    h("thead", {}, h("tr", {}, h("th", { scope: "col" }, title), h("th", { scope: "col", class: "number" }, "value"), h("td"))),
    h("tbody", {}, pairs.map(([f, value]) => h("tr", {}, h("th", { scope: "row" }, data.features.name[f]),
      h("td", { class: "number" }, num(value)), h("td", { class: "track" }, bar(Math.abs(value) / largest, "other")))))));
}

// Text with the words marked that count: those shared with prototypes that speak for it.
function countingWords(entry) {
  const words = new Set();
  for (const row of entry.e) {
    if (row[6].length && row[6][0] === "shared words") row[6][1].forEach(([word]) => words.add(word));
  }
  return words;
}

// The words of a text that carry most of its weight.
function strongWords(pairs) {
  const strongest = pairs && pairs.length ? Math.abs(pairs[0][1]) : 0;
  return new Set((pairs || []).filter(([, value]) => Math.abs(value) >= 0.4 * strongest).map(([f]) => data.features.name[f]));
}

function markedText(text, words) {
  const known = [...words].filter(Boolean).sort((a, b) => b.length - a.length);
  const element = h("blockquote", { class: "text" });
  if (!known.length) {
    element.append(text);
    return element;
  }
  const escaped = known.map((word) => word.replace(/[.*+?^${}()|[\]\\]/g, "\\$&").replace(/ /g, "\\s+"));
  const pattern = new RegExp(`(?<![\\p{L}\\p{N}])(${escaped.join("|")})(?![\\p{L}\\p{N}])`, "giu");
  text.split(pattern).forEach((piece, i) => element.append(i % 2 ? h("mark", {}, piece) : piece));
  return element;
}

// Classification by components: what is there and what is not, for two classes.
function reasoningOfCase(entry) {
  const { k, d, s: shares, o: rest, t: totals } = entry.b;
  const names = [className(entry.p), className(entry.v)];
  const largest = Math.max(...shares.flat(), 0) || 1;
  const cell = (value, kind) => h("td", { class: "number" },
    value >= 0.0005 ? [num(value, 2), bar(value / largest, kind)] : h("span", { class: "soft" }, "–"));
  const kinds = ["for", "absent", "for", "absent"];
  return h("div", { class: "scroll", role: "region", "aria-label": "Reasoning about this case", tabindex: "0" },
    h("table", { class: "plain reasoning" },
      h("caption", {}, "What the presence and the absence of each component add to the two most likely classes"),
      h("thead", {},
        h("tr", {}, h("th", { scope: "col", rowspan: 2 }, "component"), h("th", { scope: "col", rowspan: 2, class: "number" }, "similarity"),
          names.map((name, c) => h("th", { scope: "colgroup", colspan: 2, class: "number" }, `${name}${c ? "" : " (predicted)"}`))),
        h("tr", {}, [0, 1].map(() => [h("th", { scope: "col", class: "number" }, "present"), h("th", { scope: "col", class: "number" }, "absent")]))),
      h("tbody", {}, k.map((unit, j) => h("tr", {},
        h("th", { scope: "row" }, h("button", { type: "button", class: "link", onclick: () => openPrototype(unit) }, prototypes.short[unit]),
          h("span", { class: "soft" }, ` ${labelOf(unit)}`)),
        h("td", { class: "number" }, num(d[j], 2)), shares[j].map((value, c) => cell(value, kinds[c])))),
      rest.some((value) => value > 0.0005) ? h("tr", {}, h("th", { scope: "row" }, "all others"), h("td"),
        rest.map((value, c) => cell(value, kinds[c]))) : null),
      h("tfoot", {}, h("tr", {}, h("th", { scope: "row" }, "total"), h("td"),
        totals.map((value) => h("td", { colspan: 2, class: "number" }, num(value)))))));
}
