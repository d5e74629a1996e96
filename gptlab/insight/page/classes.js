/* A classifier: the classes' probabilities, the tokens that moved them, and what each layer would say. */

function buildClasses(number) {
  const model = data.models[number], { names, probabilities, predicted, layers, evidence } = model.classes;
  const order = [...names.keys()].sort((a, b) => probabilities[b] - probabilities[a]);
  const rows = order.map((c) => ({ word: visible(names[c]), value: probabilities[c], amount: percent(probabilities[c]), hit: c === predicted }));

  const { line, tokens } = strip(number, "tokens, coloured by their evidence");
  const most = Math.max(...evidence.map(Math.abs), 1e-9);
  const side = (value) => (value < 0 ? "against" : "for");
  tokens.forEach((each, i) => tint(each, Math.abs(evidence[i]) / most, evidence[i] < 0 ? "bad" : "good"));
  giveTips(line, ".token", (target) => {
    const value = evidence[Number(target.dataset.token)];
    return [element("h4", {}, visible(model.tokens[target.dataset.token])),
      `multiplies the odds of ${visible(names[predicted])} by ${Math.exp(value).toPrecision(3)} (${value.toFixed(2)} nats ${side(value)} it)`];
  });
  const strongest = [...evidence.keys()].sort((a, b) => Math.abs(evidence[b]) - Math.abs(evidence[a])).slice(0, 10);
  const tops = strongest.map((i) => ({ word: visible(model.tokens[i]), value: evidence[i], side: side(evidence[i]), amount: `${evidence[i] > 0 ? "+" : ""}${evidence[i].toFixed(2)} nats` }));

  const head = element("tr", {}, element("th", {}, "class"), layers.map((_, i) => element("th", { scope: "col" }, i === layers.length - 1 ? `${i - 1}, the output` : i ? String(i - 1) : "embedding")));
  const body = order.map((c) => element("tr", {}, element("th", { scope: "row" }, visible(names[c])), layers.map((layer) => {
    const cell = element("td", { class: "cell" }, percent(layer[c]));
    tint(cell, layer[c]);
    return cell;
  })));
  return element("div", { class: "card" },
    element("h3", {}, "Probabilities"), bars(rows),
    element("h3", {}, `What speaks for ${visible(names[predicted])}, and what against it`),
    element("div", { class: "tools" }, element("span", { class: "scale" }, "against", element("i", { class: "evidence" }), "for")),
    line, element("h3", {}, "The strongest tokens"), bars(tops),
    element("h3", {}, "What each layer would say"),
    element("div", { class: "scroll", tabindex: "0" }, element("table", { class: "lens" }, element("thead", {}, head), element("tbody", {}, body))));
}
