// The conversation: what was said, what is asked, the answer as it comes.

const scroll = get("scroll"),
  box = get("message");
let messages = [];
let running = null; // what stops the answer that is being made
let edited = null; // the message in whose place the next one goes

function keepMessages() {
  kept.write(
    "conversation",
    messages.map(({ began, pieces, ...rest }) => rest),
  );
}

function paintAll() {
  const log = get("log"),
    nodes = messages.map((each) => viewOf(each).node);
  if (nodes.length !== log.children.length || nodes.some((node, i) => node !== log.children[i]))
    log.replaceChildren(...nodes);
  for (const message of messages) viewOf(message).paint();
  get("welcome").hidden = messages.length > 0;
  document.body.classList.toggle("busy", running !== null);
  get("send").setAttribute("aria-label", say(running ? "stop" : "send"));
  get("send").title = say(running ? "stop" : "send");
}

const atEnd = () => scroll.scrollHeight - scroll.scrollTop - scroll.clientHeight < 60;

function toEnd() {
  scroll.scrollTop = scroll.scrollHeight;
  get("latest").hidden = true;
}

function paint(message) {
  const follows = atEnd();
  viewOf(message).paint();
  if (follows) toEnd();
  else get("latest").hidden = false;
}

// What the model is shown of the messages: two in a row of the user are one, and every call has its result.
function shown() {
  const list = settings.system.trim() ? [{ role: "system", content: settings.system }] : [];
  for (const each of messages) {
    if (each.role === "user" && list.at(-1)?.role === "user") list.at(-1).content += "\n\n" + each.content;
    else if (each.role === "user") list.push({ role: "user", content: each.content });
    else if (each.content || each.calls.length) {
      const calls = each.calls.map(({ id, name, arguments: text }) => ({
        id,
        type: "function",
        function: { name, arguments: text },
      }));
      const thoughts = each.reasoning ? { reasoning_content: each.reasoning } : {};
      list.push({ role: "assistant", content: each.content, ...thoughts, ...(calls.length && { tool_calls: calls }) });
      for (const { id, result } of each.calls) list.push({ role: "tool", tool_call_id: id, content: result });
    }
  }
  return list;
}

function question() {
  const { model, temperature, maxTokens, effort, tools } = settings;
  const body = { messages: shown(), stream: true };
  if (model) body.model = model;
  if (temperature !== "") body.temperature = Number(temperature);
  if (maxTokens !== "") body.max_tokens = Number(maxTokens);
  if (effort && !get("effort").hidden) body.reasoning_effort = effort;
  if (tools.trim() && !get("tools").hidden) body.tools = JSON.parse(tools);
  return body;
}

async function answer() {
  if (running) return;
  const body = question(),
    began = performance.now();
  const model = known.models.find(({ id }) => id === settings.model);
  const message = {
    ...newAnswer(),
    state: model?.loaded === false ? "loading" : "sending",
    began,
    pieces: { n: 0, ms: 0 },
  };
  messages.push(message);
  running = new AbortController();
  const unfollow = followExperts(),
    ticker = setInterval(() => paint(message), 500),
    tell = sentenceSpeaker();
  paintAll();
  toEnd();
  try {
    const waits = (state) => (message.state !== state && speak(say(state, { s: 0 })), (message.state = state));
    const response = await openAnswer(body, running.signal, waits);
    message.state = "reading";
    speak(say("reading", { s: 0 }));
    const painter = painterOf(message);
    for await (const chunk of readChunks(response)) {
      takeIn(message, chunk);
      tell(message.content, false);
      painter();
    }
    if (!message.finish) throw new Trouble("errorCut");
    message.state = "done";
    if (model) model.loaded = true;
    tell(message.content, true);
    speak(say("done", { n: message.timings?.generated_tokens ?? message.pieces.n }));
  } catch (error) {
    const stopped = running.signal.aborted;
    message.state = stopped ? "stopped" : "failed";
    const { key = "errorCut", text = "" } = error instanceof Trouble ? error : {};
    message.trouble = stopped ? null : { key, text };
    speak(noteOf(message));
  } finally {
    clearInterval(ticker);
    running = null;
    unfollow();
    const follows = atEnd();
    paintAll();
    if (follows) toEnd();
    keepMessages();
    showFacts();
  }
}

// One chunk of the stream into the message.
function takeIn(message, chunk) {
  const [choice] = chunk.choices ?? [],
    delta = choice?.delta ?? {},
    now = performance.now();
  const came = delta.reasoning_content || delta.content || delta.tool_calls;
  if (came) {
    message.first ||= now - message.began;
    message.pieces = { n: message.pieces.n + 1, ms: now - message.began - message.first };
  }
  if (delta.reasoning_content) {
    message.reasoning += delta.reasoning_content;
    message.state = "thinking";
  }
  if (delta.content || delta.tool_calls) {
    if (message.state === "thinking") message.thought = now - message.began - message.first;
    message.state = "writing";
    message.content += delta.content ?? "";
  }
  for (const { index, id, function: part } of delta.tool_calls ?? []) {
    const call = (message.calls[index] ??= { id: "", name: "", arguments: "", result: "" });
    call.id += id ?? "";
    call.name += part?.name ?? "";
    call.arguments += part?.arguments ?? "";
  }
  message.finish = choice?.finish_reason ?? message.finish;
  message.timings = chunk.timings ?? message.timings;
}

// Paints soon, and the less often the longer it takes.
function painterOf(message) {
  let timer = 0,
    rest = 60;
  return () => {
    timer ||= setTimeout(() => {
      timer = 0;
      if (message.state === "done" || !running) return;
      const began = performance.now();
      paint(message);
      rest = Math.max(60, 5 * (performance.now() - began));
    }, rest);
  };
}

function send(text) {
  if (running || !text.trim()) return;
  if (edited) messages.splice(messages.indexOf(edited));
  else if (messages.at(-1)?.trouble?.key === "errorLong") messages.splice(-2); // it would be too long again
  edited = null;
  messages.push({ role: "user", content: text.trim() });
  box.value = "";
  fitBox();
  keepMessages();
  answer();
}

function again() {
  messages.pop();
  answer();
  box.focus();
}

function edit(message) {
  edited = message;
  box.value = message.content;
  fitBox();
  box.focus();
}

function newChat() {
  running?.abort();
  messages = [];
  edited = null;
  keepMessages();
  paintAll();
  showFacts();
  box.focus();
}

function fitBox() {
  box.style.height = "auto";
  box.style.height = box.scrollHeight + "px";
}
