// Settings: the dialog, the language, light and dark, and what is known of the model and the machine.

const EFFORTS = ["none", "minimal", "low", "medium", "high", "xhigh", "max"];
const FIELDS = ["system", "temperature", "maxTokens", "effort", "tools"];
const EXAMPLE = [
  {
    type: "function",
    function: {
      name: "set_light",
      description: "Turn a light on or off",
      parameters: {
        type: "object",
        properties: { room: { type: "string" }, on: { type: "boolean" } },
        required: ["room", "on"],
      },
    },
  },
];
const known = { models: [], context: 0, memory: 0, props: {} };

function isTools(text) {
  try {
    return !text.trim() || JSON.parse(text).every((each) => typeof each.function.name === "string");
  } catch {
    return false;
  }
}

function openSettings() {
  for (const name of FIELDS) get("set-" + name).value = settings[name];
  get("set-temperature").placeholder = known.props.sampling_defaults?.temperature ?? say("modelOwn");
  get("bad-tools").hidden = get("bad-number").hidden = true;
  get("kept").textContent = say(kept.works ? "kept" : "notKept");
  get("settings").showModal();
}

// Takes over what the dialog says; whether it all fits.
function takeSettings() {
  const tools = isTools(get("set-tools").value);
  const numbers = ["temperature", "maxTokens"].every((name) => get("set-" + name).validity.valid);
  get("bad-tools").hidden = tools;
  get("bad-number").hidden = numbers;
  if (!tools || !numbers) return false;
  for (const name of FIELDS) settings[name] = get("set-" + name).value;
  keepSettings();
  return true;
}

// Light or dark, and what follows from it.
function wear() {
  if (settings.theme) document.documentElement.dataset.theme = settings.theme;
  else delete document.documentElement.dataset.theme;
  makeColours();
  drawSoon();
}

function speakIn(wanted) {
  choose(wanted);
  const effort = (name) => (name === "none" ? say("effortNone") : name);
  get("set-effort").replaceChildren(
    new Option(say("effortOwn"), ""),
    ...EFFORTS.map((name) => new Option(effort(name), name)),
  );
  get("starters").replaceChildren(...[1, 2, 3].map((i) => actionButton("start" + i, () => send(say("start" + i)))));
  document.title = `${settings.model || "moedge"} · ${say("title")}`;
  if (mixture.experts) showMixture();
  paintAll();
  showFacts();
}

function showMixture() {
  get("shape").textContent = say("shape", { layers: mixture.rows, experts: mixture.experts, k: mixture.perToken });
  tellUsed();
  arrange();
}

// The model's mixture, or the line that says why there is none.
function showExperts(found) {
  get("map-box").hidden = get("used").hidden = !found.counted;
  if (found.counted) showMixture();
  else get("shape").textContent = say(found.experts === 0 ? "noExperts" : found.experts ? "notCounted" : "noMap");
  showFacts(found);
}

function showFacts(found) {
  known.memory = found?.resident_bytes ?? known.memory;
  const { timings } = messages.findLast((each) => each.timings) ?? {};
  const facts = [];
  if (known.memory) facts.push(["memory", bytes(known.memory)]);
  const n = timings && timings.prompt_tokens + timings.generated_tokens;
  if (known.context)
    facts.push([
      "context",
      n ? say("contextOf", { n, of: known.context }) : say("contextLength", { n: known.context }),
    ]);
  if (timings) facts.push(["cache", say("contextOf", { n: timings.cached_tokens, of: timings.prompt_tokens })]);
  get("facts").replaceChildren(
    ...facts.map(([key, text]) => make("div", {}, make("dt", {}, say(key)), make("dd", {}, text))),
  );
}

function bytes(number) {
  const [unit, size, maximumFractionDigits] = number < 1e9 ? ["megabyte", 1e6, 0] : ["gigabyte", 1e9, 1];
  return (number / size).toLocaleString(language, { style: "unit", unit, maximumFractionDigits });
}

async function meetModel() {
  const began = performance.now();
  const wait = () =>
    (get("model-name").textContent = say("loading", { s: Math.floor((performance.now() - began) / 1000) }));
  try {
    known.models = (await patient(() => getJson("v1/models"), wait)).data.filter(
      ({ id, root }) => !root || id === root,
    ); // no aliases
    useModel(known.models.find((each) => each.id === settings.model) ?? known.models[0]);
  } catch (error) {
    get("model-name").textContent = error.text || say(error.key ?? "errorOdd");
  }
}

async function useModel(model) {
  settings.model = model?.id ?? "";
  known.context = model?.context_length ?? 0;
  const several = known.models.length > 1;
  get("model").hidden = !several;
  get("model-name").hidden = several;
  get("model-name").textContent = settings.model;
  get("model").replaceChildren(...known.models.map(({ id }) => new Option(id, id, false, id === settings.model)));
  document.title = `${settings.model} · ${say("title")}`;
  showFacts();
  known.props = await getJson("props?" + modelQuery()).catch(() => ({}));
  get("effort").hidden = known.props.thinks === false;
  get("tools").hidden = known.props.calls_tools === false;
  Object.assign(mixture, { layers: [], rows: 0, experts: 0 });
  showExperts(await lookAtExperts().catch(() => ({ counted: false })));
}
