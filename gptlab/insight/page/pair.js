/* Two models on one text: which of them needs fewer bits, span by span. */

function buildPair() {
  if (!data.spans) return element("p", { class: "note" }, "The two do not read the same bytes (their templates or their tokenizers differ), so their losses are not set against each other.");
  const [first, second] = data.models;
  const cost = (model, [start, stop]) => {
    if (start === 0) return null; /* nothing stands before the first token, so it has no loss */
    return model.scores.losses.slice(start - 1, stop - 1).reduce((sum, loss) => sum + loss, 0) / LN2;
  };
  const spans = data.spans.map(([text, size, own, other]) => ({ text, size, own, other, a: cost(first, own), b: cost(second, other) }));
  const scored = spans.filter((span) => span.a !== null && span.b !== null);
  const total = (name) => scored.reduce((sum, span) => sum + span[name], 0);
  const size = total("size");
  const row = (name, value, count) => [name, `${(value / size).toFixed(3)} bits per byte, ${value.toFixed(1)} bits in ${count.toLocaleString("en")} tokens`];
  const count = (name) => scored.reduce((sum, span) => sum + span[name][1] - span[name][0], 0);
  const difference = total("a") - total("b");
  const better = Math.abs(difference) < 0.05 ? "They are alike" : `${visible((difference < 0 ? first : second).name)} needs ${Math.abs(difference).toFixed(1)} bits fewer`;

  const line = element("div", { class: "strip", role: "listbox", "aria-label": "spans of the text" }, spans.map((span, i) => {
    const made = element("span", { class: "token", role: "option", "data-span": i, "aria-selected": "false" }, span.text.replace(UNSEEN, code) || "∅");
    if (span.a !== null && span.b !== null) tint(made, Math.abs(span.a - span.b) / 6, span.a < span.b ? "cool" : "heat");
    return span.text.endsWith("\n") ? [made, element("br")] : made;
  }).flat());
  const all = moveByKeys(line, ".token", 0);
  const own = (model, [start, stop]) => model.tokens.slice(start, stop).map(visible).join(" | ");
  giveTips(line, ".token", (target) => {
    const span = spans[target.dataset.span];
    const told = (model, tokens, value) => [visible(model.name), `${own(model, tokens)}: ${value === null ? "given" : `${value.toFixed(2)} bits`}`];
    return [element("h4", {}, visible(span.text)), facts([told(first, span.own, span.a), told(second, span.other, span.b)])];
  });
  for (const name of ["click", "focusin"]) {
    line.addEventListener(name, (event) => {
      const target = event.target.closest(".token");
      if (target && chosen[0] !== spans[target.dataset.span].own[0]) select(0, spans[target.dataset.span].own[0]);
    });
  }
  follow(() => all.forEach((each, i) => each.setAttribute("aria-selected", String(spans[i].own[0] <= chosen[0] && chosen[0] < spans[i].own[1]))));
  return element("div", { class: "card" },
    size ? [facts([row(visible(first.name), total("a"), count("own")), row(visible(second.name), total("b"), count("other"))]),
      element("p", {}, element("b", {}, better), ` over the ${size.toLocaleString("en")} bytes that both score.`)] : [],
    element("div", { class: "tools" }, element("span", { class: "scale" }, `${visible(first.name)} is better`, element("i", { class: "two-sided" }), `${visible(second.name)} is better`)),
    line);
}
