/* The logit lens, and the neighbours of each token's embedding. */

function buildLens(number) {
  const model = data.models[number], { layers, actual } = model.lens, T = model.ids.length;
  const names = layers.map((_, i) => (i === layers.length - 1 ? `${i - 1}, the output` : i ? String(i - 1) : "embedding"));
  const head = element("tr", {}, element("th", {}, "layer"), model.tokens.map((text) => element("th", { scope: "col", title: visible(text) }, visible(text))));
  const rows = layers.map((layer, i) => element("tr", {},
    element("th", { scope: "row" }, names[i]),
    layer.ids.map((ids, t) => {
      const cell = element("td", { class: ids[0] === model.ids[t + 1] ? "cell right" : "cell", "data-layer": i, "data-token": t }, word(model, ids[0]));
      tint(cell, layer.p[t][0]);
      return cell;
    })));
  const table = element("table", { class: "lens" }, element("thead", {}, head), element("tbody", {}, rows.reverse()));
  const cells = moveByKeys(table, ".cell", T);
  giveTips(table, ".cell", (target) => {
    const i = Number(target.dataset.layer), t = Number(target.dataset.token), next = model.ids[t + 1];
    const guesses = layers[i].ids[t].map((id, k) => ({ word: word(model, id), value: layers[i].p[t][k], amount: percent(layers[i].p[t][k]), hit: id === next }));
    const comes = next === undefined ? null : element("p", {}, `What comes is ${word(model, next)}: ${percent(actual[i][t])}`);
    return [element("h4", {}, `after ${visible(model.tokens[t])}, layer ${names[i]}`), bars(guesses), comes].filter(Boolean);
  });
  for (const name of ["click", "focusin"]) {
    table.addEventListener(name, (event) => {
      const target = event.target.closest(".cell");
      if (target && chosen[number] !== Number(target.dataset.token) + 1) select(number, Number(target.dataset.token) + 1);
    });
  }
  follow(() => cells.forEach((cell) => cell.classList.toggle("chosen", Number(cell.dataset.token) === chosen[number] - 1)));
  return element("div", { class: "scroll" }, table);
}

function buildNeighbours(number) {
  const model = data.models[number], seen = new Map();
  for (const id of model.ids) {
    if (seen.has(id)) continue;
    const [ids, cosines] = model.neighbours[id];
    seen.set(id, element("div", {}, element("b", { class: "word" }, word(model, id)),
      ids.map((near, k) => element("span", {}, element("span", { class: "word" }, word(model, near)), element("small", {}, cosines[k].toFixed(2))))));
  }
  follow(() => seen.forEach((card, id) => card.classList.toggle("chosen", id === model.ids[chosen[number]])));
  return element("div", { class: "neighbours", tabindex: "0", role: "group", "aria-label": "neighbours" }, ...seen.values());
}
