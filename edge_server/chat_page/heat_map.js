// The picture of the mixture: a canvas of layers by experts, drawn only while something changes.

const FRAME = 70; // ms
const STEPS = 64; // of the colour scale
const map = get("map"),
  ramp = get("ramp");
let colours = [],
  frame = 0,
  drawn = 0,
  cursor = -1,
  turned = false;

// Even steps of lightness, from the page's ground to yellow or to violet: told apart by whoever sees light.
function makeColours() {
  const dark = isDark(),
    context = ramp.getContext("2d", { willReadFrequently: true });
  for (let i = 0; i < STEPS; i++) {
    const t = i / (STEPS - 1),
      chroma = 0.01 + 0.17 * Math.sin(Math.PI * t ** 0.75);
    const [light, hue] = dark ? [0.25 + 0.69 * t, 290 + 165 * t] : [0.95 - 0.62 * t, 85 - 155 * t];
    context.fillStyle = `oklch(${light} ${chroma} ${hue})`;
    context.fillRect(i, 0, 1, 1);
  }
  colours = context.getImageData(0, 0, STEPS, 1).data;
}

// Where the colour of a value begins in `colours`.
function colourOf(value) {
  const usual = (value * mixture.experts) / mixture.perToken; // 1: as often as if all were alike
  return 4 * Math.round((STEPS - 1) * (1 - 1 / (1 + (usual / 1.5) ** 1.4)));
}

const valueOf = (cell) => Math.max(mixture.heat[cell], 0.5 * mixture.trace[cell]);

// Layers down and experts across; turned where that makes much larger cells.
function arrange() {
  const width = map.clientWidth,
    narrow = matchMedia("(max-width: 60rem)").matches;
  const most = narrow ? Math.min(110, innerHeight / 6) : Math.max(160, innerHeight - 420);
  const cell = (columns, rows) => [width / columns, Math.min(most / rows, 26, Math.max(2, (1.6 * width) / columns))];
  const straight = cell(mixture.experts, mixture.rows),
    other = cell(mixture.rows, mixture.experts);
  turned = Math.min(...other) > 1.3 * Math.min(...straight);
  const rows = turned ? mixture.experts : mixture.rows;
  map.style.height = Math.round(rows * (turned ? other : straight)[1]) + "px";
  map.width = Math.round(width * devicePixelRatio);
  map.height = Math.round(map.clientHeight * devicePixelRatio);
  get("across").textContent = say(turned ? "layers" : "experts") + " →";
  get("down").textContent = say(turned ? "experts" : "layers") + " ↓";
  drawSoon();
}

const columns = () => (turned ? mixture.rows : mixture.experts);
const rows = () => (turned ? mixture.experts : mixture.rows);
const cellAt = (x, y) => (turned ? x * mixture.experts + y : y * mixture.experts + x);
const placeOf = (cell) => {
  const layer = Math.floor(cell / mixture.experts),
    expert = cell % mixture.experts;
  return turned ? [layer, expert] : [expert, layer];
};

function draw() {
  const context = map.getContext("2d"),
    across = columns(),
    down = rows();
  const w = map.width / across,
    h = map.height / down;
  context.clearRect(0, 0, map.width, map.height);
  if (w >= 4 && h >= 4) {
    const gap = Math.min(w, h) > 12 ? 2 : 1;
    for (let cell = 0; cell < across * down; cell++) {
      const [x, y] = placeOf(cell),
        left = Math.round(x * w),
        top = Math.round(y * h);
      const at = colourOf(valueOf(cell));
      context.fillStyle = `rgb(${colours[at]} ${colours[at + 1]} ${colours[at + 2]})`;
      context.fillRect(left, top, Math.round((x + 1) * w) - left - gap, Math.round((y + 1) * h) - top - gap);
    }
  } else drawSmall(context, Math.min(across, map.width), Math.min(down, map.height), across, down);
  if (cursor >= 0) {
    const [x, y] = placeOf(cursor);
    context.strokeStyle = getComputedStyle(map).color;
    context.lineWidth = 2;
    context.strokeRect(x * w - 1, y * h - 1, Math.max(w, 4) + 1, Math.max(h, 4) + 1);
  }
}

// Where there are more cells than pixels, a pixel shows the brightest of its cells.
function drawSmall(context, width, height, across, down) {
  const image = new ImageData(width, height),
    best = new Float32Array(width * height).fill(-1);
  for (let y = 0; y < down; y++) {
    for (let x = 0; x < across; x++) {
      const value = valueOf(cellAt(x, y));
      const at = Math.floor((y * height) / down) * width + Math.floor((x * width) / across);
      if (value <= best[at]) continue;
      best[at] = value;
      const colour = colourOf(value);
      image.data.set(colours.subarray(colour, colour + 4), 4 * at);
    }
  }
  const small = make("canvas", { width, height });
  small.getContext("2d").putImageData(image, 0, 0);
  context.imageSmoothingEnabled = false;
  context.drawImage(small, 0, 0, map.width, map.height);
}

function drawSoon() {
  frame ||= setTimeout(
    () => {
      frame = 0;
      if (!mixture.experts || !map.clientWidth) return;
      const now = performance.now(),
        since = Math.min(now - drawn, 4 * FRAME);
      drawn = now;
      const fades = !calm.matches && now - mixture.moved > CALM_AFTER && mixture.heat.some((each) => each > 0.002);
      if (fades) mixture.heat = mixture.heat.map((each) => each * 0.5 ** (since / 1200));
      draw();
      tellCell();
      if (fades || (!calm.matches && now - mixture.moved <= CALM_AFTER)) drawSoon();
    },
    mixture.follows ? 2 * FRAME : FRAME,
  ); // the counts come no faster, and the model wants the cores
}

function tellCell() {
  const { n, of } = cursor < 0 ? {} : recent(cursor);
  const layer = mixture.layers[Math.floor(cursor / mixture.experts)];
  const text = cursor < 0 || layer === undefined ? "" : say("cell", { layer, expert: cursor % mixture.experts, n, of });
  if (get("cell").textContent !== text) get("cell").textContent = text;
}

// The sentence under the map, which is also its text for those who do not see it.
function tellUsed() {
  const { n, share } = used();
  const text = n > 0 ? say("used", { n, share: share.toLocaleString(language, { style: "percent" }) }) : say("idle");
  get("used").textContent = text;
  map.setAttribute("aria-label", `${say("mapLabel")} ${text}`);
}

function pick(cell) {
  cursor = cell;
  tellCell();
  drawSoon();
}

function startMap() {
  map.addEventListener("pointermove", (event) => {
    const place = (at, of, size) => Math.min(of - 1, Math.max(0, Math.floor((at / size) * of)));
    pick(cellAt(place(event.offsetX, columns(), map.clientWidth), place(event.offsetY, rows(), map.clientHeight)));
  });
  map.addEventListener("pointerleave", () => pick(document.activeElement === map ? cursor : -1));
  map.addEventListener("focus", () => pick(Math.max(0, cursor)));
  map.addEventListener("blur", () => pick(-1));
  map.addEventListener("keydown", (event) => {
    const step = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] }[event.key];
    if (!step) return;
    event.preventDefault();
    const [x, y] = placeOf(cursor);
    pick(cellAt((x + step[0] + columns()) % columns(), (y + step[1] + rows()) % rows()));
  });
  new ResizeObserver(() => mixture.experts && arrange()).observe(get("map-box"));
  makeColours();
}
