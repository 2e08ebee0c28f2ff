// What outlives a reload: conversation and settings, where the browser keeps anything; never a key.

const kept = {
  works: true,
  read(name) {
    try {
      return JSON.parse(localStorage.getItem("moedge." + name));
    } catch {
      return null;
    }
  },
  write(name, value) {
    try {
      localStorage.setItem("moedge." + name, JSON.stringify(value));
      this.works = true;
    } catch {
      this.works = false; // forbidden, or full
    }
  },
};

const settings = {
  system: "",
  temperature: "",
  maxTokens: "",
  effort: "",
  tools: "",
  theme: "",
  language: "",
  model: "",
  folded: "",
};

function readSettings() {
  const found = kept.read("settings") ?? {};
  for (const name of Object.keys(settings)) if (typeof found[name] === "string") settings[name] = found[name];
}

function keepSettings() {
  kept.write("settings", settings);
}

// The messages that were kept; whatever else may stand there is left out.
function readMessages() {
  const text = (value) => (typeof value === "string" ? value : "");
  const found = kept.read("conversation");
  const messages = Array.isArray(found) ? found.filter((each) => ["user", "assistant"].includes(each?.role)) : [];
  return messages.map((each) => {
    if (each.role === "user") return { role: "user", content: text(each.content) };
    const calls = (Array.isArray(each.calls) ? each.calls : []).map((call) => ({
      id: text(call?.id),
      name: text(call?.name),
      arguments: text(call?.arguments),
      result: text(call?.result),
    }));
    const over = ["done", "stopped", "failed"].includes(each.state);
    return {
      ...newAnswer(),
      ...each,
      content: text(each.content),
      reasoning: text(each.reasoning),
      calls,
      state: over ? each.state : "stopped",
    };
  });
}

function newAnswer() {
  return {
    role: "assistant",
    content: "",
    reasoning: "",
    calls: [],
    state: "sending",
    finish: "",
    trouble: null,
    timings: null,
    first: 0,
    thought: 0,
  };
}
