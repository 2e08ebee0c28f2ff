// Requests to the server and what comes back: JSON, a stream of events, or a sentence of what is wrong.

// `key` is one of the page's own sentences, `text` is the server's.
class Trouble extends Error {
  constructor(key, text = "", code = "", wait = 0) {
    super(text || key);
    Object.assign(this, { key, text, code, wait });
  }
}

const SENTENCES = { context_length_exceeded: "errorLong", invalid_api_key: "errorKey", shutting_down: "errorDraining" };

async function request(path, options) {
  let response;
  try {
    response = await fetch(path, options);
  } catch (error) {
    throw options?.signal?.aborted ? error : new Trouble("errorNetwork");
  }
  if (response.ok) return response;
  const body = await response.json().catch(() => null);
  throw troubleOf(body?.error, response.status, Number(response.headers.get("Retry-After")));
}

function troubleOf(error, status = 0, wait = 0) {
  const code = error?.code ?? "";
  const key = status === 401 ? "errorKey" : (SENTENCES[code] ?? "errorOdd");
  return new Trouble(key, key === "errorOdd" ? (error?.message ?? "") : "", code, wait);
}

const modelQuery = () => (settings.model ? "model=" + encodeURIComponent(settings.model) : "");

async function getJson(path) {
  const response = await request(path);
  return response.json().catch(() => {
    throw new Trouble("errorOdd");
  });
}

function pause(milliseconds, signal) {
  return new Promise((resolve, reject) => {
    const timer = setTimeout(resolve, milliseconds);
    signal?.addEventListener("abort", () => (clearTimeout(timer), reject(signal.reason)), { once: true });
  });
}

// Ask until the model is loaded and the server has room; `tell` is told what it waits for.
async function patient(ask, tell, signal) {
  for (;;) {
    try {
      return await ask();
    } catch (error) {
      const full = error.code === "queue_full";
      if (!full && !["loading", "model_not_loaded"].includes(error.code)) throw error;
      tell(full ? "queued" : "loading");
      await pause(full && error.wait ? 1000 * error.wait : 2000, signal);
    }
  }
}

function openAnswer(body, signal, tell) {
  const headers = { "Content-Type": "application/json" };
  const ask = () => request("v1/chat/completions", { method: "POST", headers, body: JSON.stringify(body), signal });
  return patient(ask, tell, signal);
}

// The data of each server-sent event; comments, which only keep the connection open, are passed over.
async function* readEvents(response) {
  if (!response.headers.get("Content-Type")?.startsWith("text/event-stream")) throw new Trouble("errorOdd");
  const reader = response.body.pipeThrough(new TextDecoderStream()).getReader();
  let rest = "",
    data = [];
  for (;;) {
    const { done, value } = await reader.read();
    if (done) return;
    const lines = (rest + value).split(/\r?\n/);
    rest = lines.pop();
    for (const line of lines) {
      if (line.startsWith("data:")) data.push(line.slice(5).trimStart());
      else if (line === "" && data.length) {
        yield data.join("\n");
        data = [];
      }
    }
  }
}

// The chunks of an answer; Trouble if it fails or if it ends without its end.
async function* readChunks(response) {
  for await (const data of readEvents(response)) {
    if (data === "[DONE]") return;
    let chunk;
    try {
      chunk = JSON.parse(data);
    } catch {
      throw new Trouble("errorOdd");
    }
    if (chunk.error) throw troubleOf(chunk.error);
    yield chunk;
  }
  throw new Trouble("errorCut");
}
