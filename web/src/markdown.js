// Markdown to blocks of clean HTML. A block that has been drawn stays as it is while the answer grows below it.
import createPurifier from "dompurify";
import {Marked} from "marked";

const purifier = createPurifier(window);
const kAllowed = {
  ALLOWED_TAGS: ["a", "b", "blockquote", "br", "button", "code", "del", "div", "em", "h1", "h2", "h3", "h4", "h5", "h6", "hr", "i", "li", "ol",
                 "p", "pre", "s", "span", "strong", "sub", "sup", "table", "tbody", "td", "th", "thead", "tr", "ul"],
  ALLOWED_ATTR: ["href", "class", "start", "type", "align", "target", "rel", "tabindex"],
  ALLOW_DATA_ATTR: false, RETURN_TRUSTED_TYPE: true,
};

const escaped = (text) => text.replace(/[&<>"']/g, (letter) => `&#${letter.charCodeAt(0)};`);
const is_web = (address) => /^(https?:|mailto:)/i.test(address);

const marked = new Marked({gfm: true, breaks: true});
marked.use({
  renderer: {
    // What a model writes as HTML is shown as it was written.
    html: ({text}) => escaped(text),
    code({text, lang}) {
      return `<div class="code"><div class="code-head"><span>${escaped(lang || "text")}</span><button type="button" class="quiet copy">Copy</button></div>` +
             `<pre tabindex="0"><code>${escaped(text)}</code></pre></div>`;
    },
    link({href, tokens}) {
      const text = this.parser.parseInline(tokens);
      return is_web(href) ? `<a href="${escaped(href)}" target="_blank" rel="noopener noreferrer">${text}</a>` : text;
    },
    // Pictures would be fetched from somewhere else, and tell it of this conversation.
    image: ({href, text}) => is_web(href) ? `<a href="${escaped(href)}" target="_blank" rel="noopener noreferrer">${escaped(text || href)}</a>` : escaped(text),
    checkbox: ({checked}) => checked ? "☑ " : "☐ ",
  },
});

// Each block of `text` as {raw, html}; those of `before` are taken over where nothing has changed.
export function blocks_of(text, before = []) {
  const tokens = marked.lexer(text);
  return tokens.map((token, at) => {
    if (before[at]?.raw === token.raw) return before[at];
    return {raw: token.raw, html: purifier.sanitize(marked.parser([token]), kAllowed)};
  });
}
