/* The attention of every layer and head. */

/* Inflate a layer's weights: bytes, of each head the rows up to the diagonal. */
async function inflate(packed) {
  const raw = Uint8Array.from(atob(packed), (sign) => sign.charCodeAt(0));
  const stream = new Blob([raw]).stream().pipeThrough(new DecompressionStream("deflate"));
  return new Uint8Array(await new Response(stream).arrayBuffer());
}

function buildAttention(number) {
  const model = data.models[number], T = model.ids.length, H = model.n_heads;
  const layers = Object.keys(model.attention).map(Number);
  if (!layers.length) return element("div", { class: "card" }, element("p", {}, "No layer's attention fits into this page."));
  const weights = {}; /* layer -> bytes */
  const now = { layer: layers[0], head: 0, hovered: null, incoming: false };
  const size = (T * (T + 1)) / 2;
  /* a byte is 255 times the square root of a weight */
  const root = (layer, head, query, key) => weights[layer][head * size + (query * (query + 1)) / 2 + key] / 255;
  const weight = (query, key) => (key > query ? 0 : root(now.layer, now.head, query, key) ** 2);

  const title = element("h3", { "aria-live": "polite" });
  const large = element("canvas", { class: "large", width: T, height: T, role: "img" });
  const { line, tokens } = strip(number, "tokens, coloured by attention");
  const direction = choice("The token under the mouse", ["looks at", "is looked at by"], (i) => {
    now.incoming = i === 1;
    colour();
  });

  function paint(canvas, layer, head) {
    const image = new ImageData(T, T), [r, g, b] = ink();
    for (let query = 0; query < T; query++) {
      for (let key = 0; key <= query; key++) {
        image.data.set([r, g, b, 255 * root(layer, head, query, key)], 4 * (query * T + key));
      }
    }
    canvas.getContext("2d").putImageData(image, 0, 0);
  }

  function colour() {
    if (!weights[now.layer]) return;
    const token = Math.min(now.hovered ?? chosen[number], T - 1);
    tokens.forEach((each, i) => tint(each, Math.sqrt(now.incoming ? weight(i, token) : weight(token, i)), "cool"));
  }

  function show() {
    title.textContent = `Layer ${now.layer}, head ${now.head}`;
    large.setAttribute("aria-label", `attention of layer ${now.layer}, head ${now.head}: a row is the token that looks`);
    buttons.forEach((each) => each.setAttribute("aria-pressed", String(Number(each.dataset.layer) === now.layer && Number(each.dataset.head) === now.head)));
    paint(large, now.layer, now.head);
    colour();
  }

  const grid = element("div", { class: "heads", role: "group", "aria-label": "heads" });
  grid.style.gridTemplateColumns = `max-content repeat(${H}, minmax(24px, 76px))`;
  grid.append(element("span", { class: "name" }, "layer"), ...Array.from({ length: H }, (_, head) => element("span", { class: "name top" }, head)));
  for (const layer of layers) {
    grid.append(element("span", { class: "name" }, layer));
    for (let head = 0; head < H; head++) {
      const canvas = element("canvas", { width: 64, height: 64 });
      grid.append(element("button", { "data-layer": layer, "data-head": head, "aria-label": `layer ${layer}, head ${head}` }, canvas));
    }
  }
  const buttons = moveByKeys(grid, "button", H);
  const pick = (event) => {
    const target = event.target.closest("button");
    if (!target || !weights[target.dataset.layer]) return;
    now.layer = Number(target.dataset.layer);
    now.head = Number(target.dataset.head);
    show();
  };
  grid.addEventListener("click", pick);
  grid.addEventListener("focusin", pick);

  /* Small pictures are drawn a layer at a time, so that the page answers meanwhile. */
  async function drawAll() {
    const whole = element("canvas", { width: T, height: T });
    for (const layer of layers) {
      weights[layer] ??= await inflate(model.attention[layer]);
      for (const button of buttons.filter((each) => Number(each.dataset.layer) === layer)) {
        paint(whole, layer, Number(button.dataset.head));
        const context = button.firstChild.getContext("2d");
        context.clearRect(0, 0, 64, 64);
        context.imageSmoothingEnabled = T > 64;
        context.drawImage(whole, 0, 0, 64, 64);
      }
      if (layer === now.layer) show();
      await new Promise((resolve) => setTimeout(resolve));
    }
    grid.dataset.drawn = "true";
  }

  line.addEventListener("mouseover", (event) => {
    const target = event.target.closest(".token");
    now.hovered = target ? Number(target.dataset.token) : null;
    colour();
  });
  line.addEventListener("mouseleave", () => {
    now.hovered = null;
    colour();
  });
  giveTips(line, ".token", (target) => {
    const i = Number(target.dataset.token);
    if (!weights[now.layer]) return null;
    const [most, verb] = now.incoming ? [(k) => weight(k, i), "is looked at by"] : [(k) => weight(i, k), "looks at"];
    const best = [...Array(T).keys()].sort((a, b) => most(b) - most(a)).slice(0, 6).filter((k) => most(k) > 0);
    const rows = best.map((k) => ({ word: `${visible(model.tokens[k])}`, value: most(k), amount: percent(most(k)), side: "look" }));
    return [element("h4", {}, `${visible(model.tokens[i])} ${verb}`), rows.length ? bars(rows) : "no token"];
  });
  large.addEventListener("mousemove", (event) => {
    const [query, key] = place(event);
    const box = new DOMRect(event.clientX + 8, event.clientY, 1, 12);
    showTip(box, [element("h4", {}, `${visible(model.tokens[query])} → ${visible(model.tokens[key])}`), key > query ? "ahead: hidden" : percent(weight(query, key))]);
  });
  large.addEventListener("mouseleave", hideTip);
  large.addEventListener("click", (event) => select(number, place(event)[0]));

  function place(event) {
    const box = large.getBoundingClientRect();
    const at = (value) => Math.max(0, Math.min(T - 1, Math.floor(value * T)));
    return [at((event.clientY - box.top) / box.height), at((event.clientX - box.left) / box.width)];
  }

  follow(colour);
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", drawAll);
  drawAll();
  return element("div", { class: "card" },
    element("div", { class: "heads-view" }, grid, element("div", {}, title, large)), direction, line);
}

/* The colour of attention in the present theme, as three bytes. */
function ink() {
  const hex = getComputedStyle(document.documentElement).getPropertyValue("--cool").trim();
  return [1, 3, 5].map((at) => parseInt(hex.slice(at, at + 2), 16));
}
