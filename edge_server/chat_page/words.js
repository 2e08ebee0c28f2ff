// What the page says, in the language that is chosen.

const WORDS = JSON.parse(document.getElementById("words").textContent);
let language = "en";

// The text of a key; "one|many" is chosen by n, {name} is filled in.
function say(key, values = {}) {
  const forms = WORDS[language][key].split("|");
  const one = new Intl.PluralRules(language).select(values.n ?? 0) === "one";
  const text = forms.length > 1 && !one ? forms[1] : forms[0];
  return text.replace(/\{(\w+)\}/g, (_, name) =>
    typeof values[name] === "number" ? count(values[name]) : values[name],
  );
}

function count(number, digits = 0) {
  return number.toLocaleString(language, { minimumFractionDigits: digits, maximumFractionDigits: digits });
}

function choose(wanted) {
  language = wanted in WORDS ? wanted : "en";
  document.documentElement.lang = language;
  const other = language === "en" ? "fr" : "en";
  for (const node of document.querySelectorAll("[data-text]")) node.textContent = say(node.dataset.text);
  for (const node of document.querySelectorAll("[data-placeholder]")) node.placeholder = say(node.dataset.placeholder);
  for (const node of document.querySelectorAll("[data-label]")) {
    node.setAttribute("aria-label", say(node.dataset.label));
    if (node.tagName === "BUTTON") node.title = say(node.dataset.label);
  }
  get("language").lang = other; // its label is written in the language that it leads to
}

function ownLanguage() {
  return (navigator.languages ?? []).map((tag) => tag.slice(0, 2).toLowerCase()).find((tag) => tag in WORDS) ?? "en";
}
