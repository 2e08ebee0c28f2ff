// What screen readers are told: whole sentences, as the tokens of an answer would be a stutter.

const SENTENCE = /[\s\S]*[.!?…。！？؟](?=\s)/;
const EVERY = 1500; // ms

function speak(text) {
  const spoken = get("spoken");
  spoken.append(make("p", {}, text));
  while (spoken.childElementCount > 8) spoken.firstChild.remove();
}

// Given the text of an answer as it grows, and whether it is complete.
function sentenceSpeaker() {
  let said = 0,
    last = 0;
  return (text, complete) => {
    if (!complete && performance.now() - last < EVERY) return;
    last = performance.now();
    const fresh = text.slice(said, said + 4000);
    const part = complete ? fresh : (SENTENCE.exec(fresh)?.[0] ?? "");
    said += part.length;
    const plain = part.replace(/[*_`#|~>]+/g, " ").trim();
    if (plain) speak(plain);
  };
}
