/* What all parts of the page share: elements, the tooltip, keys, and the token that is selected. */

const data = JSON.parse(document.getElementById("data").textContent);
const tip = document.getElementById("tip");
const LN2 = Math.log(2);

/* Make an element. Texts are only ever text: nothing that a model or a file says becomes markup. */
function element(tag, attributes = {}, ...children) {
  const made = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) {
    if (name.startsWith("on")) made.addEventListener(name.slice(2), value);
    else if (name.startsWith("--")) made.style.setProperty(name, value);
    else if (value !== false && value != null) made.setAttribute(name, value === true ? "" : value);
  }
  made.append(...children.flat(Infinity).filter((child) => child != null));
  return made;
}

/* Characters that cannot be seen, or that would turn the direction of what follows, by their code. */
const UNSEEN = /[\u0000-\u001f\u007f-\u00a0\u00ad\u061c\u200b-\u200f\u2028-\u202e\u2060-\u206f\ufeff]/g;

function code(sign) {
  const known = { "\n": "↵", "\t": "⇥", "\r": "␍" };
  return known[sign] || `[U+${sign.codePointAt(0).toString(16).toUpperCase().padStart(4, "0")}]`;
}

/* A token's text for a label: its blanks are dots, and it is never empty. */
function visible(text) {
  return text.replace(UNSEEN, code).replaceAll(" ", "·") || "∅";
}

function percent(p) {
  if (p >= 0.9995) return "100 %";
  if (p >= 0.985) return `${(100 * p).toFixed(1)} %`;
  return p >= 0.0995 ? `${(100 * p).toFixed(0)} %` : p >= 0.0005 ? `${(100 * p).toPrecision(2)} %` : "< 0.1 %";
}

function bits(nats) {
  return (nats / LN2).toFixed(2);
}

/* The word of the vocabulary behind an id; a part of a character has no text of its own. */
function word(model, id) {
  const text = model.vocabulary[id];
  return text === "\ufffd" ? `id ${id}` : visible(text);
}

/* Bars with a word before each and an amount behind it. */
function bars(rows) {
  const most = Math.max(...rows.map((row) => Math.abs(row.value)), 1e-9);
  return element("div", { class: "bars" }, rows.map((row) => [
    element("span", { class: row.hit ? "word hit" : "word" }, row.word),
    element("span", { class: `bar ${row.side ?? ""}`, "--w": `${(100 * Math.abs(row.value)) / most}%` }),
    element("span", { class: "amount" }, row.amount),
  ]));
}

function facts(pairs) {
  return element("table", { class: "plain" }, element("tbody", {}, pairs.map(([name, value]) =>
    element("tr", {}, element("th", { scope: "row" }, name), element("td", {}, value)))));
}

/* Show a tooltip for every element in a container that `selector` matches, under the mouse or with the focus. */
function giveTips(container, selector, content) {
  const show = (event) => {
    const target = event.target.closest?.(selector);
    if (!target || !container.contains(target)) return;
    const parts = content(target);
    if (parts) showTip(target.getBoundingClientRect(), parts);
  };
  container.addEventListener("mouseover", show);
  container.addEventListener("focusin", show);
  for (const name of ["mouseout", "focusout", "scroll"]) container.addEventListener(name, hideTip);
}

function showTip(box, parts) {
  tip.replaceChildren(...[parts].flat());
  tip.hidden = false;
  const { width, height } = tip.getBoundingClientRect();
  const below = box.bottom + 8 + height < innerHeight;
  tip.style.left = `${Math.max(8, Math.min(box.left, innerWidth - width - 8))}px`;
  tip.style.top = `${Math.max(8, below ? box.bottom + 8 : box.top - height - 8)}px`;
}

function hideTip() {
  tip.hidden = true;
}

addEventListener("keydown", (event) => event.key === "Escape" && hideTip());
addEventListener("scroll", hideTip);

/* Let arrow keys move the focus among the elements that `selector` matches; one of them is a stop of the tab key.
   `columns` is how many stand in a row, 0 for a text. */
function moveByKeys(container, selector, columns) {
  const all = [...container.querySelectorAll(selector)];
  all.forEach((each, i) => each.setAttribute("tabindex", i ? "-1" : "0"));
  const step = { ArrowRight: 1, ArrowLeft: -1, ArrowDown: columns, ArrowUp: -columns };
  container.addEventListener("keydown", (event) => {
    const at = all.indexOf(event.target.closest(selector));
    const to = event.key === "Home" ? 0 : event.key === "End" ? all.length - 1 : at + (step[event.key] ?? 0);
    if (at < 0 || to === at || !all[to]) return;
    event.preventDefault();
    all[to].focus();
  });
  container.addEventListener("focusin", (event) => {
    const target = event.target.closest(selector);
    if (target) all.forEach((each) => each.setAttribute("tabindex", each === target ? "0" : "-1"));
  });
  return all;
}

let radios = 0;

/* Radio buttons with one label each; the first is chosen. */
function choice(label, options, change) {
  const name = `choice-${radios++}`;
  return element("span", { role: "radiogroup", "aria-label": label, class: "tools" }, label, options.map((option, i) =>
    element("label", {}, element("input", { type: "radio", name, checked: i === 0, onchange: () => change(i) }), option)));
}

/* The selected token of each model. Where two models read the same text, they select the same place in it. */
const chosen = data.models.map(() => 0);
const followers = [];

for (const model of data.models) {
  let at = 0;
  model.starts = model.sizes.map((size) => (at += size) - size);
}

function select(number, token) {
  chosen[number] = token;
  if (data.spans) {
    const place = data.models[number].starts[token] ?? Infinity;
    data.models.forEach((model, other) => {
      if (other === number) return;
      const after = place === Infinity ? model.ids.length : model.starts.findLastIndex((start) => start <= place);
      chosen[other] = Math.max(0, after);
    });
  }
  followers.forEach((follow) => follow());
}

/* Call a function now and whenever another token is selected. */
function follow(function_) {
  followers.push(function_);
  function_();
}

/* The tokens of a text as a line of buttons, and one for what comes after it if `end` is given. */
function strip(number, label, { end = null } = {}) {
  const model = data.models[number];
  const tokens = model.tokens.map((text, i) => {
    const kind = ["token", model.special.includes(i) ? "special" : model.partial.includes(i) ? "partial" : ""];
    if (model.learned) kind.push(model.learned[i] ? "learned" : "unlearned");
    const shown = text.replace(UNSEEN, code) || "∅";
    const made = element("span", { class: kind.join(" "), role: "option", "data-token": i, "aria-selected": "false" }, shown);
    return text.endsWith("\n") ? [made, element("br")] : made;
  });
  if (end) tokens.push(element("span", { class: "token end", role: "option", "data-token": model.ids.length, "aria-selected": "false" }, end));
  const line = element("div", { class: "strip", role: "listbox", "aria-label": label }, tokens.flat());
  const all = moveByKeys(line, ".token", 0);
  for (const name of ["click", "focusin"]) {
    line.addEventListener(name, (event) => {
      const target = event.target.closest(".token");
      if (target && chosen[number] !== Number(target.dataset.token)) select(number, Number(target.dataset.token));
    });
  }
  follow(() => all.forEach((each, i) => each.setAttribute("aria-selected", String(i === chosen[number]))));
  return { line, tokens: all };
}

/* Colour an element: a share from 0 to 1 of a tone. */
function tint(target, share, tone = null) {
  target.style.setProperty("--a", `${Math.round(85 * Math.max(0, Math.min(1, share)))}%`);
  if (tone) target.style.setProperty("--tone", `var(--${tone})`);
}
