// What is not text: SGR sequences, whose parameters are captured, other escape sequences, and control characters.
const escape = /\x1b\[([\d;]*)m|(?:\x1b\[|\x9b)[ -?]*[@-~]?|\x1b[\]PX^_].*?(?:\x07|\x1b\\|$)|\x1b[ -/]*[0-~]?|[\0-\x08\n-\x1f\x7f-\x9f]/g;
const marks = { 1: 'bold', 2: 'dim', 3: 'italic', 4: 'underline', 7: 'inverse' };
const ends = { 22: ['bold', 'dim'], 23: ['italic'], 24: ['underline'], 27: ['inverse'], 39: ['fg'], 49: ['bg'] };
let style = {}; // marks, and the colours fg and bg; they hold until they are changed, as in a terminal

// rowOf returns an element that shows a line.
export function rowOf(line) {
  const row = document.createElement('div');
  for (const pass of line.split('\r')) { // each replaces the one before, as progress bars do
    if (pass.replace(escape, '')) row.replaceChildren();
    pass.split(escape).forEach((part, n) => {
      if (n % 2) return part === undefined || set(part);
      const span = Object.assign(document.createElement('span'), { textContent: part, className: Object.keys(style).join(' ') });
      ['fg', 'bg'].forEach((layer) => span.style.setProperty(`--${layer}`, style[layer] ?? ''));
      row.append(span);
    });
  }
  row.append('\n');
  return row;
}

function set(parameters) {
  const codes = parameters.split(';').map(Number).values();
  const next = () => codes.next().value;
  for (const code of codes) {
    const layer = code % 60 < 40 ? 'fg' : 'bg';
    if (code === 0) style = {};
    else if (marks[code]) style[marks[code]] = true;
    else if (ends[code]) ends[code].forEach((mark) => delete style[mark]);
    else if (code === 38 || code === 48) style[layer] = next() === 2 ? `rgb(${[next(), next(), next()]})` : indexed(next());
    else if (/^(3|4|9|10)[0-7]$/.test(code)) style[layer] = indexed((code % 10) + (code < 90 ? 0 : 8));
  }
}

function indexed(n) { // one of 256: 16 that style.css has, a cube of 216, and 24 greys
  const level = (unit) => { const digit = Math.floor((n - 16) / unit) % 6; return digit && digit * 40 + 55; };
  return n < 16 ? `var(--c${n})` : `rgb(${n < 232 ? [36, 6, 1].map(level) : Array(3).fill(n * 10 - 2312)})`;
}
