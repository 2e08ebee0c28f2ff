// Which experts the tokens of late have gone to: asked of the server while an answer is made.

const RECENT = 64; // tokens that a cell tells of
const HALF_LIFE = 6; // tokens after which a cell that is not chosen again is half as bright
const CALM_AFTER = 700; // ms without a token, from when on the map fades

const mixture = {
  layers: [],
  rows: 0,
  experts: 0,
  perToken: 1, // `rows` of layers have experts
  tokens: 0,
  counts: new Uint32Array(0), // [layers, experts], as all below
  heat: new Float32Array(0),
  trace: new Float32Array(0), // shares of the last answer's tokens, which stay when the heat is gone
  past: [], // {tokens, counts}, oldest first
  begun: null, // the same when the answer began
  moved: 0, // when tokens last passed
  follows: 0, // answers that are being made
};

async function lookAtExperts() {
  const found = await getJson("experts?encoding=base64&" + modelQuery());
  if (found.counted) takeCounts(found);
  return found;
}

function takeCounts({ layers, moe_layers: rows, experts, experts_per_token: perToken, tokens, counts: packed }) {
  const counts = new Uint32Array(Uint8Array.from(atob(packed), (each) => each.charCodeAt(0)).buffer);
  if (layers.length !== mixture.layers.length || experts !== mixture.experts || tokens < mixture.tokens) {
    // a first look, a first answer, or another model: what came before is no news, unless nothing had run
    const fresh = mixture.rows && !mixture.layers.length && layers.length;
    const size = counts.length || rows * experts;
    const before = { tokens: fresh ? 0 : tokens, counts: fresh ? new Uint32Array(counts.length) : counts };
    Object.assign(mixture, { layers, rows: layers.length || rows, experts, perToken, ...before });
    Object.assign(mixture, {
      heat: new Float32Array(size),
      trace: new Float32Array(size),
      past: [before],
      begun: before,
    });
  }
  const passed = tokens - mixture.tokens;
  if (passed > 0) {
    const keep = 0.5 ** (passed / HALF_LIFE);
    for (let i = 0; i < counts.length; i++) {
      mixture.heat[i] = mixture.heat[i] * keep + ((1 - keep) * ((counts[i] - mixture.counts[i]) >>> 0)) / passed;
    }
    mixture.past.push({ tokens, counts });
    while (mixture.past.length > 2 && tokens - mixture.past[1].tokens >= RECENT) mixture.past.shift();
    Object.assign(mixture, { tokens, counts, moved: performance.now() });
  }
}

// Follow the experts until the function that is given back is called.
function followExperts() {
  mixture.begun = { tokens: mixture.tokens, counts: mixture.counts };
  if (++mixture.follows === 1) poll();
  return () => mixture.follows--;
}

async function poll() {
  for (let more = true; more && mixture.experts;) {
    more = mixture.follows > 0; // one last look after the end
    const began = performance.now();
    const found = await lookAtExperts().catch(() => null);
    if (found) showFacts(found);
    tellUsed();
    drawSoon();
    await pause(Math.min(1000, Math.max(mixture.counts.length > 20000 ? 250 : 150, 6 * (performance.now() - began))));
  }
  const of = mixture.tokens - mixture.begun.tokens;
  if (of > 0)
    mixture.trace = Float32Array.from(
      mixture.counts,
      (each, i) => ((each - (mixture.begun.counts[i] ?? 0)) >>> 0) / of,
    );
  drawSoon();
}

// Times that a cell was chosen, and the tokens that this is of.
function recent(cell) {
  const oldest = mixture.past[0];
  return { n: (mixture.counts[cell] - (oldest?.counts[cell] ?? 0)) >>> 0, of: mixture.tokens - (oldest?.tokens ?? 0) };
}

// Tokens of the answer, and the share of all experts that they used.
function used() {
  const { tokens, counts } = mixture.begun;
  const chosen = mixture.counts.reduce((sum, each, i) => sum + (each !== (counts[i] ?? 0)), 0);
  return { n: mixture.tokens - tokens, share: chosen / (mixture.counts.length || 1) };
}
