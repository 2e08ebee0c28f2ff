// Wiring: which key and which button does what.

function start() {
  readSettings();
  messages = readMessages();
  document.body.classList.toggle("folded", settings.folded === "yes");
  get("show-map").setAttribute("aria-expanded", settings.folded !== "yes");
  wear();
  startMap();
  speakIn(settings.language || ownLanguage());
  toEnd();
  fitBox();
  box.focus({ preventScroll: true });
  meetModel();
}

get("composer").addEventListener("submit", (event) => {
  event.preventDefault();
  if (running) running.abort();
  else send(box.value);
});
box.addEventListener("input", fitBox);
box.addEventListener("keydown", (event) => {
  if (event.key !== "Enter" || event.shiftKey || event.isComposing || event.keyCode === 229) return;
  event.preventDefault();
  send(box.value);
});
document.addEventListener("keydown", (event) => {
  if (event.key !== "Escape" || get("settings").open) return;
  if (running) running.abort();
  else if (edited) {
    edited = null;
    box.value = "";
    fitBox();
  }
});
scroll.addEventListener("scroll", () => atEnd() && (get("latest").hidden = true), { passive: true });
get("latest").addEventListener("click", toEnd);
get("new").addEventListener("click", newChat);
get("model").addEventListener("change", (event) => {
  useModel(known.models.find((each) => each.id === event.target.value));
  keepSettings();
});
get("language").addEventListener("click", () => {
  settings.language = language === "en" ? "fr" : "en";
  keepSettings();
  speakIn(settings.language);
});
get("theme").addEventListener("click", () => {
  const other = isDark() ? "light" : "dark";
  settings.theme = darkSystem.matches === (other === "dark") ? "" : other; // back to where the system leads
  keepSettings();
  wear();
});
get("show-map").addEventListener("click", () => {
  const folded = document.body.classList.toggle("folded");
  settings.folded = folded ? "yes" : "";
  get("show-map").setAttribute("aria-expanded", !folded);
  keepSettings();
});
get("open-settings").addEventListener("click", openSettings);
get("tools-example").addEventListener("click", () => (get("set-tools").value = JSON.stringify(EXAMPLE, null, 2)));
get("settings")
  .querySelector("form")
  .addEventListener("submit", (event) => takeSettings() || event.preventDefault());
darkSystem.addEventListener("change", wear);
addEventListener("pagehide", keepMessages);
start();
