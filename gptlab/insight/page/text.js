/* The text, token by token: what each cost, and what was expected in its place. */

const MOST_BITS = 12;

function buildText(number) {
  const model = data.models[number], { losses, ranks } = model.scores ?? {};
  const { line, tokens } = strip(number, "tokens of the text", { end: losses ? "what comes next" : null });
  const detail = element("div", { class: "detail", "aria-live": "polite" });
  const tools = element("div", { class: "tools" });
  const shares = [
    (i) => losses[i] / LN2 / MOST_BITS,
    (i) => Math.log(ranks[i]) / Math.log(1000),
    () => 0,
  ];
  const colour = (by) => tokens.forEach((each, i) => tint(each, i && losses && i <= losses.length ? shares[by](i - 1) : 0));
  if (losses) {
    tools.append(
      choice("Colour:", ["loss", "rank", "none"], colour),
      element("span", { class: "scale" }, "expected", element("i"), "surprising"),
    );
    colour(0);
  }
  if (model.learned) {
    tools.append(element("span", { class: "scale" },
      element("span", { class: "token learned" }, "learned"), element("span", { class: "token unlearned" }, "only read")));
  }
  giveTips(line, ".token", (target) => {
    const i = Number(target.dataset.token);
    return [element("h4", {}, i < model.ids.length ? visible(model.tokens[i]) : "what comes next"), describeToken(model, i)];
  });
  follow(() => detail.replaceChildren(...describeSlot(model, chosen[number])));
  return element("div", { class: "card" }, tools, line, detail);
}

/* The numbers of one token, as a table. */
function describeToken(model, i) {
  if (i >= model.ids.length) return element("p", {}, "the model's guesses after the text");
  const rows = [["token", `${i} of ${model.ids.length}`], ["id", String(model.ids[i])]];
  if (model.partial.includes(i)) rows.push(["text", "no whole character, shown as bytes"]);
  rows.push(["bytes", model.special.includes(i) ? "none, a special token" : String(model.sizes[i])]);
  if (model.scores && i > 0) {
    const loss = model.scores.losses[i - 1];
    rows.push(["loss", `${loss.toFixed(2)} nats, ${bits(loss)} bits`], ["probability", percent(Math.exp(-loss))]);
    rows.push(["rank", model.scores.ranks[i - 1].toLocaleString("en")]);
  } else if (model.scores) rows.push(["loss", "none: nothing stands before it"]);
  if (model.learned) rows.push(["in training", model.learned[i] ? "learned" : "only read"]);
  return facts(rows);
}

/* A token's numbers beside the ten tokens that were most probable in its place. */
function describeSlot(model, i) {
  const name = i < model.ids.length ? visible(model.tokens[i]) : "what comes next";
  const left = element("div", {}, element("h3", { class: "word" }, name), describeToken(model, i));
  if (!model.scores) return [left];
  const candidates = model.scores.candidates;
  if (i === 0) return [left, element("p", { class: "source" }, "The first token is given: the model expects nothing before it. Choose another one.")];
  const rows = candidates.ids[i - 1].map((id, k) => ({
    word: word(model, id), value: candidates.p[i - 1][k], amount: percent(candidates.p[i - 1][k]), hit: id === model.ids[i],
  }));
  const right = element("div", {}, element("h3", {}, i < model.ids.length ? "Expected in its place" : "Expected after the text"), bars(rows));
  return [left, right];
}
