// Elements: found, made, copied. Text enters the page as text, never as HTML.

const get = (id) => document.getElementById(id);

function make(tag, properties = {}, ...children) {
  const node = document.createElement(tag);
  for (const [name, value] of Object.entries(properties)) {
    if (name in node) node[name] = value;
    else node.setAttribute(name, value);
  }
  node.append(...children);
  return node;
}

// A page that did not come over https, nor from this machine, has no clipboard of its own.
async function copy(text, button) {
  let copied = true;
  try {
    await navigator.clipboard.writeText(text);
  } catch {
    const area = make("textarea", { value: text, className: "unseen" });
    document.body.append(area);
    area.select();
    copied = document.execCommand("copy");
    area.remove();
    button.focus();
  }
  button.textContent = say(copied ? "copied" : "copyFailed");
  speak(button.textContent);
  setTimeout(() => (button.textContent = say("copy")), 1600);
}

function copyButton(text) {
  const button = make("button", { type: "button" }, say("copy"));
  button.addEventListener("click", () => copy(text(), button));
  return button;
}

const calm = matchMedia("(prefers-reduced-motion: reduce)");
const darkSystem = matchMedia("(prefers-color-scheme: dark)");

function isDark() {
  return (document.documentElement.dataset.theme || (darkSystem.matches ? "dark" : "light")) === "dark";
}
