// What a message looks like. Each is drawn anew from its data when that has changed.

const views = new WeakMap(); // from message to {node, paint}

function viewOf(message) {
  if (!views.has(message)) views.set(message, message.role === "user" ? userView(message) : answerView(message));
  return views.get(message);
}

function actionButton(key, act) {
  const button = make("button", { type: "button" }, say(key));
  button.addEventListener("click", act);
  return button;
}

function userView(message) {
  const actions = make("div", { className: "actions" });
  const node = make(
    "article",
    { className: "user" },
    make("div", { className: "text plain-text", dir: "auto" }, message.content),
  );
  node.append(make("div", { className: "foot" }, actions));
  const paint = () => {
    node.setAttribute("aria-label", say("you"));
    const edits = !running && message === messages.findLast((each) => each.role === "user");
    actions.replaceChildren(
      ...(edits ? [actionButton("edit", () => edit(message))] : []),
      copyButton(() => message.content),
    );
  };
  return { node, paint };
}

function answerView(message) {
  const summary = make("summary"),
    thoughts = make("div", { className: "text", dir: "auto" });
  const thinking = make("details", { className: "thinking" }, summary, thoughts);
  const content = make("div", { className: "text", dir: "auto" }),
    calls = make("div"),
    note = make("p", { className: "note" });
  const numbers = make("span"),
    actions = make("div", { className: "actions" });
  const foot = make("div", { className: "foot" }, numbers, actions);
  const node = make("article", { className: "answer" }, thinking, content, calls, note, foot);
  const written = new Markdown(content),
    thought = new Markdown(thoughts);
  let touched = false;
  summary.addEventListener("click", () => (touched = true));
  const paint = () => {
    const { state } = message,
      busy = !["done", "stopped", "failed"].includes(state);
    node.setAttribute("aria-label", say("answer"));
    node.setAttribute("aria-busy", busy);
    thinking.hidden = !message.reasoning.trim();
    if (!touched) thinking.open = state === "thinking";
    const spent = message.thought > 950 ? say("thoughtFor", { s: Math.round(message.thought / 1000) }) : say("thought");
    summary.textContent = state === "thinking" ? say("thinking") : spent;
    thought.update(message.reasoning.trim());
    written.update(message.content.trimStart());
    paintCalls(calls, message);
    note.textContent = noteOf(message);
    note.hidden = !note.textContent;
    note.className = `note${state === "failed" ? " bad" : ""}${busy ? " pulse" : ""}`;
    numbers.textContent = numbersOf(message);
    const last = !running && message === messages.at(-1);
    const retries = last ? [actionButton(state === "failed" ? "retry" : "again", again)] : [];
    actions.replaceChildren(
      ...(busy ? [] : [...retries, ...(message.content ? [copyButton(() => message.content)] : [])]),
    );
  };
  return { node, paint };
}

function noteOf({ state, trouble, finish, content, calls, began }) {
  if (state === "failed") return trouble?.text || say(trouble?.key in WORDS.en ? trouble.key : "errorOdd");
  if (state === "stopped") return say("stopped");
  if (state === "done") return finish === "length" ? say("cut") : content.trim() || calls.length ? "" : say("empty");
  if (state === "thinking" || state === "writing") return "";
  return say(state, { s: Math.floor((performance.now() - began) / 1000) });
}

// How fast it was: the server's own figures once it has told them, until then what has come.
function numbersOf({ timings, first, pieces, state }) {
  if (!timings && (!pieces?.n || state === "failed")) return "";
  const n = timings?.generated_tokens ?? pieces.n;
  const ms = timings?.generated_ms ?? pieces.ms;
  const parts = [say("tokens", { n })];
  if (n > 1 && ms > 0) parts.push(say("rate", { n: count((1000 * n) / ms, n / ms < 0.02 ? 1 : 0) }));
  if (first) parts.push(say("first", { s: count(first / 1000, first < 995 ? 2 : 1) }));
  if (timings?.cached_tokens) parts.push(say("cached", { n: timings.cached_tokens, of: timings.prompt_tokens }));
  return parts.join(" · ");
}

function paintCalls(into, message) {
  const asks = !running && message === messages.at(-1) && message.state === "done";
  message.calls.forEach((call, i) => {
    let card = into.children[i];
    if (!card) {
      card = make(
        "section",
        { className: "call" },
        make("p", { className: "title" }),
        make("pre", { tabIndex: 0 }, make("code")),
      );
      const area = make("textarea", { rows: 2, dir: "auto", value: call.result });
      area.addEventListener("input", () => ((call.result = area.value), keepMessages()));
      card.append(make("label", {}, make("span"), area));
      into.append(card);
    }
    const [title, code, field] = card.children;
    const name = make("code", {}, call.name);
    title.replaceChildren(
      ...say("call", { name: "\n" })
        .split("\n")
        .flatMap((part, j) => (j ? [name, part] : [part])),
    );
    code.textContent = prettyJson(call.arguments);
    field.hidden = !asks && !call.result;
    field.firstChild.textContent = say("result", { name: call.name });
    field.lastChild.readOnly = !asks;
  });
  into.querySelector(":scope > button")?.remove();
  if (asks && message.calls.length) {
    const button = actionButton("sendResults", answer);
    button.className = "main";
    into.append(button);
  }
}

function prettyJson(text) {
  try {
    return JSON.stringify(JSON.parse(text), null, 2);
  } catch {
    return text; // not complete yet, or no JSON
  }
}
