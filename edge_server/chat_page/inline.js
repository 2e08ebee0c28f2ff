// Inside of a paragraph: code, emphasis, links. One pass, as what a model writes may be long and is not trusted.

const MARKS = { "**": "strong", __: "strong", "~~": "del", "*": "em", _: "em" };
const LINK =
  /!?\[([^[\]\n]{0,500})\]\(\s*<?([^()\s<>]{1,2000}(?:\([^()\s<>]{0,200}\)[^()\s<>]{0,200})?)>?(?:\s+"[^"\n]{0,500}")?\s*\)/y;
const BARE = /https?:\/\/[^\s<>"'`)\]]{0,2000}[^\s<>"'`)\].,;:!?*_]/y;
const WORD = /[\p{L}\p{N}_]/u;

function addInline(into, text, depth = 0) {
  let plain = "",
    at = 0;
  const never = new Set(); // marks whose end does not come any more
  const flush = () => {
    plain.split("\n").forEach((line, i) => into.append(...(i ? [make("br")] : []), line));
    plain = "";
  };
  while (at < text.length) {
    const found = depth < 6 && special(text, at, never);
    if (!found) plain += text[at++];
    else {
      if (found.node || found.tag) flush();
      if (found.tag) {
        found.node = make(found.tag);
        addInline(found.node, found.text, depth + 1);
      }
      if (found.node) into.append(found.node);
      else plain += found.text;
      at = found.end;
    }
  }
  flush();
}

// What begins at a place: {text or node or both of tag and text, end}; null where nothing but text does.
function special(text, at, never) {
  const first = text[at];
  if (first === "\\")
    return /[\\`*_~[\]()#+.!<>|-]/.test(text[at + 1] ?? "") ? { text: text[at + 1], end: at + 2 } : null;
  if (first === "`") return inCode(text, at, never);
  if (first === "[" || (first === "!" && text[at + 1] === "["))
    return matched(LINK, text, at, ([all, label, url]) => linkTo(url, label) ?? all);
  if (first === "h" && !WORD.test(text[at - 1] ?? "")) {
    return matched(BARE, text, at, ([url]) => linkTo(url, url));
  }
  const mark = [text.slice(at, at + 2), first].find((each) => each in MARKS);
  if (!mark || never.has(mark)) return null;
  const begin = at + mark.length;
  if (/\s/.test(text[begin] ?? " ") || (first === "_" && WORD.test(text[at - 1] ?? ""))) return null;
  for (let end = text.indexOf(mark, begin + 1); end > 0; end = text.indexOf(mark, end + 1)) {
    const after = text[end + mark.length] ?? "";
    if (
      /\s/.test(text[end - 1]) ||
      (first === "_" && WORD.test(after)) ||
      (mark === "*" && after === "*" && text[end - 1] !== "*")
    )
      continue;
    return { tag: MARKS[mark], text: text.slice(begin, end), end: end + mark.length };
  }
  never.add(mark);
  return null;
}

function inCode(text, at, never) {
  let begin = at;
  while (text[begin] === "`") begin++;
  const mark = text.slice(at, begin);
  let end = never.has(mark) ? -1 : text.indexOf(mark, begin);
  while (end > 0 && (text[end - 1] === "`" || text[end + mark.length] === "`"))
    end = text.indexOf(mark, end + mark.length);
  if (end > 0) return { node: make("code", {}, text.slice(begin, end).trim()), end: end + mark.length };
  never.add(mark);
  return { text: mark, end: begin };
}

function matched(pattern, text, at, use) {
  pattern.lastIndex = at;
  const match = pattern.exec(text);
  if (!match) return null;
  const used = use(match);
  const end = at + match[0].length;
  return typeof used === "string" || used === null ? { text: used ?? match[0], end } : { node: used, end };
}

// A link to the web or to a mailbox, which says where it leads; null for any other.
function linkTo(address, label) {
  let url;
  try {
    url = new URL(address);
  } catch {
    return null;
  }
  if (!["http:", "https:", "mailto:"].includes(url.protocol)) return null;
  const shown = label.includes(url.host) && url.host ? label : `${label} (${url.host || url.pathname})`;
  return make("a", { href: url.href, target: "_blank", rel: "noopener noreferrer nofollow" }, shown);
}
