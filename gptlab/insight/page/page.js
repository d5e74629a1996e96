/* The page: its sections, each with one column a model. */

const SECTIONS = [
  {
    title: "The text",
    lead: "The tokens that the model reads.",
    has: (model) => !model.scores, build: buildText,
  },
  {
    title: "The text, token by token",
    lead: "A token's loss is how surprising it was after the tokens before it: −log of the probability that the model gave it. Its rank is its place among all tokens.",
    source: "Shannon, “A Mathematical Theory of Communication”, 1948. Choose a token to see what was expected in its place.",
    has: (model) => model.scores, build: buildText,
  },
  {
    title: "What decided the class",
    lead: "A token speaks for the predicted class as much as its log odds fall when the token is left out. Of two tokens that say the same, each has little; and a text with a gap may be none that anybody would write.",
    source: "Occlusion: Robnik-Šikonja and Kononenko, 2008; Li, Monroe and Jurafsky, arXiv 1612.08220. The layers are read by the logit lens (nostalgebraist, 2020).",
    has: (model) => model.classes, build: buildClasses,
  },
  {
    title: "Attention",
    lead: "Each square is a head: its rows are the tokens that look, from the first at the top, its columns the tokens they look at. Choose a head to enlarge it, then hover a token. Where a head looks is not yet why the model answers as it does.",
    source: "Vaswani et al., “Attention Is All You Need”, arXiv 1706.03762; Jain and Wallace, arXiv 1902.10186. The stronger the colour, the larger the weight; weights are rounded by at most 0.4 percentage points.",
    has: () => true, build: buildAttention,
  },
  {
    title: "The logit lens",
    lead: "What the model would say after each token if it stopped at a layer: its final norm and its output matrix read the residual stream there. The stronger the colour, the more probable; an underlined guess is the token that comes. Lower layers were not trained to be read like this.",
    source: "nostalgebraist, “interpreting GPT: the logit lens”, 2020.",
    has: (model) => model.lens, build: buildLens,
  },
  {
    title: "Neighbours",
    lead: "The tokens whose embeddings point most nearly the same way, by the cosine between them.",
    source: "Mikolov et al., arXiv 1301.3781.",
    has: (model) => model.neighbours, build: buildNeighbours,
  },
];

/* A model's name, facts, totals and remarks. */
function introduce(model) {
  const pairs = [...model.facts, ["tokens", model.ids.length.toLocaleString("en")]];
  if (model.scores && model.ids.length > 1) {
    const { losses, bits: total, bytes } = model.scores;
    pairs.push(["loss", `${((total * LN2) / losses.length).toFixed(3)} nats a token`]);
    if (bytes) pairs.push(["bits per byte", (total / bytes).toFixed(3)]);
    const answer = losses.filter((_, i) => model.learned?.[i + 1]);
    if (model.learned && answer.length) pairs.push(["loss of what is learned", `${(answer.reduce((a, b) => a + b) / answer.length).toFixed(3)} nats a token`]);
  }
  if (model.classes) pairs.push(["predicted", visible(model.classes.names[model.classes.predicted])]);
  return element("div", {},
    element("dl", { class: "facts" }, pairs.map(([name, value]) => element("div", {}, element("dt", {}, name), element("dd", {}, value)))),
    model.notes.map((note) => element("p", { class: "note" }, note)));
}

function columns(build, models) {
  const several = data.models.length > 1;
  return element("div", { class: several ? "columns two" : "columns one" }, models.map((model) => {
    const number = data.models.indexOf(model), made = build(number);
    return several ? element("div", {}, element("h3", {}, visible(model.name)), made) : made;
  }));
}

const page = document.getElementById("page");
page.append(element("h1", {}, `Inside ${data.models.map((model) => model.name).join(" and ")}`));
page.append(columns((number) => introduce(data.models[number]), data.models));
if (data.models.length > 1 && data.models.every((model) => model.scores)) {
  page.append(element("h2", {}, "Side by side"), element("p", { class: "lead" }, "The text between borders that both tokenizers have, and which model needed fewer bits for it."), buildPair());
}
for (const { title, lead, source, has, build } of SECTIONS) {
  const models = data.models.filter(has);
  if (models.length) page.append(element("section", {}, element("h2", {}, title), element("p", { class: "lead" }, lead), columns(build, models), source && element("p", { class: "source" }, element("small", {}, source))));
}
/* Begin with what stands out: the most surprising token, or the one that moved a class most. */
function standsOut(model) {
  const values = model.scores ? [-1, ...model.scores.losses] : (model.classes?.evidence.map(Math.abs) ?? [0]);
  return values.indexOf(Math.max(...values));
}

data.models.forEach((model, number) => {
  if (number === 0 || !data.spans) select(number, standsOut(model));
});
page.append(element("footer", {}, `Written by gptlab ${data.version}. Keys: `, element("kbd", {}, "Tab"), " moves between parts, ", element("kbd", {}, "arrows"), " between tokens, heads and cells, ", element("kbd", {}, "Esc"), " hides the tip. A dot (·) is a blank."));
