// Markdown as elements, block by block, so that of a growing text only the last block is made again.

const ITEM = /^(\s*)([-*+]|\d{1,9}[.)])\s+(.*)$/;
const FENCE = /^\s*(`{3,}|~{3,})\s*([\w+#.-]*)/;
const HEADING = /^ {0,3}#{1,6}\s+(.*?)\s*#*$/;
const RULE = /^ {0,3}(?:(?:-\s*){3,}|(?:\*\s*){3,}|(?:_\s*){3,})$/;
const END = /^\s*(`{3,}|~{3,})\s*$/;
const TABLE = /^\s*\|?\s*:?-+:?\s*(?:\|\s*:?-+:?\s*)*\|?\s*$/;
const LONGEST_BLOCK = 10000; // characters; longer ones, but for code, are cut
const LONGEST_LINE = 1000; // that is looked at closely

class Markdown {
  constructor(into) {
    this.into = into;
    this.blocks = []; // {source, nodes, grow}
  }

  update(source) {
    const sources = splitBlocks(source);
    let same = 0;
    while (same < this.blocks.length && this.blocks[same].source === sources[same]) same++;
    const last = this.blocks[same];
    const grown = same === sources.length - 1 && same === this.blocks.length - 1 && last.grow?.(sources[same]);
    if (grown) last.source = sources[same];
    else {
      for (const block of this.blocks.splice(same)) block.nodes.forEach((node) => node.remove());
      for (const text of sources.slice(same)) {
        const block = makeBlock(text);
        this.blocks.push(block);
        this.into.append(...block.nodes);
      }
    }
  }
}

// Texts between empty lines; those inside of code or of a list do not count.
function splitBlocks(source) {
  const blocks = [],
    lines = source.split("\n");
  let block = [],
    fence = "";
  lines.forEach((line, i) => {
    const mark = matches(FENCE, line)?.[1];
    const ends = fence && matches(END, line)?.[1].startsWith(fence);
    if (mark && !fence && block.length && !ITEM.test(block[0])) blocks.push(block.splice(0).join("\n"));
    if (line.trim() || fence) block.push(line);
    else if (
      block.length &&
      !(ITEM.test(block[0]) && /^(\s{2,}\S|\s*([-*+]|\d{1,9}[.)])\s)/.test(lines[i + 1] ?? ""))
    ) {
      blocks.push(block.splice(0).join("\n"));
    }
    if (ends) fence = "";
    else if (mark && !fence) fence = mark;
    if (ends && FENCE.test(block[0])) blocks.push(block.splice(0).join("\n"));
  });
  if (block.length) blocks.push(block.join("\n"));
  return blocks.flatMap((each) =>
    each.length > LONGEST_BLOCK && !matches(FENCE, each.split("\n", 1)[0]) ? cut(each) : each,
  );
}

function cut(text) {
  const parts = [];
  for (let at = 0, end; at < text.length; at = end) {
    end = at + LONGEST_BLOCK;
    if (/[\uDC00-\uDFFF]/.test(text[end] ?? "")) end++;
    parts.push(text.slice(at, end));
  }
  return parts;
}

function matches(pattern, line) {
  return line.length > LONGEST_LINE ? null : pattern.exec(line);
}

function makeBlock(source) {
  const fence = matches(FENCE, source.split("\n", 1)[0]);
  if (fence) return codeBlock(source, fence);
  const lines = source.split("\n");
  const into = document.createDocumentFragment();
  while (lines.length) addPart(into, lines);
  return { source, nodes: [...into.childNodes] };
}

function codeBlock(source, [, mark, name]) {
  const indent = /^\s*/.exec(source)[0].length;
  const read = (text) => {
    const lines = text.split("\n").slice(1);
    if (lines.length && matches(END, lines.at(-1))?.[1].startsWith(mark)) lines.pop();
    return lines.map((line) => line.slice(Math.min(indent, /^\s*/.exec(line)[0].length))).join("\n");
  };
  let shown = read(source);
  const code = make("code", {}, shown);
  const button = copyButton(() => code.textContent);
  const figure = make("figure", {}, make("figcaption", {}, make("span", {}, name || say("code")), button));
  figure.append(make("pre", { tabIndex: 0 }, code));
  const grow = (longer) => {
    const now = read(longer);
    if (!now.startsWith(shown) || !shown) return false;
    code.firstChild.appendData(now.slice(shown.length));
    shown = now;
    return true;
  };
  return { source, nodes: [figure], grow };
}

// Takes the lines of one element off the front.
function addPart(into, lines, depth = 0) {
  const line = lines[0];
  const fence = matches(FENCE, line);
  if (fence) {
    const end = lines.findIndex((each, i) => i && matches(END, each)?.[1].startsWith(fence[1]));
    into.append(...codeBlock(lines.splice(0, end < 0 ? lines.length : end + 1).join("\n"), fence).nodes);
  } else if (matches(HEADING, line)) {
    addInline(into.appendChild(make("h2")), HEADING.exec(lines.shift())[1]);
  } else if (matches(RULE, line)) {
    lines.shift();
    into.append(make("hr"));
  } else if (line.startsWith(">") && depth < 6) {
    const quoted = take(lines, (each) => each.startsWith(">")).map((each) => each.replace(/^>\s?/, ""));
    const quote = into.appendChild(make("blockquote"));
    while (quoted.length) addPart(quote, quoted, depth + 1);
  } else if (line.includes("|") && matches(TABLE, lines[1] ?? "")) {
    into.append(table(take(lines, (each) => each.includes("|"))));
  } else if (ITEM.test(line)) {
    addList(
      into,
      take(lines, (each) => !matches(FENCE, each) && !matches(HEADING, each)),
    );
  } else {
    const text = take(
      lines,
      (each, i) => !i || !(matches(FENCE, each) || matches(HEADING, each) || ITEM.test(each) || each.startsWith(">")),
    );
    addInline(into.appendChild(make("p")), text.join("\n"));
  }
}

function take(lines, fits) {
  const end = lines.findIndex((line, i) => !fits(line, i));
  return lines.splice(0, end < 0 ? lines.length : Math.max(end, 1));
}

function addList(into, lines) {
  const open = []; // {indent, list, item}, the innermost last
  let text = [];
  const finish = () => open.length && addInline(open.at(-1).item, text.splice(0).join("\n"));
  for (const line of lines) {
    const found = ITEM.exec(line);
    if (!found) {
      if (line.trim()) text.push(line.trim());
      continue;
    }
    finish();
    const [, { length: indent }, mark, rest] = found;
    while (open.length > 1 && indent < open.at(-1).indent) open.pop();
    let level = open.at(-1);
    if (!level || (indent > level.indent + 1 && open.length < 8)) {
      const list = /\d/.test(mark) ? make("ol", { start: parseInt(mark) }) : make("ul");
      (level ? level.item : into).append(list);
      open.push((level = { indent, list }));
    }
    level.item = level.list.appendChild(make("li"));
    text = [rest];
  }
  finish();
}

function table(lines) {
  const cells = (line) =>
    line
      .trim()
      .replace(/^\||\|$/g, "")
      .split("|")
      .slice(0, 50);
  const row = (line, tag) => {
    const made = make("tr");
    for (const cell of cells(line)) addInline(made.appendChild(make(tag)), cell.trim());
    return made;
  };
  const [head, , ...rows] = lines;
  const body = make(
    "table",
    {},
    make("thead", {}, row(head, "th")),
    make("tbody", {}, ...rows.map((each) => row(each, "td"))),
  );
  return make("div", { className: "table", tabIndex: 0 }, body);
}
